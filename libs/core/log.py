"""What a run tells: lines on the terminal and in a file, a progress bar, TensorBoard events."""

import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from progress.bar import Bar
from torch.utils.tensorboard import SummaryWriter

from libs.core.image_io import write_image

EVERY = 60  # seconds between lines where there is no terminal


class RunLog:
    """Lines to the terminal and to `folder`/train.log, numbers and pictures to TensorBoard files in `folder`/events."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "train.log", "a", encoding="utf-8", errors="backslashreplace")
        self._events = SummaryWriter(str(folder / "events"))

    def info(self, line: str) -> None:
        """One line, on the terminal and in the file."""
        print(line, file=self._file, flush=True)
        try:
            print(line, flush=True)
        except BrokenPipeError:  # `| tee` has ended, as it does at Ctrl-C; the run is not over
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def scalars(self, step: int, **values: float) -> None:
        """Scalars for TensorBoard at this epoch or step; '__' in a name becomes '/'."""
        for name, value in values.items():
            self._events.add_scalar(name.replace("__", "/"), value, step)
        self._events.flush()

    def image(self, step: int, name: str, picture: np.ndarray, path: Path) -> None:
        """(H, W, 3) uint8 RGB, as a file and for TensorBoard."""
        write_image(path, picture)
        self._events.add_image(name, picture, step, dataformats="HWC")
        self._events.flush()

    def close(self) -> None:
        """Finish both files."""
        self._events.close()
        self._file.close()


class SilentLog(RunLog):
    """The log of a process that leaves talking to another."""

    def __init__(self) -> None:
        """Open nothing."""

    def info(self, line: str) -> None:
        """Nothing."""

    def scalars(self, step: int, **values: float) -> None:
        """Nothing."""

    def image(self, step: int, name: str, picture: np.ndarray, path: Path) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Progress:
    """A bar on a terminal; elsewhere a line a minute, so that log files stay readable."""

    def __init__(self, label: str, total: int):
        first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes
        shown = sys.stderr.isatty() and total > 0 and first
        self._head, self._done, self._due = (
            f"{label}: ",
            0,
            time.monotonic() + EVERY if first and not shown else math.inf,
        )
        self._of = f" of {total}" if total else ""
        self._bar = (
            Bar(label, max=total, suffix="%(index)d/%(max)d  %(eta_td)s  %(note)s", note="")
            if shown
            else None
        )

    def advance(self, note: str = "") -> None:
        """One piece of work is done; `note` stands behind the bar."""
        self._done += 1
        if self._bar:
            self._bar.note = note
            self._bar.next()
        elif time.monotonic() > self._due:
            self._due = time.monotonic() + EVERY
            print(
                f"{self._head}{self._done}{self._of} done{note and ', '}{note}", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        """Leave the bar's line."""
        if self._bar:
            self._bar.finish()
