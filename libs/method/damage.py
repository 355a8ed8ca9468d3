"""Damage masks before they are memorized, so that training shows the network memories as poor as real ones.

Not in the papers. In a test, a mask may be lost for a frame or lie beside its object. A network that has
memorized nothing but good masks does not find the object again.
"""

import random
import zlib

import torch
from torch import Tensor

from libs.method.propagate import Remember, Remembered, Step

LARGEST_SHIFT = 0.25  # of the frame's height and width


def damage_some(remember: Remember, probability: float, truth: Tensor) -> Remember:
    """Wrap a memory policy: with this probability, the mask of an object is lost or shifted.

    What happens to a clip is drawn from its masks alone. So it does not depend on the number of processes,
    or on whether training was resumed.

    Args:
        remember: chooses the masks.
        probability: for each object in each memorized frame. Half of the damaged masks are lost.
        truth: (B, T, K, H, W) one-hot.
    """
    labels = truth.argmax(2).to(torch.uint8).cpu().numpy()
    seeds = [zlib.crc32(clip.tobytes()) for clip in labels]

    def damaged(step: Step) -> Remembered:
        """Memorize the policy's masks, some of them damaged."""
        chosen = remember(step)
        clips = []
        for seed, masks in zip(seeds, chosen.masks, strict=True):
            objects = [
                _damage(mask, probability, random.Random(f"{seed} {step.t} {k}"))
                for k, mask in enumerate(masks[1:], start=1)
            ]
            clips.append(with_background(objects) if objects else masks)
        return chosen._replace(masks=torch.stack(clips))

    return damaged


def _damage(mask: Tensor, probability: float, rng: random.Random) -> Tensor:
    """Leave a mask (H, W) as it is, empty it, or shift it."""
    if rng.random() >= probability:
        return mask
    if rng.random() < 0.5:
        return torch.zeros_like(mask)
    down, right = (round(rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT) * size) for size in mask.shape)
    return shift_mask(mask, down, right)


def shift_mask(mask: Tensor, down: int, right: int) -> Tensor:
    """Shift a mask (H, W) by pixels, fewer than it has; what leaves the frame is gone, and zeros come in."""
    height, width = mask.shape
    shifted = torch.zeros_like(mask)
    shifted[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = mask[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return shifted


def with_background(objects: list[Tensor]) -> Tensor:
    """Put masks (H, W) and what they leave to the background together: (K, H, W) that sum up to 1."""
    masks = torch.stack(objects)
    total = masks.sum(0)
    # Where a shifted mask lies on another object, both are scaled down.
    return torch.cat([(1 - total).clamp(min=0)[None], masks / total.clamp(min=1)])
