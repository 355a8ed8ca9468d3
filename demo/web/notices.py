"""Collect the warnings of one thread, to show them on the page of the tab that caused them."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_local = threading.local()


def install() -> None:
    """Let `collect_warnings` work from now on; other warnings are printed as before.

    The filters of warnings hold for all threads, so this is done once for the process.
    """
    show = warnings.showwarning
    warnings.simplefilter("always", UserWarning)

    def keep(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        """Give a warning to the block of its thread, if there is one."""
        lines = getattr(_local, "lines", None)
        if lines is None:
            show(message, category, *place, **more)
        elif str(message) not in lines:
            lines.append(str(message))

    warnings.showwarning = keep


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Yield a list that gets the warnings of this thread, each once, while the block runs."""
    _local.lines = []
    try:
        yield _local.lines
    finally:
        _local.lines = None
