"""Run the scripts in tests: in this process, in a fork of it, or in a new Python process.

`run_in_process` is the fastest, because all imports are there already; use it unless the test is about a
process. `ForkedScript` is for signals, kills, memory and limits, `ScriptProcess` for a new interpreter.
"""

import faulthandler
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Result(NamedTuple):
    """Exit code (128 + n after signal n) and what was printed."""

    code: int
    out: str
    err: str

    def check_success(self, *warned: str) -> None:
        """Expect exit code 0 and these words in the warnings."""
        assert self.code == 0, self
        assert "Traceback" not in self.err
        for word in warned:
            assert word in self.err, self.err

    def check_error(self, *named: str) -> None:
        """Expect exit code 2, no traceback, and exactly one line of error, which contains these words."""
        assert self.code == 2, self
        lines = self.err.splitlines()
        assert all(line.startswith(("error: ", "warning: ")) for line in lines), self.err
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and len(errors[0]) < 2500, self.err
        for word in named:
            assert word in errors[0], errors[0]


def run_in_process(script: str | Path, *arguments: object, cwd: Path = ROOT, **keys: object) -> Result:
    """Run a script (or a module such as 'dataset.submission') in this process, from start to end.

    Args:
        script: path below the repository's root, or the name of a module.
        keys: config keys, added to the command line as KEY VALUE pairs.
    """
    out, err = StringIO(), StringIO()
    # torch replaces the handler of SIGCHLD once only, and a script that fails resets it
    on_child = signal.getsignal(signal.SIGCHLD)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("default")  # each warning is shown once, as in a new process
        patch.setattr(warnings, "showwarning", warnings.showwarning)  # the scripts replace both
        patch.setattr(threading, "excepthook", threading.excepthook)
        patch.setattr(sys, "argv", _command(script, arguments, keys))
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(cwd)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                _run(script)
        except SystemExit as end:
            return Result(int(end.code or 0), out.getvalue(), err.getvalue())
        finally:
            signal.signal(signal.SIGCHLD, on_child)
    return Result(0, out.getvalue(), err.getvalue())


class ForkedScript:
    """A script that runs in a fork of this process, side by side with the test.

    Args:
        before: called in the fork before the script starts, for example to limit its resources.
        keys: config keys, as for `run_in_process`.
    """

    def __init__(
        self,
        script: str | Path,
        *arguments: object,
        before: Callable[[], object] = lambda: None,
        **keys: object,
    ) -> None:
        import_script(script)
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by `wait`
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            self._run_child(script, _command(script, arguments, keys), before)

    def _run_child(self, script: str | Path, command: list[str], before: Callable[[], object]) -> None:
        code = 99
        try:
            os.setsid()
            os.dup2(self._out.fileno(), 1)
            os.dup2(self._err.fileno(), 2)
            sys.stdin = open(os.devnull)  # noqa: SIM115  open as long as the process lives
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            faulthandler.enable(sys.stderr)
            os.chdir(ROOT)
            sys.argv = command
            before()
            try:
                _run(script)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)  # without pytest's own clean-up

    def send(self, number: int) -> None:
        """Send a signal to the script and its loader processes, as Ctrl-C, timeout and torchrun do."""
        os.killpg(self.pid, number)

    def is_running(self) -> bool:
        """Whether it has not ended yet; its exit code stays for `wait`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self, seconds: float = 240) -> Result:
        """Wait for its end; if it hangs, end it by SIGABRT, which prints the stacks of its threads."""
        end = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGABRT)
                break
            time.sleep(0.01)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        printed = []
        for file in (self._out, self._err):
            with file:
                file.seek(0)
                printed.append(file.read())
        return Result(128 - code if code < 0 else code, *printed)


class ScriptProcess:
    """A script in a new Python process, side by side with the test.

    Args:
        env: environment variables that it gets beside those of this process.
        keys: config keys, as for `run_in_process`.
    """

    def __init__(
        self,
        script: str | Path,
        *arguments: object,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        **keys: object,
    ) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": ""}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *_command(script, arguments, keys)[1:]],
            cwd=cwd,
            env={**os.environ, **quiet, **(env or {})},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once by SIGKILL; its loader processes notice and end themselves."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = 240) -> Result:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=seconds)
        return Result(self.process.returncode, out, err)


@cache
def import_script(script: str | Path) -> None:
    """Import what a script imports, so that each fork of this process has it already."""
    if not Path(script).is_absolute():  # a script of the repository, not one that a test has written
        runpy.run_path(str(ROOT / script), run_name="imported")


def _run(script: str | Path) -> None:
    if Path(script).suffix == ".py":
        runpy.run_path(str(ROOT / script), run_name="__main__")
    else:
        runpy.run_module(str(script), run_name="__main__")


def _command(script: str | Path, arguments: tuple[object, ...], keys: dict[str, object]) -> list[str]:
    pairs = [str(word) for pair in keys.items() for word in pair]
    return [str(script), *map(str, arguments), *pairs]


def start_group(
    script: str | Path,
    count: int,
    *arguments: object,
    before: Callable[[int], object] = lambda rank: None,
    **keys: object,
) -> list[ForkedScript]:
    """Start a script in several processes that find each other, as torchrun does.

    Args:
        before: called in each process with its rank before the script starts.
        keys: config keys, as for `run_in_process`.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def prepare(rank: int) -> None:
        os.environ.update(group, RANK=str(rank), LOCAL_RANK=str(rank))
        before(rank)

    return [ForkedScript(script, *arguments, before=partial(prepare, r), **keys) for r in range(count)]
