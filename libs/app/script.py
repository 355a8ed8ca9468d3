"""How scripts start and end: their config, signals, and one clear line for every error that is not a bug."""

import errno
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from libs.app.config import parse_arguments
from libs.core.distributed import is_first_on_machine
from libs.core.errors import LOADER_DIED, InputError

MAX_LINE = 2000  # characters of a message
MAX_REASON = 120  # characters of torch's own message in ours

MEMORY_ADVICE = (
    "for long videos set memory_frames 20; else lower input_size or max_size, in training sampled_frames "
    "or train_batch; `amp bf16` and `grad_checkpoint True` save memory as well"
)
PEER_ENDED = (
    "another process of this run has ended, and says why unless it was killed; nothing that is complete is "
    "lost: run again, test.py with `skip_done True`, train.py with `resume auto`"
)
SHARED_MEMORY_ADVICE = (
    "shared memory (/dev/shm) is full; lower workers or train_batch, or enlarge it, in Docker with --shm-size"
)
TORCH_ERRORS = {  # part of a RuntimeError's text -> message; torch has no classes for these
    "can't allocate memory": f"out of memory; {MEMORY_ADVICE}",
    "unable to allocate shared memory": SHARED_MEMORY_ADVICE,
    "DataLoader worker (pid": LOADER_DIED,
    "Connection closed by peer": PEER_ENDED,
    "Connection reset by peer": PEER_ENDED,
    "Broken pipe": PEER_ENDED,
}
OS_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EACCES: "check its permissions",
    errno.EFBIG: "raise the limit on file sizes",
}


class Stopped(BaseException):
    """The script must end because of a signal. (Not an Exception, so that no error handler catches it.)"""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SignalHandler:
    """Raises Stopped on SIGINT or SIGTERM; while deferred, records the signal in `requested` instead.

    A second signal raises Stopped in any case. A context manager: at its end, the previous handlers are back.

    Args:
        hangup: so, too, on the first SIGHUP, which closing a terminal sends; further ones are ignored, as the
            shell and the terminal send one each. Under nohup, and where there is no SIGHUP, it does nothing.
    """

    def __init__(self, *, hangup: bool = False) -> None:
        self.requested: int | None = None
        self._deferred = False
        self._hangup = getattr(signal, "SIGHUP", None) if hangup else None

    def __enter__(self) -> "SignalHandler":
        numbers = [signal.SIGTERM, signal.SIGINT]
        if self._hangup is not None and signal.getsignal(self._hangup) != signal.SIG_IGN:
            numbers.append(self._hangup)
        self._previous = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """From now on, only record signals; the caller checks `requested`."""
        self._deferred = True

    def release(self) -> None:
        """End `defer`.

        Raises: Stopped if a signal came meanwhile.
        """
        self._deferred = False
        if self.requested is not None:
            raise Stopped(self.requested)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Suspend `defer` for a block that may end at any point.

        Raises: Stopped on a signal, at once if one came before the block.
        """
        self.release()
        try:
            yield
        finally:
            self.defer()

    def _handle(self, number: int, _: object) -> None:
        if number == self._hangup:
            signal.signal(number, signal.SIG_IGN)
        is_second = self.requested is not None
        self.requested = number
        if is_second or not self._deferred:
            raise Stopped(number)


def run_script(
    main: Callable[[CfgNode, SignalHandler], None], description: str, default_cfg: Path, demo: bool = False
) -> None:
    """Read the config from the command line and call a script's `main` with it.

    Args:
        demo: keys that are not given take the demo's defaults.
    Exit codes: 0; 2 for an error in the input, reported in one line (with `debug True`, after its traceback);
    130 after SIGINT, 143 after SIGTERM.
    """
    debug = False

    def run() -> None:
        """Parse and run; tell the error handler about the key `debug` as soon as it is known."""
        nonlocal debug
        with SignalHandler() as signals:
            with _printed_once():
                cfg = parse_arguments(description, default_cfg, demo=demo)
            debug = cfg.debug
            main(cfg, signals)

    run_with_error_messages(run, lambda: debug)


def run_with_error_messages(run: Callable[[], None], debug: Callable[[], bool] = lambda: False) -> None:
    """Call `run`; report an error that is not a bug in one line and exit with code 2. Bugs keep a traceback.

    Args:
        debug: asked when an error is reported: whether to print its traceback as well.
    """
    warnings.showwarning = _show_warning
    threading.excepthook = _show_thread_error
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a notebook it is something else
        # File names need not be valid UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        run()
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        message = error_message(error)
        if not message:
            raise
        if debug():
            traceback.print_exc()
        _print_line("error", message)
        sys.exit(2)
    except (Stopped, KeyboardInterrupt) as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        if is_first_on_machine():
            print("interrupted" if number == signal.SIGINT else "terminated", file=sys.stderr)
        sys.exit(128 + number)  # the shell's code for a program that a signal ended
    finally:
        _kill_loader_processes()


def run_as_process(command: Sequence[str]) -> int:
    """Run a script of this project in a process of its own. Returns: its exit code.

    SIGINT, SIGTERM and SIGHUP are passed on: the script saves and ends, a second signal ends it at once.
    Other signals, such as Ctrl-Z, do not reach it. (`subprocess.run` kills it 0.25 seconds after Ctrl-C.)

    Raises: Stopped, after the script has ended.
    """
    stopped: Stopped | None = None
    with SignalHandler(hangup=True) as signals:
        signals.defer()  # until there is a script to pass a signal on to
        # In a session of its own it gets a signal from here alone, not a second one from the terminal.
        with subprocess.Popen(command, start_new_session=True) as script:
            wait: Callable[[], object] = signals.release
            while script.returncode is None:
                try:
                    wait()
                except Stopped as stop:
                    stopped = stop
                    script.send_signal(signal.SIGINT if stop.number == signal.SIGINT else signal.SIGTERM)
                wait = script.wait
    if stopped is not None:
        raise stopped
    return script.returncode


@contextmanager
def _printed_once() -> Iterator[None]:
    """Run a block that does the same in all processes of a machine, of which only the first prints."""
    if is_first_on_machine():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            sys.exit(2)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the line of code that gave it."""
    _print_line("warning", str(message))


def _show_thread_error(error: threading.ExceptHookArgs) -> None:
    """Report an error in a thread, such as TensorBoard's on a full disk; the run itself continues."""
    _print_line("warning", f"{error.exc_type.__name__}: {error.exc_value}")


def _kill_loader_processes() -> None:
    """Kill the processes of a loader that did not finish its epoch.

    They ignore SIGTERM, so Python would wait for them forever at exit.
    """
    running = multiprocessing.active_children()
    if running:
        # torch's handler would report their end as an error.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in running:
        process.kill()


def _print_line(kind: str, text: str) -> None:
    """Print `text` as a single line of bounded length, even if parts of it come from a damaged file."""
    line = " ".join(text.splitlines())
    if len(line) > MAX_LINE:
        line = f"{line[:MAX_LINE]} ..."
    print(f"{kind}: {line}", file=sys.stderr)


def error_message(error: BaseException) -> str:
    """Return the one line that is printed for an error; empty for an error that is a bug."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        reason = " ".join(str(error).split())[:MAX_REASON]
        return f"out of memory ({reason}); {MEMORY_ADVICE}"
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename or "a file that was being written or read"
        return f"{name}: {os.strerror(error.errno)}; {OS_ADVICE.get(error.errno, 'check the path')}"
    if isinstance(error, RuntimeError):
        return next((message for part, message in TORCH_ERRORS.items() if part in str(error)), "")
    return str(error) if isinstance(error, InputError | OSError) else ""
