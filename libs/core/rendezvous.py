"""How the processes of a run find each other, also after torchrun has restarted them."""

import os
import time
from collections.abc import Callable
from uuid import uuid4

import torch.distributed as dist

PATIENCE = 30 * 60  # seconds that a process waits for the others to start
INTERVAL = 0.05  # seconds between two looks into the store


def open_store(init_method: str, rank: int, world_size: int) -> dist.Store:
    """Open the store in which the processes of one start leave their addresses for each other.

    torchrun keeps one store for all its restarts. A process may find the address of a killed one there, to
    which it cannot connect. So the processes first agree on a prefix that no earlier start has used.

    Args:
        init_method: 'env://', or an address such as 'tcp://host:port'.
    Raises: RuntimeError if the store cannot be reached or another process does not start; ValueError if
        `init_method` is not an address.
    """
    store = next(dist.rendezvous(init_method, rank, world_size))[0]
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return store  # it is new with each start
    return dist.PrefixStore(agree_on_name(store, rank, world_size), store)


def agree_on_name(store: dist.Store, rank: int, world_size: int, patience: float = PATIENCE) -> str:
    """Agree on a name for this start, in a store that earlier starts have used. All processes must call this.

    The numbers of restarts that torchrun counts are no such name: on several machines they may differ.
    A process waits in Python and not in the store, so that a signal ends it at once.

    Raises: RuntimeError if another process does not start within `patience` seconds.
    """
    own = uuid4().hex  # never used before, so whoever answers it does so in this start
    store.set(f"started/{rank}", own)
    end = time.monotonic() + patience
    if rank > 0:
        _wait(lambda: store.check([own]), end)
        name = store.get(own).decode()
        store.set(f"{name}/{rank}", "")
        return name

    def has_answered(other: int) -> bool:
        """Send `own` to a process. It may have started after the last call, so do this until it answers."""
        if store.check([f"started/{other}"]):
            store.set(store.get(f"started/{other}").decode(), own)
        return store.check([f"{own}/{other}"])

    for other in range(1, world_size):
        _wait(lambda: has_answered(other), end)  # noqa: B023  called in this iteration only
    return own


def _wait(is_done: Callable[[], bool], end: float) -> None:
    """Wait until `is_done`, at most until the time `end`."""
    while not is_done():
        if time.monotonic() > end:
            raise RuntimeError("timed out, as some of them have not started")
        time.sleep(INTERVAL)
