"""The time loop: carry masks from frame to frame through a memory (STM).

Training, validation, test and demo all run it.
Letters: B clips side by side (1 outside training), K channels with background first, H, W pixels of the
input.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from libs.core.structures import CorrectedFrame
from libs.method.memory_bank import MemoryBank
from libs.method.memory_rules import AUTO, build_rule
from models.stm import STM, Memory, Objects, Query


@dataclass(frozen=True)
class FrameInput:
    """One frame of each clip."""

    image: Tensor  # (B, 3, H, W), normalised
    given: Tensor | None = None  # (B, K, H, W) one-hot masks that come with the frame
    appearing: Objects | None = None  # objects that are first seen here; their masks are in `given`
    query: Query | None = None  # features of `image`, if the caller has them already

    def to(self, device: torch.device) -> "FrameInput":
        """Copy to `device`."""
        given = None if self.given is None else self.given.to(device)
        appearing = None if self.appearing is None else self.appearing.to(device)
        return replace(self, image=self.image.to(device), given=given, appearing=appearing)


@dataclass(frozen=True)
class Reference:
    """The latest frame with a given mask. Cycle loss and gradient correction predict it back."""

    query: Query
    masks: Tensor  # (B, K, H, W) one-hot


@dataclass(frozen=True)
class Step:
    """One step of the loop: what was predicted in frame t, and which masks of it are memorized."""

    model: STM
    t: int
    image: Tensor  # (B, 3, H, W)
    objects: Objects  # all objects tracked so far
    logits: Tensor | None  # (B, K, H, W) predicted from the past; None in the first frame with objects
    masks: Tensor  # (B, K, H, W) soft, as they are memorized
    reference: Reference
    given: bool = False  # a mask came with the frame
    correction: CorrectedFrame | None = None  # what gradient correction did to `masks`

    @property
    def probs(self) -> Tensor:
        """(B, K, H, W) the prediction; in the first frame with objects, which has none, its given masks."""
        return self.masks if self.logits is None else self.logits.softmax(1)

    @cached_property
    def memory(self) -> Memory:
        """Keys and values of this frame alone, computed on first use: the last frame's may not be needed."""
        return self.model.memorize(self.image, self.masks, self.objects)


class Remembered(NamedTuple):
    """A memory policy's answer for a predicted frame."""

    masks: Tensor  # (B, K, H, W) soft, to memorize
    correction: CorrectedFrame | None = None  # what was done to get them


Remember = Callable[[Step], Remembered]


