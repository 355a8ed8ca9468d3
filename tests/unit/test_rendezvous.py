"""Processes that start again find each other, and not the addresses of those that were killed."""

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Thread

import pytest
import torch.distributed as dist

from libs.app.script import SignalHandler, Stopped
from libs.core.rendezvous import agree_on_name


def start(store: dist.Store, ranks: list[int]) -> list[str]:
    """Let so many processes agree, one after the other in this order. Returns: the name that each got."""
    with ThreadPoolExecutor(len(ranks)) as pool:
        names: list[Future[str]] = []
        for rank in ranks:
            names.append(pool.submit(agree_on_name, store, rank, len(ranks), 20.0))
            time.sleep(0.1)
        return [name.result() for name in names]


@pytest.mark.parametrize("ranks", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_each_start_has_a_name_of_its_own(ranks: list[int]) -> None:
    store = dist.HashStore()
    names = [start(store, ranks) for _ in range(3)]
    assert all(len(set(of_one_start)) == 1 for of_one_start in names)
    assert len({name for of_one_start in names for name in of_one_start}) == 3


def test_a_process_that_was_killed_while_it_joined_is_not_waited_for() -> None:
    """It has left its own name, or even an answer to rank 0 of that time; rank 0 was killed as well."""
    store = dist.HashStore()
    with suppress(RuntimeError):
        agree_on_name(store, 1, 2, patience=0)
    with suppress(RuntimeError):
        agree_on_name(store, 0, 2, patience=0)
    first, second = start(store, [0, 1])
    assert first == second


def test_a_process_that_never_starts() -> None:
    for rank in range(2):
        with pytest.raises(RuntimeError, match="not started"):
            agree_on_name(dist.HashStore(), rank, 2, patience=0.1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_ends_the_wait(rank: int) -> None:
    """torchrun sends it if another process has died. In the store, it would take effect after minutes."""
    with SignalHandler(), pytest.raises(Stopped):
        Thread(target=lambda: (time.sleep(0.2), signal.raise_signal(signal.SIGTERM))).start()
        agree_on_name(dist.HashStore(), rank, 2, patience=20)
