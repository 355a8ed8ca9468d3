"""THE time loop: carry masks from frame to frame through a memory. Training, validation, test and demo all run it.

Letters: B clips side by side (1 outside training), K channels with background first, H, W pixels of the input.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from libs.memory_bank import MemoryBank
from libs.structures import CorrectedFrame, SourceFrame
from models.stm import STM, Memory, Objects, Query


@dataclass(frozen=True)
class FrameInput:
    """One moment of the clips."""

    image: Tensor  # (B, 3, H, W), normalised
    given: Tensor | None = None  # (B, K, H, W) one-hot masks that come with the frame
    appearing: Objects | None = None  # objects that are first seen here
    query: Query | None = None  # features of `image`, where the caller has them already
    source: SourceFrame | None = None  # what `image` was made of


@dataclass(frozen=True)
class Reference:
    """The latest frame with a given mask: what cycle loss and gradient correction predict back."""

    query: Query
    masks: Tensor  # (B, K, H, W) one-hot
    source: SourceFrame | None = None


@dataclass
class Step:
    """What the loop knows after frame t."""

    t: int
    image: Tensor  # (B, 3, H, W)
    objects: Objects  # all objects seen so far
    logits: Tensor | None  # (B, K, H, W) predicted from the past, None before the first object
    masks: Tensor | None = None  # (B, K, H, W) soft, as they are remembered
    given: bool = False  # its mask came with the frame
    memory: Memory | None = None  # of this frame alone
    source: SourceFrame | None = None
    reference: Reference | None = None
    correction: CorrectedFrame | None = None  # what `remember` did, if it corrected


def propagate(
    model: STM, frames: Iterable[FrameInput], save_freq: int, remember: Callable[[Step], Tensor] | None = None,
    memory_frames: int = 0,
) -> Iterator[Step]:
    """Segment frame after frame, each from the memory of earlier ones.

    Args:
        frames: read one at a time; nothing happens before the first one with objects.
        save_freq: a frame enters the memory for good every so many frames.
        remember: the masks (B, K, H, W) to memorise of a predicted frame; default: its probabilities.
        memory_frames: bound of the memory, see MemoryBank; 0: none.
    Yields: a Step a frame; its memory is made when the next frame is asked for, so the last one's never is.
    """
    bank, objects, reference, step = MemoryBank(memory_frames), None, None, None
    for t, frame in enumerate(frames):
        if objects:
            step.memory = model.memorize(step.image, step.masks, objects)
            bank.add(step.memory, step.t, keep=step.t % save_freq == 0, given=step.given)
        query = frame.query or model.encode(frame.image)
        logits = model.segment(query, bank.read()) if objects else None
        if frame.appearing:
            bank.appear(frame.appearing)
            objects = objects + frame.appearing if objects else frame.appearing
        step = Step(t, frame.image, objects, logits, reference=reference, source=frame.source)
        if frame.given is not None:
            step.masks = frame.given if logits is None else impose(logits.softmax(1), frame.given)
            step.given = True
            step.reference = reference = Reference(query, harden(step.masks), frame.source)
        elif objects:
            step.masks = remember(step) if remember else logits.softmax(1)
        yield step


def impose(probs: Tensor, given: Tensor) -> Tensor:
    """Add given masks to predicted ones: a given object is exactly its pixels, the others keep what is left.

    (The original let a later mask replace those of all objects.)

    Args:
        probs: (B, K, H, W) soft; given: (B, K, H, W) one-hot.
    Returns: (B, K, H, W), of sum 1 at each pixel.
    """
    named = given[:, 1:].flatten(2).any(2)[..., None, None]  # (B, K - 1, 1, 1)
    kept = probs[:, 1:] * ~named
    rest = torch.cat([1 - kept.sum(1, keepdim=True), kept], dim=1)
    return torch.where(given[:, :1] > 0, rest, given)


def harden(masks: Tensor) -> Tensor:
    """Soft masks (B, K, H, W) to one-hot ones."""
    return torch.zeros_like(masks).scatter_(1, masks.argmax(1, keepdim=True), 1)
