"""Several training processes, one a GPU, on one machine or more: who is who, and the few things that they exchange."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from libs.core.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Where this process stands among those that train together; alone by default."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # on its machine

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and lines."""
        return self.rank == 0

    def gather(self, item: T) -> list[T]:
        """The items of all processes, in the order of their ranks, in each of them."""
        items: list = [item]
        if self.world_size > 1:
            items = [None] * self.world_size
            dist.all_gather_object(items, item)
        return items

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; who had no clip for a parameter counts as 0."""
        if self.world_size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained])
        dist.all_reduce(flat)
        for p, gradient in zip(trained, flat.split([p.numel() for p in trained])):
            p.grad = gradient.view_as(p)

    def copy_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of the first: batch norm that is not frozen has seen other clips in each."""
        for buffer in model.buffers() if self.world_size > 1 else ():
            dist.broadcast(buffer, 0)

    def leave(self) -> None:
        """Say goodbye."""
        if self.world_size > 1:
            dist.destroy_process_group()


def join_processes(backend: str, init_method: str) -> Processes:
    """Join the others as torchrun's environment tells; alone where there is none.

    Args:
        backend: 'nccl' or 'gloo'; NCCL needs CUDA, without it Gloo is taken.
    Raises: InputError where the others cannot be reached.
    """
    try:
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return Processes()
        processes = Processes(int(os.environ["RANK"]), world_size, int(os.environ.get("LOCAL_RANK", "0")))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"environment variables WORLD_SIZE, RANK, LOCAL_RANK: expected numbers, as torchrun sets them: {error}"
        ) from error
    try:
        dist.init_process_group(
            backend if torch.cuda.is_available() else "gloo",
            init_method=init_method,
            rank=processes.rank,
            world_size=world_size,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"keys 'backend', 'init_method': the {world_size} training processes cannot meet: {reason}"
        ) from error
    return processes
