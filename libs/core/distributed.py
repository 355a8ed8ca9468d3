"""Several processes work on one run: one per GPU, on one machine or more."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from libs.core.errors import InputError, named
from libs.core.rendezvous import open_store

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # how long a process may wait for a slower one; Gloo notices a dead one at once


@dataclass(frozen=True)
class Processes:
    """The group of processes of one run, seen from this one. By default it is the only one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # among the processes of this machine
    group: Any = None  # torch's group in which items are exchanged; None: its default group

    @property
    def is_main(self) -> bool:
        """Whether this process writes the log, and all files that the group has only one of."""
        return self.rank == 0

    def gather(self, item: T) -> list[T]:
        """The items of all processes, ordered by rank. All processes must call this; each gets all items."""
        if self.world_size == 1:
            return [item]
        items: list = [None] * self.world_size
        dist.all_gather_object(items, item, group=self.group)
        return items

    def from_main(self, make: Callable[[], T]) -> T:
        """Call `make` in the main process alone. All processes must call this; each gets the result.

        Raises: in all processes, the InputError that `make` raises.
        """
        if self.world_size == 1:
            return make()
        sent: list = [None, None]
        if self.is_main:
            try:
                sent[0] = make()
            except InputError as error:
                sent[1] = error
        dist.broadcast_object_list(sent, group=self.group)
        if sent[1]:
            raise sent[1]
        return sent[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block in all processes: if it fails in one, all end. Each warning is printed once.

        The block must not exchange anything between processes.
        Raises: the error of the first process that failed, in this process; SystemExit with code 2 in the
            others, so that one error line is printed.
        """
        if self.world_size == 1:
            yield
            return
        error = None
        with _heard_warnings(printed=self.is_main) as heard:
            try:
                yield
            except Exception as caught:  # any, because the others wait for this process
                error = caught
        ends = self.gather((error is None, heard))
        if self.is_main:
            for text in dict.fromkeys(text for _, texts in ends for text in texts):
                if text not in heard:
                    warnings.warn(text, stacklevel=3)
        failed = [rank for rank, (is_fine, _) in enumerate(ends) if not is_fine]
        if error is not None and self.rank == failed[0]:
            raise error
        if failed:
            if self.group is not None:
                # torchrun ends all processes as soon as one has ended: wait until the line is printed.
                with suppress(RuntimeError):
                    self.gather(None)
            raise SystemExit(2)

    def check_agreement(self, item: list[str], expected: str, named_in_message: bool = True) -> None:
        """Compare a list of each process with that of the main one.

        Args:
            expected: ends the message "expected ...", and says what to do.
            named_in_message: whether to name the entries that one of the two lacks.
        Raises: InputError if they differ, see `together`.
        """
        items = self.gather(item)
        with self.together():
            differing = [rank for rank, other in enumerate(items) if other != items[0]]
            if differing:
                lacking = sorted(set(items[0]) ^ set(items[differing[0]])) if named_in_message else []
                found = f"; they differ in {named(lacking, 4)}" if lacking else ""
                raise InputError(
                    f"processes 0 and {differing[0]} of {self.world_size}: expected {expected}{found}"
                )

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """All-reduce (sum) gradients; missing gradients count as zero.

        Not DistributedDataParallel: it rearranges its buckets after the first step, so that a resumed run of
        three or more processes would not end with the same bits. docs/development.md has the figures.
        """
        if self.world_size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        # One flat tensor: a single message instead of hundreds. Without clips, a process has no gradients.
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained])
        dist.all_reduce(flat)
        for p, gradient in zip(trained, flat.split([p.numel() for p in trained])):
            p.grad = gradient.view_as(p)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of the main one: unfrozen batch norm differs between them."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def leave(self) -> None:
        """Leave the group; call it at the end of the run."""
        if self.world_size > 1:
            dist.destroy_process_group()


ALONE = Processes()


def join_processes(backend: str, init_method: str) -> Processes:
    """Join the group that torchrun's environment variables describe; without them, this process is alone.

    Args:
        backend: 'nccl' or 'gloo'; without CUDA always Gloo, as NCCL needs CUDA.
    Raises: InputError if the variables are not numbers or the other processes cannot be reached.
    """
    try:
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return ALONE
        rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    except (KeyError, ValueError) as error:
        raise InputError(
            "environment variables WORLD_SIZE, RANK, LOCAL_RANK: expected numbers, as torchrun sets them: "
            f"{error}"
        ) from error
    backend = backend if torch.cuda.is_available() else "gloo"
    try:
        store = open_store(init_method, rank, world_size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
        # Its timeout is for a process that never came. A video may take longer than that.
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"keys 'backend', 'init_method': the {world_size} processes cannot connect: {reason}"
        ) from error
    return Processes(rank, world_size, local_rank, group)


def is_first_on_machine() -> bool:
    """Whether this process is the first one of its machine, or the only one. It need not have joined."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def _heard_warnings(printed: bool) -> Iterator[list[str]]:
    """Yield a list that gets the text of each warning in the block; without `printed` it is not printed."""
    heard: list[str] = []
    show = warnings.showwarning

    def hear(message: Warning | str, *place: Any, **options: Any) -> None:
        """Keep the warning, and print it."""
        heard.append(str(message))
        if printed:
            show(message, *place, **options)

    warnings.showwarning = hear
    try:
        yield heard
    finally:
        warnings.showwarning = show