class Propagation:
    """The loop of one video, or of clips side by side, one frame at a time (STM).

    Args:
        save_freq: every save_freq-th frame stays in the memory for good (STM: every N-th frame).
        remember: decides which masks of a predicted frame are memorized; default: its probabilities.
        memory_frames: most frames in the memory, see MemoryBank; 0: no bound.
        memory_rule: which frames stay in the memory, see libs/method/memory_rules.py.
        top_k: predict from this many memory positions for each query position, see `read`; 0: from all.
        differentiable: gradients flow through the memory, as training needs it.
    Raises: InputError if memory_frames and memory_rule contradict each other.
    """

    def __init__(
        self,
        model: STM,
        save_freq: int,
        remember: Remember | None = None,
        memory_frames: int = 0,
        *,
        memory_rule: str = AUTO,
        top_k: int = 0,
        differentiable: bool = False,
    ) -> None:
        self.model = model
        self.save_freq = save_freq
        self.remember = remember
        self.memory_frames = memory_frames
        self.memory_rule = build_rule(memory_rule, memory_frames)
        self.top_k = top_k
        self.differentiable = differentiable
        self.t = -1
        self._forget_all()

    def _forget_all(self) -> None:
        """Return to the state before the first object."""
        self.bank = MemoryBank(self.memory_frames, self.differentiable, self.memory_rule)
        self.objects: Objects | None = None
        self.reference: Reference | None = None
        self.last: Step | None = None

    def step(self, frame: FrameInput) -> Step | None:
        """Segment the next frame from the memory of the earlier ones. Returns None before the first object.

        Raises: ValueError if the first objects appear in a frame without a given mask.
        """
        self.t += 1
        # 1. Memorize the previous frame. This waits until there is a next frame, which always reads it.
        if self.last is not None:
            # What the paper keeps: frames 0, save_freq, 2 save_freq, ... The memory's rule has the last word.
            keep = self.last.t % self.save_freq == 0
            self.bank.add(self.last.memory, self.last.t, keep=keep, given=self.last.given)
        if self.objects is None and frame.appearing is None:
            return None  # nothing to track yet, so nothing to encode either
        # 2. Predict the frame from the memory: the kept frames and the previous one.
        query = frame.query or self.model.encode(frame.image)
        logits = self.model.segment(query, self.bank.read(), self.top_k) if self.objects else None
        # 3. Add new objects. They have no memory yet, so they are predicted from the next frame on.
        if frame.appearing is not None:
            self.bank.appear(frame.appearing)
            self.objects = self.objects + frame.appearing if self.objects else frame.appearing
        # 4. Decide which masks the next frames will see of this one.
        self.last = self._conclude(frame, query, logits)
        return self.last

    def _conclude(self, frame: FrameInput, query: Query, logits: Tensor | None) -> Step:
        """Decide which masks of the frame are memorized."""
        assert self.objects is not None  # `step` returns early if there are none
        step_of = partial(Step, self.model, self.t, frame.image, self.objects, logits)
        if frame.given is not None:
            # A given mask is true: no policy changes it, and later frames are predicted back to it.
            masks = frame.given if logits is None else impose(logits.softmax(1), frame.given)
            self.reference = Reference(query, harden(masks))
            return step_of(masks, self.reference, given=True)
        if logits is None or self.reference is None:
            raise ValueError(f"frame {self.t}: objects appear without a mask; pass `given` with `appearing`")
        step = step_of(logits.softmax(1), self.reference)
        if self.remember is None:
            return step
        # In training the policy may choose the ground truth, in testing it corrects the mask.
        masks, correction = self.remember(step)
        return replace(step, masks=masks, correction=correction)

    def remove(self, channel: int) -> None:
        """Stop tracking one object. Its mask becomes background in the last frame and in the reference.

        K, the number of channels, stays as it is, and `last.logits` stay what was predicted. With memory
        context 'background' the memory of the other objects does not depend on the removed one; with 'others'
        what they have memorized so far has seen its mask. After the last object the loop is as before the
        first one. Frames that were kept because its mask was given stay in the memory of the others. To track
        the object again, pass it in `appearing`, with its mask.

        Args:
            channel: of the object, 1..K-1.
        Raises: ValueError if no such object is tracked.
        """
        tracked = [] if self.objects is None else sorted(set(self.objects.channel.tolist()))
        if channel not in tracked:
            raise ValueError(f"cannot remove object {channel}: the tracked objects are {tracked}")
        if tracked == [channel]:
            self._forget_all()
            return
        assert self.objects is not None and self.last is not None and self.reference is not None
        self.bank.remove([channel])
        self.objects = self.objects[self.objects.channel != channel]
        self.reference = replace(self.reference, masks=erase(self.reference.masks, channel))
        # A new Step, whose memory is computed anew: that of the old one has the object's rows.
        masks = erase(self.last.masks, channel)
        self.last = replace(self.last, objects=self.objects, masks=masks, reference=self.reference)


def propagate(
    model: STM,
    frames: Iterable[FrameInput],
    save_freq: int,
    remember: Remember | None = None,
    memory_frames: int = 0,
    *,
    memory_rule: str = AUTO,
    top_k: int = 0,
    differentiable: bool = False,
) -> Iterator[Step]:
    """Yield the steps of all frames from the first one with objects on. Frames are read one at a time.

    Args: see Propagation.
    """
    loop = Propagation(
        model,
        save_freq,
        remember,
        memory_frames,
        memory_rule=memory_rule,
        top_k=top_k,
        differentiable=differentiable,
    )
    yield from (step for step in map(loop.step, frames) if step is not None)


def impose(probs: Tensor, given: Tensor) -> Tensor:
    """Add given masks to predicted ones: a given object gets its pixels, the others keep what is left.

    (In the original a later mask replaced those of all objects.)

    Args:
        probs: (B, K', H, W) soft, K' <= K.
        given: (B, K, H, W) one-hot.
    Returns: (B, K, H, W), of sum 1 at each pixel.
    """
    new_channels = given.shape[1] - probs.shape[1]  # of objects that appear here
    probs = F.pad(probs, (0, 0, 0, 0, 0, new_channels))
    # A given object's own prediction is dropped everywhere; it goes to background, not to another object.
    is_given = given[:, 1:].flatten(2).any(2)[..., None, None]  # (B, K - 1, 1, 1)
    others = probs[:, 1:] * ~is_given
    rest = torch.cat([1 - others.sum(1, keepdim=True), others], dim=1)
    return torch.where(given[:, :1] > 0, rest, given)


def harden(masks: Tensor) -> Tensor:
    """Convert soft masks (B, K, H, W) to one-hot ones: the likeliest channel of each pixel."""
    return torch.zeros_like(masks).scatter_(1, masks.argmax(1, keepdim=True), 1)


def erase(masks: Tensor, channel: int) -> Tensor:
    """Turn one object of masks (B, K, H, W), soft or one-hot, into background."""
    masks = masks.clone()
    masks[:, 0] += masks[:, channel]
    masks[:, channel] = 0
    return masks
