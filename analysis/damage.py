"""Damage masks by a known amount, on their way into the network: the given ones, or the remembered ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from libs.core.errors import UnreadableError, named
from libs.core.masks import object_ids, one_hot, select_objects
from libs.core.structures import SourceFrame, Video
from libs.evaluation.scores import mean_jaccard
from libs.method.cycle import GradientCorrection
from libs.method.damage import shift_mask, with_background
from libs.method.propagate import Remembered, Step

Change = Callable[[Tensor], Tensor]  # masks (K, H, W) to masks (K, H, W)


# ---- damage -----------------------------------------------------------------------------------------------


def damage_masks(masks: Tensor, kind: str, amount: float) -> Tensor:
    """Damage each object of a frame. Its pixels are those where it is the likeliest channel.

    - 'shift': move it by `amount` times the width of its bounding box, to the side with more room. What
      leaves the frame is gone.
    - 'erode': remove the fraction `amount` of its pixels, those next to its contour first.
    - 'wrong': remove the fraction `amount` of its pixels, the leftmost first, and put as large a fraction of
      a wrong object in their place: of the next object. A single object gets a copy of what it lost, moved
      beside it by the width of its bounding box.

    Args:
        masks: (K, H, W), soft or one-hot, of sum 1 at each pixel.
        amount: 0 to 1; 0 changes nothing.
    Returns: (K, H, W) of sum 1. Where objects overlap, both are scaled down.
    """
    labels = masks.argmax(0).cpu().numpy()
    shown = [k for k in range(1, len(masks)) if (labels == k).any()]
    if not shown or not amount:
        return masks
    objects = list(masks[1:])
    for k, following in zip(shown, [*shown[1:], shown[0]]):
        region = labels == k
        if kind == "shift":
            objects[k - 1] = shift_mask(masks[k], 0, round(amount * step_aside(region)))
        elif kind == "erode":
            objects[k - 1] = masks[k] * _like(region & ~outermost(region, amount), masks)
        else:
            lost = _like(leftmost(region, amount), masks)
            if following == k:
                wrong = shift_mask(masks[k] * lost, 0, step_aside(region))
            else:
                wrong = masks[following] * _like(leftmost(labels == following, amount), masks)
            objects[k - 1] = masks[k] * (1 - lost) + wrong
    return with_background(objects)


def step_aside(region: np.ndarray) -> int:
    """Return the width of the bounding box of a region (H, W) bool; negative if there is more room left."""
    columns = np.flatnonzero(region.any(0))
    first, width = int(columns[0]), int(columns[-1] - columns[0]) + 1
    room_on_the_right = region.shape[1] - first - width
    most = region.shape[1] - 1  # a mask cannot be shifted by more
    return min(width, most) if room_on_the_right >= first else -min(width, most)


def outermost(region: np.ndarray, amount: float) -> np.ndarray:
    """Select the fraction `amount` of a region's pixels that is next to its contour, (H, W) bool.

    The edge of the frame is no contour.
    """
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return _first(region, np.argsort(depth[region], kind="stable"), amount)


def leftmost(region: np.ndarray, amount: float) -> np.ndarray:
    """Select the fraction `amount` of a region's pixels from the left, (H, W) bool."""
    return _first(region, np.argsort(np.nonzero(region)[1], kind="stable"), amount)


def _first(region: np.ndarray, order: np.ndarray, amount: float) -> np.ndarray:
    """Select the fraction `amount` of a region's pixels, in this order of them."""
    chosen = np.zeros(len(order), bool)
    chosen[order[: round(amount * len(order))]] = True
    selected = np.zeros_like(region)
    selected[region] = chosen
    return selected


def _like(region: np.ndarray, masks: Tensor) -> Tensor:
    """Turn a region (H, W) bool into 0 and 1, with the type and the device of `masks`."""
    return torch.from_numpy(region).to(masks)


def damage_labels(labels: np.ndarray, change: Change) -> np.ndarray:
    """Damage the objects of a label map (H, W) uint8. Where objects overlap, the lower id remains."""
    ids = object_ids(labels)
    masks = one_hot(torch.from_numpy(select_objects(labels, ids)), len(ids) + 1)
    return np.array((0, *ids), np.uint8)[change(masks).argmax(0).numpy()]


# ---- how it reaches the network ---------------------------------------------------------------------------


def damage_given(video: Video, change: Change, ious: list[float]) -> Video:
    """Return the same video with damaged given masks. The ground truth to score with stays as it is.

    Args:
        ious: of each damaged mask with the true one; grows while the video is read.
    Raises: UnreadableError, while it is read, if nothing is left of an object.
    """

    def read() -> Iterator[SourceFrame]:
        """Yield the frames."""
        for frame in video.read():
            if frame.given is None:
                yield frame
                continue
            damaged, ids = damage_labels(frame.given, change), object_ids(frame.given)
            lost = sorted(set(ids) - set(object_ids(damaged)))
            if lost:
                raise UnreadableError(
                    f"--amounts: nothing is left of object {named(lost)} in the damaged mask of frame "
                    f"{frame.name}; give smaller amounts"
                )
            if ids:
                ious.append(mean_jaccard(damaged, frame.given, ids))
            yield replace(frame, given=damaged)

    return replace(video, read=read)


class DamagedMemory:
    """A memory policy: damage the masks that stay in the memory, then correct them.

    These are the masks that gradient correction works on, those of every save_freq-th frame.

    Args:
        correction: which of its steps are taken, 0 among them.
        change: what is done to the masks (K, H, W) of a frame.
    """

    def __init__(self, correction: GradientCorrection, change: Change) -> None:
        self.correction, self.change = correction, change
        # Of the newest frame, if its masks stay: (1, K, H, W) as predicted, damaged, and memorized.
        self.newest: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, step: Step) -> Remembered:
        """Return the masks (1, K, H, W) to memorize of `step`."""
        predicted = self.correction.start(step)
        self.newest = None
        if step.t % self.correction.every:
            return self.correction.correct(step, predicted)
        damaged = torch.stack([self.change(masks) for masks in predicted])
        remembered = self.correction.correct(step, damaged)
        self.newest = predicted, damaged, remembered.masks
        return remembered
