"""The memory of the time loop: which frames stay in it, and how their keys and values are stored."""

from dataclasses import replace

import torch
from torch import Tensor

from libs.method.memory_rules import KeepAll, KeptFrames, build_rule
from models.stm import Memory, Objects


class MemoryBank:
    """Keys and values of the kept frames and of the newest frame.

    Objects that appeared in the same frame form a group: they are remembered from the same frames.

    Which frames are kept, the rule decides. By default: those for which the caller of `add` says so (the
    paper: every `save_freq`-th frame), and every frame with a given mask. (The original dropped given masks
    between multiples of `save_freq`. An object that appeared there lost its one true mask.) The newest frame
    is always held, until the next one comes.

    With `max_frames`, at most that many frames are held, the newest included, and the rule chooses which one
    is dropped. Frames with a given mask are never dropped, even if they alone are more than `max_frames`.

    Args:
        max_frames: 0: no bound (the paper's rule), else at least 3: the first, latest kept and newest frame.
        differentiable: gradients flow through what is read, so nothing is overwritten in place.
        rule: default: spread the kept frames evenly over time if there is a bound, else keep all.
    """

    def __init__(
        self, max_frames: int = 0, differentiable: bool = False, rule: KeepAll | None = None
    ) -> None:
        self.max_frames, self.differentiable = max_frames, differentiable
        self.rule = rule or build_rule(memory_frames=max_frames)
        self._groups: list[_Group] = []
        self._newest = -1  # time of the newest frame

    def appear(self, objects: Objects) -> None:
        """Open a group for objects that are first seen now."""
        self._groups.append(_Group(objects, _GrowingSlots() if self.differentiable else _ReservedSlots()))

    def add(self, memory: Memory, time: int, keep: bool, given: bool = False) -> None:
        """Add the newest frame. It replaces the previous newest one, unless that was kept.

        Args:
            memory: of the frame, with all objects so far in the order in which they appeared.
            time: index of the frame.
            keep: the caller asks for the frame to be kept.
            given: the frame came with a mask. If the rule keeps it, it is never dropped.
        """
        self._newest = time
        sizes = [len(group.objects) for group in self._groups]
        for group, keys, values in zip(self._groups, memory.keys.split(sizes), memory.values.split(sizes)):
            # The slot behind the kept frames: it overwrites the previous newest frame, unless that was kept.
            group.slots.put(len(group.kept), keys, values)
            group.held = len(group.kept) + 1
            if self.rule.keeps(keep, given):
                group.kept.append(time)
                group.given |= {time} if given else set()
                # One place stays free for the newest frame.
                if self.max_frames and len(group.kept) >= self.max_frames:
                    group.drop_one(self.rule)

    def read(self) -> list[Memory]:
        """Return one memory a group: its kept frames and the newest one. A new group has none yet."""
        return [Memory(*group.slots.read(group.held), group.objects) for group in self._groups if group.held]

    def read_times(self) -> list[list[int]]:
        """Return the times of the frames that `read` returns, in its order, one list a group."""
        return [[*group.kept, self._newest][: group.held] for group in self._groups if group.held]

    def remove(self, channels: list[int]) -> None:
        """Forget the objects of these mask channels. K, the number of channels, stays as it is."""
        # The group that goes may be the one with the highest K. Masks and reference still have K channels.
        num_channels = max((group.objects.num_channels for group in self._groups), default=0)
        for group in self._groups:
            removed = torch.tensor(channels, device=group.objects.channel.device)
            rows = (~torch.isin(group.objects.channel, removed)).nonzero().flatten()
            if len(rows) < len(group.objects):
                group.slots.select(rows)
            group.objects = replace(group.objects[rows], num_channels=num_channels)
        self._groups = [group for group in self._groups if len(group.objects)]

    def times(self) -> list[list[int]]:
        """Return the sorted times of the kept frames of each group."""
        return [sorted(group.kept) for group in self._groups]


class _Group:
    """Objects that appeared together. Slot i holds the frame of time kept[i]; the next one the newest."""

    def __init__(self, objects: Objects, slots: "_GrowingSlots | _ReservedSlots") -> None:
        self.objects, self.slots = objects, slots
        self.kept: list[int] = []
        self.given: set[int] = set()
        self.held = 0  # slots in use

    def drop_one(self, rule: KeepAll) -> None:
        """Drop the kept frame that the rule chooses, if any. The newest frame has just been kept."""
        slot = rule.drops(KeptFrames(self.kept, self.given, self._keys))
        if slot is None:
            return
        newest = self.kept.pop()
        # The newest frame itself need not be kept. It stays in its slot until the next one comes.
        if slot < len(self.kept):
            # Slots need no order in time, attention ignores it: the last slot fills the hole.
            self.slots.move(len(self.kept), slot)
            self.kept[slot] = newest
            self.held -= 1

    def _keys(self) -> Tensor:
        """Keys of all slots in use, (O, held, h*w, Ck)."""
        return self.slots.read(self.held)[0].unflatten(1, (self.held, -1))


class _ReservedSlots:
    """Storage for inference: allocated ahead, doubled when full, and written in place."""

    def __init__(self) -> None:
        self._stores: list[Tensor] = []  # keys (O, slots, h*w, Ck) and values (O, slots, h*w, Cv)

    def put(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Write the memory of one frame, (O, h*w, Ck) and (O, h*w, Cv), to a slot."""
        if not self._stores:
            self._stores = [x.new_empty(len(x), 4, *x.shape[1:]) for x in (keys, values)]
        elif slot >= self._stores[0].shape[1]:
            # Doubled, not grown by one: a long video then copies each frame about once.
            self._stores = [torch.cat([store, torch.empty_like(store)], 1) for store in self._stores]
        for store, x in zip(self._stores, (keys, values)):
            store[:, slot] = x

    def move(self, source: int, target: int) -> None:
        """Copy one slot over another."""
        for store in self._stores:
            store[:, target] = store[:, source]

    def read(self, held: int) -> tuple[Tensor, Tensor]:
        """Return the first `held` slots as views, (O, held*h*w, Ck) and (O, held*h*w, Cv)."""
        keys, values = (store[:, :held].flatten(1, 2) for store in self._stores)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep only these objects; rows: (O',) indices."""
        self._stores = [store[rows] for store in self._stores]


class _GrowingSlots:
    """Storage for training, with the methods of _ReservedSlots. Nothing is overwritten: autograd needs it."""

    def __init__(self) -> None:
        self._frames: list[tuple[Tensor, Tensor]] = []

    def put(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Store the memory of one frame in a slot; drop what later slots held."""
        self._frames[slot:] = [(keys, values)]

    def move(self, source: int, target: int) -> None:
        """Let `target` hold what `source` holds."""
        self._frames[target] = self._frames[source]

    def read(self, held: int) -> tuple[Tensor, Tensor]:
        """Return the first `held` slots, copied one behind the other."""
        keys, values = zip(*self._frames[:held])
        return torch.cat(keys, 1), torch.cat(values, 1)

    def select(self, rows: Tensor) -> None:
        """Keep only these objects; rows: (O',) indices."""
        self._frames = [(keys[rows], values[rows]) for keys, values in self._frames]
