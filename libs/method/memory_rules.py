"""Memory rules: which frames stay in the memory, and which one goes when it is full.

The loop asks for every `save_freq`-th frame to be kept, and the rule decides. Under every rule the newest
frame is held beside the kept ones, until the next one comes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from libs.core.errors import InputError

AUTO = "auto"


@dataclass(frozen=True)
class KeptFrames:
    """The kept frames of the objects that appeared together; slot i holds the frame of time times[i].

    times: the newest frame is the last one. The others need not be in order.
    given: times of the frames that came with a mask.
    keys: returns the keys of all slots, (O, F, h*w, Ck).
    """

    times: list[int]
    given: set[int]
    keys: Callable[[], Tensor]

    def droppable(self) -> list[int]:
        """Slots of the frames that came without a mask."""
        return [slot for slot, time in enumerate(self.times) if time not in self.given]


class KeepAll:
    """Keep every frame that the loop asks for, and every frame with a given mask. This is the paper's rule.

    It is the base of the other rules. A rule has no state: all objects use the same one.
    """

    def keeps(self, regular: bool, given: bool) -> bool:
        """Decide whether a new frame stays.

        Args:
            regular: the loop asks for it; it is a `save_freq`-th frame.
            given: the frame came with a mask.
        """
        return regular or given

    def drops(self, frames: KeptFrames) -> int | None:
        """Choose the slot of the frame that goes when the memory is full; None: all stay."""
        return None


class KeepEven(KeepAll):
    """When full, drop the frame with the closest neighbours in time: never the first, latest or a given one.

    What a frame shows is best covered by the others if the frames before and after it are near. Those that
    stay are spread evenly over time.
    """

    def drops(self, frames: KeptFrames) -> int | None:
        """Choose the slot of the frame between the closest neighbours; of several, the earliest."""
        times = sorted(frames.times)
        neighbours = zip(times, times[1:], times[2:])
        gaps = {time: after - before for before, time, after in neighbours if time not in frames.given}
        return frames.times.index(min(gaps, key=lambda time: gaps[time])) if gaps else None


class KeepDifferent(KeepAll):
    """When full, drop the frame that resembles another kept frame most. Frames with a given mask stay.

    The new frame may go, too: then it resembles what is kept already. Two frames are compared by the distance
    of their mean keys, averaged over the objects.
    """

    def drops(self, frames: KeptFrames) -> int | None:
        """Choose the slot of the frame with the smallest distance to its nearest other frame.

        The two frames of the closest pair are equally near. The one that is closer to all frames goes; of
        equal ones, the earlier.
        """
        slots = frames.droppable()
        if not slots:
            return None
        distances = _distances(frames.keys())  # (F, F)
        to_all = distances.mean(1).tolist()
        to_nearest = distances.fill_diagonal_(torch.inf).amin(1).tolist()
        return min(slots, key=lambda slot: (to_nearest[slot], to_all[slot], frames.times[slot]))


class KeepNone(KeepAll):
    """Keep no frame: the memory is the previous frame alone, whether its mask was given or predicted."""

    def keeps(self, regular: bool, given: bool) -> bool:
        """Let no frame stay."""
        return False


class KeepGiven(KeepAll):
    """Keep the frames with a given mask only: they and the previous frame are the memory."""

    def keeps(self, regular: bool, given: bool) -> bool:
        """Let a frame stay if it came with a mask."""
        return given


RULES: dict[str, type[KeepAll]] = {
    "all": KeepAll,
    "even": KeepEven,
    "last": KeepNone,
    "first_last": KeepGiven,
    "surprise": KeepDifferent,
}


def build_rule(name: str = AUTO, memory_frames: int = 0) -> KeepAll:
    """Return the rule of the key `memory_rule`.

    Args:
        name: one of RULES, or 'auto': 'all' without a bound, 'even' with one.
        memory_frames: the bound of the memory; 0: none.
    Raises: InputError if rule and bound contradict each other.
    """
    if name == AUTO:
        name = "even" if memory_frames else "all"
    if name == "all" and memory_frames:
        raise InputError(
            f"key 'memory_rule': all drops no frame, but memory_frames {memory_frames} bounds the memory; "
            "set memory_frames 0, or memory_rule even"
        )
    if name in ("even", "surprise") and not memory_frames:
        raise InputError(
            f"key 'memory_rule': {name} drops frames when the memory is full, but memory_frames 0 sets no "
            "bound; set memory_frames, for example 20, or memory_rule all"
        )
    return RULES[name]()


def _distances(keys: Tensor) -> Tensor:
    """Return the distances (F, F) between the mean keys of frames, averaged over the objects.

    Args:
        keys: (O, F, h*w, Ck).
    """
    mean = keys.detach().mean(2, dtype=torch.promote_types(keys.dtype, torch.float32))  # (O, F, Ck)
    # Matrix products would lose the small distances of frames that resemble each other.
    return torch.cdist(mean, mean, compute_mode="donot_use_mm_for_euclid_dist").mean(0)
