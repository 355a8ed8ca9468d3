"""A script in a process of its own that need not import anything anew: it is forked off this one."""

import ctypes
import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class End(NamedTuple):
    """Exit code (128 + n after signal n), and what was printed."""

    code: int
    out: str
    err: str


class Fork:
    """A script that runs beside this process. `before` is called in it first, to make its world worse."""

    def __init__(self, *arguments: str, before: Callable[[], object] = lambda: None) -> None:
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.pid = os.fork()
        if self.pid == 0:
            self._child([str(argument) for argument in arguments], before)

    def _child(self, arguments: list[str], before: Callable[[], object]) -> None:
        code = 99
        try:
            os.setsid()
            os.dup2(self.out.fileno(), 1)
            os.dup2(self.err.fileno(), 2)
            sys.stdin, sys.stdout, sys.stderr = (
                open(os.devnull),
                os.fdopen(1, "w", closefd=False),
                os.fdopen(2, "w", closefd=False),
            )
            os.chdir(ROOT)
            sys.argv = arguments
            before()
            try:
                runpy.run_path(arguments[0], run_name="__main__")
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def send(self, number: int) -> None:
        """A signal to it and its workers."""
        os.killpg(self.pid, number)

    def wait(self) -> End:
        """Its end."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        for file in (self.out, self.err):
            file.seek(0)
        return End(128 - code if code < 0 else code, self.out.read(), self.err.read())


def run(*arguments: str, before: Callable[[], object] = lambda: None) -> End:
    """From start to end."""
    return Fork(*arguments, before=before).wait()


def small_disk(size: int) -> Callable[[], object]:
    """No file may grow beyond so many bytes (what a full disk and a quota look like)."""

    def limit() -> None:
        """As the operating system does, with an error instead of a signal."""
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def bound_by_permissions() -> None:
    """Give up what lets root read and write everywhere: CAP_DAC_OVERRIDE (bit 1) and CAP_DAC_READ_SEARCH (bit 2), see capset(2)."""
    libc, header, sets = (
        ctypes.CDLL(None, use_errno=True),
        (ctypes.c_uint32 * 2)(0x20080522, 0),
        (ctypes.c_uint32 * 6)(),
    )
    assert libc.capget(header, sets) == 0
    for i in range(3):  # effective, permitted, inheritable
        sets[i] &= ~0b110
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
