"""Validation masks: written into the folder where test.py writes, as the original's training did."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from libs.core.errors import FolderBusyError
from libs.core.structures import Video
from libs.evaluation.evaluator import Writer
from libs.evaluation.results import ResultFolder
from libs.training.distributed import Processes


@contextmanager
def validation_writer(path: Path, videos: list[Video], processes: Processes) -> Iterator[Writer | None]:
    """Lock the result folder and yield what writes a mask into it; None where another run holds the lock.

    A training run must not end because test.py is at work, so a busy folder is only warned of. Completion records of
    these videos, which no longer hold, are removed first.

    Args:
        processes: those that validate together; the main one holds the lock for all.
    """
    folder = ResultFolder(path, fingerprint="")
    with ExitStack() as held:
        free = True
        if processes.is_main:
            try:
                held.enter_context(folder.locked())
            except FolderBusyError as error:
                warnings.warn(f"{error}; the masks of this validation are not written", stacklevel=3)
                free = False
        free = processes.gather(free)[0]
        if free:
            folder.start(videos)
        yield folder.write if free else None
        processes.gather(None)  # the lock is held until the slowest process has written its last mask
