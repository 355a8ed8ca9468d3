"""Log of a run: lines on the terminal and in a file, its progress, TensorBoard events."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
from progress.bar import Bar
from torch.utils.tensorboard import SummaryWriter

from libs.core.image_io import write_image

LINE_INTERVAL = 60  # seconds between two lines of progress


class RunLog:
    """Writes lines to the terminal and to `folder`/train.log, TensorBoard's files to `folder`/events.

    The files are created by the first entry, so that a run that cannot start leaves none.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    @cached_property
    def _file(self) -> TextIO:
        """Open until `close`, which is at the end of the run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # File names in a line need not be valid UTF-8.
        return (self._folder / "train.log").open("a", encoding="utf-8", errors="backslashreplace")

    @cached_property
    def _events(self) -> SummaryWriter:
        return SummaryWriter(str(self._folder / "events"))

    def info(self, line: str) -> None:
        """Write one line to the terminal and to the file."""
        self.record(line)
        _print(line, sys.stdout)

    def record(self, line: str) -> None:
        """Write one line to the file only."""
        print(line, file=self._file, flush=True)

    def scalars(self, step: int, **values: float) -> None:
        """Save scalars of an epoch for TensorBoard; '__' in a name becomes '/'."""
        for name, value in values.items():
            self._events.add_scalar(name.replace("__", "/"), value, step)
        self._events.flush()

    def image(self, step: int, name: str, image: np.ndarray, path: Path) -> None:
        """Save an image, (H, W, 3) uint8 RGB, as a file and for TensorBoard."""
        write_image(path, image)
        self._events.add_image(name, image, step, dataformats="HWC")
        self._events.flush()

    def close(self) -> None:
        """Close the file and the events."""
        for opened in ("_events", "_file"):
            if opened in vars(self):
                getattr(self, opened).close()


class SilentLog(RunLog):
    """The log of a process that is not the main one: it drops everything."""

    def __init__(self) -> None:
        """Open no files."""

    def info(self, line: str) -> None:
        """Drop the line."""

    def record(self, line: str) -> None:
        """Drop the line."""

    def scalars(self, step: int, **values: float) -> None:
        """Drop the values."""

    def image(self, step: int, name: str, image: np.ndarray, path: Path) -> None:
        """Drop the image."""

    def close(self) -> None:
        """There is nothing to close."""


class Progress:
    """Shows how far a run has come: a bar per section on a terminal, elsewhere one line per minute on stderr.

    A run has sections, such as epochs or videos, one after the other. The time left is that of the whole run.
    A line looks like this:
        epoch 3/240: step 120 of 4000, loss 0.5432, 1.52 steps per second, 7 days, 4:02:10 left

    Args:
        title: begins each line, followed by the name of the section.
        total: units to be done in all sections; 0 if unknown, then no time left is shown.
        unit: what is counted, in the singular.
        record: gets each line as well, on a terminal too, for example to write it into a file.
        shown: False shows and records nothing, for all processes but the main one.
        clock: seconds; a parameter so that tests need not wait.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "step",
        *,
        record: Callable[[str], None] = lambda line: None,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title = title
        self._total = total
        self._unit = unit
        self._record = record
        self._shown = shown
        self._clock = clock
        self._started = clock()
        self._count = 0  # units done since the start
        self._later = total  # units of the sections to come
        self._last_line = (self._started, 0)  # time and count of the last line
        self._label = ""
        self._done = 0  # units done in the section, those of an earlier run included
        self._section_total = 0
        self._bar: Bar | None = None

    @contextmanager
    def section(self, name: str, total: int, done: int = 0) -> Iterator[None]:
        """Count what is done in the block as one section.

        Args:
            total: units of the section, 0 if unknown; done: those that an earlier run has done.
        """
        self._label = f"{self._title} {name}"
        self._done = done
        self._section_total = total
        self._later -= total - done
        on_terminal = self._shown and sys.stderr.isatty()
        if on_terminal and total:  # a bar needs a length
            suffix = "%(index)d/%(max)d  %(eta_td)s  %(note)s"
            self._bar = Bar(self._label, max=total - done, suffix=suffix, note="")
        try:
            yield
        finally:
            if self._bar:
                self._bar.finish()
                self._bar = None

    def advance(self, note: str = "") -> None:
        """One unit is done; `note` is shown with it."""
        self._count += 1
        self._done += 1
        if self._bar:
            self._bar.note = note
            self._bar.next()
        now = self._clock()
        if self._shown and now - self._last_line[0] >= LINE_INTERVAL:
            line = self._line(now, note)
            self._last_line = (now, self._count)
            self._record(line)
            if not self._bar:
                _print(line, sys.stderr)

    def _line(self, now: float, note: str) -> str:
        """The current state in one line."""
        of_total = f" of {self._section_total}" if self._section_total else ""
        parts = [f"{self._label}: {self._unit} {self._done}{of_total}", *([note] if note else [])]
        last_time, last_count = self._last_line
        speed = (self._count - last_count) / (now - last_time)
        parts.append(f"{speed:.2f} {self._unit}s per second")
        if self._total:
            # The speed is that of the last minute, to show changes. The time left is estimated from the whole
            # run so far, which includes validation, saving and slow phases.
            units_left = max(self._section_total - self._done, 0) + max(self._later, 0)
            seconds_left = units_left * (now - self._started) / self._count
            parts.append(f"{timedelta(seconds=round(seconds_left))} left")
        return ", ".join(parts)


def _print(line: str, stream: TextIO) -> None:
    """Print a line at once, even if nobody reads the stream any more.

    At Ctrl-C `| tee` ends before the run, which must still save its state.
    """
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
