"""The memory that the time loop carries: which frames stay in it, and where their keys and values lie."""

import torch
from torch import Tensor

from models.stm import Memory, Objects


class MemoryBank:
    """Memories of the frames that are kept, and of the newest one, for each group of objects that appeared together.

    What is kept is the loop's choice (the paper: every `save_freq`-th frame) and every frame with a given mask (the
    original dropped those in between, so an object that appeared there lost its one true mask). With `max_frames` no
    more than that many are held, the newest included: of the others the one goes that is closest to its neighbours
    in time, so that what stays is spread evenly. Given masks always stay, even where they alone are more.

    Args:
        max_frames: 0 holds all (the paper's rule), else at least 3: the first, the latest kept and the newest.
        differentiable: gradients flow through what is read, so nothing is written over.
    """

    def __init__(self, max_frames: int = 0, differentiable: bool = False) -> None:
        self.max_frames, self.differentiable = max_frames, differentiable
        self._groups: list[_Group] = []

    def appear(self, objects: Objects) -> None:
        """Open a history for objects that are first seen now."""
        self._groups.append(_Group(objects, _GrowingSlots() if self.differentiable else _ReservedSlots()))

    def add(self, memory: Memory, time: int, keep: bool, given: bool = False) -> None:
        """Take in the memory of the frame at `time`, of all objects so far in the order in which they appeared.

        It is the newest until the next one comes, and then gone unless `keep` or `given`.
        """
        sizes = [len(group.objects) for group in self._groups]
        for group, keys, values in zip(self._groups, memory.keys.split(sizes), memory.values.split(sizes)):
            group.slots.put(len(group.kept), keys, values)
            group.held = len(group.kept) + 1
            if keep or given:
                group.kept.append(time)
                group.given |= {time} if given else set()
                if self.max_frames and len(group.kept) >= self.max_frames:
                    group.thin()

    def read(self) -> list[Memory]:
        """One memory a group: its kept frames and the newest one."""
        return [Memory(*group.slots.read(group.held), group.objects) for group in self._groups]

    def times(self) -> list[list[int]]:
        """The times of the kept frames of each group, in order."""
        return [sorted(group.kept) for group in self._groups]


class _Group:
    """Objects that share a history. Slot i of `slots` holds the frame of time kept[i]; behind them lies the newest."""

    def __init__(self, objects: Objects, slots: "_GrowingSlots | _ReservedSlots") -> None:
        self.objects, self.slots = objects, slots
        self.kept: list[int] = []
        self.given: set[int] = set()
        self.held = 0  # slots in use

    def thin(self) -> None:
        """Drop the kept frame whose neighbours in time are closest together; the newest and the given ones stay."""
        times = sorted(self.kept)
        gaps = {
            t: after - before for before, t, after in zip(times, times[1:], times[2:]) if t not in self.given
        }
        if gaps:
            slot = self.kept.index(min(gaps, key=gaps.get))
            self.slots.move(self.held - 1, slot)
            self.kept[slot] = self.kept[-1]
            self.kept.pop()
            self.held -= 1


class _ReservedSlots:
    """Storage that is allocated ahead, doubled where it runs full, and written in place."""

    def __init__(self) -> None:
        self._keys: Tensor | None = None  # (O, slots, h*w, Ck)
        self._values: Tensor | None = None  # (O, slots, h*w, Cv)

    def put(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Write the memory of one frame: (O, h*w, Ck), (O, h*w, Cv)."""
        if self._keys is None:
            self._keys, self._values = (x.new_empty(len(x), 4, *x.shape[1:]) for x in (keys, values))
        elif slot >= self._keys.shape[1]:
            self._keys, self._values = (
                torch.cat([x, torch.empty_like(x)], 1) for x in (self._keys, self._values)
            )
        self._keys[:, slot], self._values[:, slot] = keys, values

    def move(self, source: int, target: int) -> None:
        """Copy one slot over another."""
        self._keys[:, target], self._values[:, target] = self._keys[:, source], self._values[:, source]

    def read(self, held: int) -> tuple[Tensor, Tensor]:
        """The first `held` slots: (O, held*h*w, Ck), (O, held*h*w, Cv), not copied."""
        return self._keys[:, :held].flatten(1, 2), self._values[:, :held].flatten(1, 2)


class _GrowingSlots:
    """The same for training: memories stay as they are, since autograd's must not be written over."""

    def __init__(self) -> None:
        self._frames: list[tuple[Tensor, Tensor]] = []

    def put(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """As above; what lay in later slots goes."""
        self._frames[slot:] = [(keys, values)]

    def move(self, source: int, target: int) -> None:
        """As above."""
        self._frames[target] = self._frames[source]

    def read(self, held: int) -> tuple[Tensor, Tensor]:
        """As above, but copied."""
        keys, values = zip(*self._frames[:held])
        return torch.cat(keys, 1), torch.cat(values, 1)
