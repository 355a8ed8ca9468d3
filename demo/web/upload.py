"""An uploaded file, as one of a tab's own."""

import os
import shutil
import tempfile
from pathlib import Path

from demo.web.sessions import TAB
from libs.core.errors import InputError

OWN = "upload-"  # how the names of the folders begin, in those of the tabs, that hold an uploaded file
AGAIN = "expected an uploaded file; upload it again"


class Upload:
    """A file that gradio has put into a folder named by the hash of its content, beside those of the tabs.

    Tabs that upload equal files share that folder. So each takes a link of its own, and at the end removes
    only the file that it has found: a later upload takes the same path.

    Args:
        path: what the browser says; it may be any path.
        root: the folder that holds both.
    """

    def __init__(self, path: str, root: Path) -> None:
        self.path, self._root = Path(path), root
        self._found = self._stat()
        self._own: Path | None = None

    def take(self, folder: Path) -> Path:
        """Link or copy the file into the folder of a tab. Returns: the new path.

        Raises: InputError if it is no uploaded file.
        """
        if self._found is None:
            raise InputError(AGAIN)
        self._own = Path(tempfile.mkdtemp(prefix=OWN, dir=folder)) / self.path.name
        try:
            _link_or_copy(self.path, self._own)
        except FileNotFoundError as error:
            raise InputError(AGAIN) from error
        return self._own

    def remove(self) -> None:
        """Remove the file of the tab, and gradio's unless another upload has replaced it."""
        if self._own is not None:
            shutil.rmtree(self._own.parent, ignore_errors=True)
        now = self._stat()
        if self._found and now and os.path.samestat(self._found, now):
            shutil.rmtree(self.path.parent, ignore_errors=True)

    def shorten(self, text: str) -> str:
        """Leave the name of the file only of its temporary path in a text."""
        return text if self._own is None else text.replace(f"{self._own.parent}{os.sep}", "")

    def _stat(self) -> os.stat_result | None:
        """Which file it is; None if there is none, or if gradio has not put it there."""
        folder = self.path.resolve().parent
        if folder.parent != self._root.resolve() or folder.name.startswith(TAB) or not self.path.is_file():
            return None
        try:
            return self.path.stat()
        except FileNotFoundError:  # another tab has just removed it
            return None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
