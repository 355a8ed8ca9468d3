"""Run a loop in a thread that can be stopped between two of its steps, and waited for."""

import threading
import traceback
from collections.abc import Callable, Iterator

from demo.web.notices import collect_warnings
from libs.app.script import error_message

BUG = "an error in the program, see the terminal"


class BackgroundRun:
    """At most one loop at a time, given as an iterator of which each item is a step.

    Args:
        tell: called at the end of a loop with its error, '' if there was none, and its warnings.
    """

    def __init__(self, tell: Callable[[str, list[str]], None]) -> None:
        self._tell = tell
        self.steps = 0  # of all loops so far; grows once more when a loop has ended
        self.stopping = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = True

    @property
    def running(self) -> bool:
        """Whether a loop has not ended yet."""
        return not self._ended

    def start(self, loop: Iterator[object]) -> None:
        """Run a loop. The caller makes sure that none is running."""
        self.stopping, self._ended = False, False
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the loop end after the step that it is in, and wait for that."""
        self.stopping = True
        if self._thread is not None:
            self._thread.join()

    def wait(self, steps: int, seconds: float) -> None:
        """Wait until there were more steps than `steps`, or for some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.steps > steps or self._ended, seconds)

    def _run(self, loop: Iterator[object]) -> None:
        problem = ""
        with collect_warnings() as warned:
            try:
                for _ in loop:
                    self._count()
                    if self.stopping:
                        break
            except Exception as error:
                message = error_message(error)
                if not message:
                    traceback.print_exc()
                problem = message or BUG
        self._tell(problem, warned)
        self._ended = True
        self._count()

    def _count(self) -> None:
        with self._changed:
            self.steps += 1
            self._changed.notify_all()
