"""The time loop: carry masks from frame to frame through a memory. Training, validation, test and demo all run it.

Letters: B clips side by side (1 outside training), K channels with background first, H, W pixels of the input.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from libs.core.structures import CorrectedFrame
from libs.method.memory_bank import MemoryBank
from models.stm import STM, Memory, Objects, Query


@dataclass(frozen=True)
class FrameInput:
    """One frame of each clip."""

    image: Tensor  # (B, 3, H, W), normalised
    given: Tensor | None = None  # (B, K, H, W) one-hot masks that come with the frame
    appearing: Objects | None = None  # objects that are first seen here
    query: Query | None = None  # features of `image`, if the caller has them already

    def to(self, device: torch.device) -> "FrameInput":
        """The same on `device`."""
        given = None if self.given is None else self.given.to(device)
        appearing = None if self.appearing is None else self.appearing.to(device)
        return replace(self, image=self.image.to(device), given=given, appearing=appearing)


@dataclass(frozen=True)
class Reference:
    """The latest frame with a given mask: what cycle loss and gradient correction predict back."""

    query: Query
    masks: Tensor  # (B, K, H, W) one-hot


@dataclass(frozen=True)
class Step:
    """One step of the loop: what was predicted in frame t, and what is remembered of it."""

    model: STM
    t: int
    image: Tensor  # (B, 3, H, W)
    objects: Objects  # all objects seen so far
    logits: (
        Tensor | None
    )  # (B, K, H, W) predicted from the past; None in the first frame with objects, which has none
    masks: Tensor  # (B, K, H, W) soft, as they are remembered
    reference: Reference
    given: bool = False  # its mask came with the frame
    correction: CorrectedFrame | None = None  # what was done to the masks before they are remembered

    @property
    def probs(self) -> Tensor:
        """(B, K, H, W) the prediction; in the first frame with objects, which has none, its given masks."""
        return self.masks if self.logits is None else self.logits.softmax(1)

    @cached_property
    def memory(self) -> Memory:
        """Keys and values of this frame alone, computed when they are first read: the last frame's may never be."""
        return self.model.memorize(self.image, self.masks, self.objects)


class Remembered(NamedTuple):
    """What a memory policy says of a predicted frame: the masks to memorize, and what was done to get them."""

    masks: Tensor  # (B, K, H, W) soft
    correction: CorrectedFrame | None = None


Remember = Callable[[Step], Remembered]


class Propagation:
    """The loop of one video, or of clips side by side, one frame at a time (STM, section 3).

    Args:
        save_freq: a frame stays in the memory for good every so many frames.
        remember: decides what is memorized of a predicted frame; default: its probabilities.
        memory_frames: bound of the memory in frames, see MemoryBank; 0: none.
        differentiable: gradients flow through the memory, as training needs it.
    """

    def __init__(
        self,
        model: STM,
        save_freq: int,
        remember: Remember | None = None,
        memory_frames: int = 0,
        differentiable: bool = False,
    ) -> None:
        self.model, self.save_freq, self.remember = model, save_freq, remember
        self.bank = MemoryBank(memory_frames, differentiable)
        self.objects: Objects | None = None
        self.reference: Reference | None = None
        self.last: Step | None = None
        self.t = -1

    def step(self, frame: FrameInput) -> Step | None:
        """Segment the next frame from the memory of the earlier ones; None before the first object."""
        self.t += 1
        if self.last is not None:
            # The previous frame is always in the memory. It is memorized only now, when a frame needs it.
            self.bank.add(
                self.last.memory, self.last.t, keep=self.last.t % self.save_freq == 0, given=self.last.given
            )
        if self.objects is None and frame.appearing is None:
            return None  # nothing to track yet, so nothing to encode either
        query = frame.query or self.model.encode(frame.image)
        # An object that appears in this frame has no memory yet: it takes part from the next frame on.
        logits = self.model.segment(query, self.bank.read()) if self.objects else None
        if frame.appearing is not None:
            self.bank.appear(frame.appearing)
            self.objects = self.objects + frame.appearing if self.objects else frame.appearing
        self.last = self._conclude(frame, query, logits)
        return self.last

    def _conclude(self, frame: FrameInput, query: Query, logits: Tensor | None) -> Step:
        """Decide which masks are remembered of the frame."""
        if frame.given is not None:
            # A given mask is true. It becomes the reference that later frames are predicted back to.
            masks = frame.given if logits is None else impose(logits.softmax(1), frame.given)
            self.reference = Reference(query, harden(masks))
            return Step(
                self.model, self.t, frame.image, self.objects, logits, masks, self.reference, given=True
            )
        step = Step(self.model, self.t, frame.image, self.objects, logits, logits.softmax(1), self.reference)
        if self.remember is None:
            return step
        # Training may memorize the ground truth instead, testing a corrected mask.
        masks, correction = self.remember(step)
        return replace(step, masks=masks, correction=correction)


def propagate(
    model: STM,
    frames: Iterable[FrameInput],
    save_freq: int,
    remember: Remember | None = None,
    memory_frames: int = 0,
    differentiable: bool = False,
) -> Iterator[Step]:
    """Yield the steps of all frames from the first with objects on; frames are read one at a time.

    Args: see Propagation.
    """
    loop = Propagation(model, save_freq, remember, memory_frames, differentiable)
    yield from (step for step in map(loop.step, frames) if step is not None)


def impose(probs: Tensor, given: Tensor) -> Tensor:
    """Add given masks to predicted ones: a given object is exactly its pixels, the others keep what is left.

    (The original let a later mask replace those of all objects.)

    Args:
        probs: (B, K', H, W) soft, K' <= K; given: (B, K, H, W) one-hot.
    Returns: (B, K, H, W), of sum 1 at each pixel.
    """
    probs = F.pad(
        probs, (0, 0, 0, 0, 0, given.shape[1] - probs.shape[1])
    )  # channels of objects that appear here
    named = given[:, 1:].flatten(2).any(2)[..., None, None]  # (B, K - 1, 1, 1)
    kept = probs[:, 1:] * ~named
    rest = torch.cat([1 - kept.sum(1, keepdim=True), kept], dim=1)
    return torch.where(given[:, :1] > 0, rest, given)


def harden(masks: Tensor) -> Tensor:
    """Soft masks (B, K, H, W) to one-hot ones."""
    return torch.zeros_like(masks).scatter_(1, masks.argmax(1, keepdim=True), 1)
