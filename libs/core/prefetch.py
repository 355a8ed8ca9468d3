"""Background threads with bounded queues: `prefetch` reads ahead, `AsyncWriter` writes behind."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END = object()
PATIENCE = (
    10  # seconds to wait for a thread after an error; it is a daemon, so it does not keep the process alive
)


def prefetch(items: Iterable[T], depth: int = 4) -> Iterator[T]:
    """Yield the items in order while a thread prepares up to `depth` more; its errors are raised here."""
    ready: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def work() -> None:
        """What the thread does."""
        try:
            for item in items:
                if not _put(ready, (item, None), stopped):
                    return
            _put(ready, (_END, None), stopped)
        except BaseException as error:  # handed over, not swallowed
            _put(ready, (_END, error), stopped)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join(PATIENCE)


class AsyncWriter(Generic[T]):
    """Calls `consume` for each item, in order, in a thread. At the end of its `with` block all are consumed.

    An error in `consume` is raised at the next `put`, or at the end.
    """

    def __init__(self, consume: Callable[[T], None], depth: int = 4) -> None:
        self._consume = consume
        self._error: BaseException | None = None
        self._queue: queue.Queue = queue.Queue(depth)
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def put(self, item: T) -> None:
        """Hand over an item; wait while `depth` of them are in the queue already."""
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def __enter__(self) -> "AsyncWriter[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._queue.put(_END)
            self._thread.join()
            if self._error is not None:
                raise self._error
        else:
            # A signal may have interrupted `put` while it held the queue's lock: do not wait on it for ever.
            self._abandoned.set()
            self._thread.join(PATIENCE)

    def _work(self) -> None:
        while (item := self._next()) is not _END:
            # After an error, items are only taken from the queue, so that `put` does not wait for ever.
            if self._error is None:
                try:
                    self._consume(item)
                except BaseException as error:  # `put` raises it in the other thread
                    self._error = error

    def _next(self) -> Any:
        """The next item; _END also if the block has failed and the queue is empty."""
        while True:
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._abandoned.is_set():
                    return _END


def _put(target: queue.Queue, item: object, stopped: threading.Event) -> bool:
    """Put the item unless `stopped` is set. Returns: whether it was put."""
    while not stopped.is_set():
        try:
            target.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
