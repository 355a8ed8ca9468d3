"""prefetch and AsyncWriter keep the order, pass errors on and end their threads."""

import threading
import time

import pytest

from libs.core.prefetch import AsyncWriter, prefetch


def test_order_and_end():
    assert list(prefetch(iter(range(50)), depth=3)) == list(range(50))
    assert list(prefetch(iter(()))) == []


def test_reads_no_further_than_depth():
    asked = []

    def source():
        for i in range(100):
            asked.append(i)
            yield i

    items = prefetch(source(), depth=3)
    assert next(items) == 0
    time.sleep(0.2)
    assert len(asked) <= 6  # one taken, three waiting, one in the thread's hand
    items.close()
    before = threading.active_count()
    assert len(asked) <= 6 and before <= threading.active_count()


def test_the_readers_error_comes_after_what_was_read():
    def source():
        yield 1
        raise ValueError("no second item")

    items = prefetch(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no second item"):
        next(items)


def test_threads_end_with_the_reader():
    before = threading.active_count()
    items = prefetch(iter(range(10**9)))
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before


def test_writes_all_in_order_before_the_block_ends():
    taken = []
    with AsyncWriter(lambda item: (time.sleep(0.001), taken.append(item)), depth=2) as behind:
        for i in range(30):
            behind.put(i)
    assert taken == list(range(30))


def test_the_writers_error_is_raised_and_nothing_hangs():
    def consume(item):
        if item == 3:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), AsyncWriter(consume, depth=1) as behind:
        for i in range(100):
            behind.put(i)
    with pytest.raises(OSError, match="disk full"), AsyncWriter(consume) as behind:
        behind.put(3)


def test_a_block_that_fails_does_not_wait_for_a_lock_that_is_never_released(monkeypatch: pytest.MonkeyPatch):
    """A signal that interrupts `put` may leave the queue's lock held."""
    monkeypatch.setattr("libs.core.prefetch.PATIENCE", 0.3)
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), AsyncWriter(lambda item: None) as behind:
        behind._queue.mutex.acquire()
        raise KeyboardInterrupt
    assert time.perf_counter() - start < 5
    behind._queue.mutex.release()
