"""Distributed training: one process per GPU, on one machine or more."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from libs.core.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The group of processes that train together, seen from this one. By default it is the only one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # among the processes of this machine

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def gather(self, item: T) -> list[T]:
        """The items of all processes, ordered by rank. All processes must call this; each gets all items."""
        if self.world_size == 1:
            return [item]
        items: list = [None] * self.world_size
        dist.all_gather_object(items, item)
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
        dist.broadcast_object_list(sent)
        if sent[1]:
            raise sent[1]
        return sent[0]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """All-reduce (sum) gradients; missing gradients count as zero."""
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
    """Join the group that torchrun's environment variables describe; without them, this process trains alone.

    Args:
        backend: 'nccl' or 'gloo'; without CUDA always Gloo, as NCCL needs CUDA.
    Raises: InputError if the variables are not numbers or the other processes cannot be reached.
    """
    try:
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return ALONE
        processes = Processes(int(os.environ["RANK"]), world_size, int(os.environ.get("LOCAL_RANK", "0")))
    except (KeyError, ValueError) as error:
        raise InputError(
            "environment variables WORLD_SIZE, RANK, LOCAL_RANK: expected numbers, as torchrun sets them: "
            f"{error}"
        ) from error
    backend = backend if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, init_method=init_method, rank=processes.rank, world_size=world_size)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"keys 'backend', 'init_method': the {world_size} training processes cannot connect: {reason}"
        ) from error
    return processes
