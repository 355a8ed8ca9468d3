"""The sessions of all tabs, by the key that the browser's tab has; each has a folder of its own."""

import tempfile
import threading
from pathlib import Path

from demo.web.session import Session
from libs.app.segmenter import Segmenter
from libs.core.errors import InputError

MOST_TABS = 16


class Sessions:
    """Creates a session for each tab, and removes it with all its files when the tab is closed.

    Args:
        segmenter: that has seen no frame; all tabs share its network.
        folder: of temporary files.
    """

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self.folder = folder
        self._segmenter = segmenter
        self._computing = threading.Lock()
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def of(self, key: str) -> Session:
        """Return the session of a tab, a new one if it has none.

        Raises: InputError if too many tabs are open.
        """
        with self._lock:
            if key not in self._sessions:
                if len(self._sessions) >= MOST_TABS:
                    raise InputError(f"{MOST_TABS} tabs are open; close one and reload the page")
                folder = Path(tempfile.mkdtemp(prefix="tab-", dir=self.folder))
                self._sessions[key] = Session(self._segmenter.copy, folder, self._computing)
            return self._sessions[key]

    def close(self, key: str) -> None:
        """Stop the session of a tab and remove its files."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """Do so for all tabs."""
        for key in list(self._sessions):
            self.close(key)
