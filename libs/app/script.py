"""How scripts start and end: their config, one line for what is wrong outside the code, and what signals do."""

import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from yacs.config import CfgNode

from libs.app.config import parse_arguments
from libs.core.errors import LOADER_DIED, InputError

MEMORY_ADVICE = "lower input_size, max_size, memory_frames or sampled_frames and train_batch; amp bf16 and grad_checkpoint True need less too"
LONGEST_LINE = 2000  # characters

FROM_TORCH = {  # what a RuntimeError says -> what the user is told
    "can't allocate memory": f"out of memory; {MEMORY_ADVICE}",
    "unable to allocate shared memory": "no room in shared memory (/dev/shm); lower workers or train_batch, or give more, in Docker by --shm-size",
    "DataLoader worker (pid": LOADER_DIED,
}


class Stopped(BaseException):
    """A signal asked the script to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SignalHandler:
    """Turns SIGTERM and SIGINT into Stopped: at once, or, between `defer` and `release`, into a wish that `requested` tells of.

    A second signal ends a script that holds, too. A context manager, which gives the signals back.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False

    def __enter__(self) -> "SignalHandler":
        self._before = {
            number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Leave it to the caller to look at `requested`."""
        self._deferred = True

    def release(self) -> None:
        """Raises: Stopped where it was wanted meanwhile."""
        self._deferred = False
        if self.requested is not None:
            raise Stopped(self.requested)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within a block that may be broken off.

        Raises: Stopped at once where it was wanted before.
        """
        self.release()
        try:
            yield
        finally:
            self.defer()

    def _take(self, number: int, _: object) -> None:
        again, self.requested = self.requested is not None, number
        if again or not self._deferred:
            raise Stopped(number)


def run_script(
    main: Callable[[CfgNode, SignalHandler], None], description: str, default_cfg: Path, demo: bool = False
) -> None:
    """Read the config from the command line and run a script's main with it.

    Args:
        demo: whether keys that are not given take the demo's defaults.
    Exit codes: 0; 2 for what is wrong with an input, in one line (a traceback only with `debug True`); 130 and 143 after
    SIGINT and SIGTERM.
    """
    debug = False

    def run() -> None:
        """With what the config says about tracebacks."""
        nonlocal debug
        with SignalHandler() as signals:
            cfg = parse_arguments(description, default_cfg, demo=demo)
            debug = cfg.debug
            main(cfg, signals)

    run_with_error_messages(run, lambda: debug)


def run_with_error_messages(run: Callable[[], None], debug: Callable[[], bool] = lambda: False) -> None:
    """Run, and turn what is wrong outside the code into one line and exit code 2; `debug`: whether to show where it arose."""
    warnings.showwarning = lambda message, *_, **__: _tell("warning", str(message))
    threading.excepthook = lambda thread: _tell(
        "warning", f"{thread.exc_type.__name__}: {thread.exc_value}"
    )  # such as TensorBoard's on a full disk
    if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's is not
        sys.stdout.reconfigure(errors="backslashreplace")  # file names that are not UTF-8
    try:
        run()
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        line = _line(error)
        if not line:
            raise
        if debug():
            traceback.print_exc()
        _tell("error", line)
        sys.exit(2)
    except (Stopped, KeyboardInterrupt) as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        print("interrupted" if number == signal.SIGINT else "terminated", file=sys.stderr)
        sys.exit(128 + number)
    finally:
        _end_workers()


def _end_workers() -> None:
    """Kill the processes of a loader that was left in the middle: they ignore SIGTERM, so Python would wait for them without end."""
    left = multiprocessing.active_children()
    if left:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would take their end for an accident
    for process in left:
        process.kill()


def _tell(kind: str, text: str) -> None:
    """One line, whatever a file has put into it."""
    line = " ".join(text.splitlines())
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."
    print(f"{kind}: {line}", file=sys.stderr)


def _line(error: BaseException) -> str:
    """What to tell; nothing of a RuntimeError that is a error of the code."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return f"out of memory ({' '.join(str(error).split())[:120]}); {MEMORY_ADVICE}"
    if isinstance(error, OSError) and error.errno is not None:
        advice = {
            errno.ENOSPC: "free some space",
            errno.EACCES: "check its permissions",
            errno.EFBIG: "raise the limit on file sizes",
        }
        return f"{error.filename or 'a file that was being written or read'}: {os.strerror(error.errno)}; {advice.get(error.errno, 'check the path')}"
    if isinstance(error, RuntimeError):  # torch has no classes for these
        return next((line for signals, line in FROM_TORCH.items() if signals in str(error)), "")
    return str(error)
