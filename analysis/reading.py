"""Compute where attention goes: which memory frames an object or a pixel is read from, and where in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from analysis.common import Moment
from models.memory_read import read_weights
from models.stm import padding

STRIDE = 16  # pixels of the network's input for each position of memory and query
KINDS = ("first", "kept", "previous")  # frames of the memory


# ---- weights ----------------------------------------------------------------------------------------------


def read_from(keys: Tensor, query: Tensor, focus: Tensor) -> Tensor:
    """Average the weights of the memory read over query positions.

    Args:
        keys: (N, Ck), of one object's memory.
        query: (Ck, h, w), keys of the query image.
        focus: (h, w), how much each query position counts, of sum 1.
    Returns: (N,), of sum 1. No more weights exist at a time than in the memory read itself.
    """
    positions = query.flatten(1).T  # (h*w, Ck)
    counted = focus.flatten().nonzero().flatten()
    chosen = focus.flatten()[counted]
    total, start = keys.new_zeros(len(keys), dtype=chosen.dtype), 0
    for weights in read_weights(keys[None], positions[None, counted]):
        part = chosen[start : start + weights.shape[1]]
        total = total + part @ weights[0].to(chosen.dtype)
        start += len(part)
    return total


def focus_on(mask: Tensor, pad_to: int) -> Tensor:
    """Return the fraction of a mask's pixels that is nearest to each position of the network's stride-16 map.

    Position (i, j) is centred at pixel (16 i, 16 j) of the padded input.

    Args:
        mask: (H, W), not 0 everywhere.
        pad_to: of the network, see STM.
    Returns: (h, w), of sum 1.
    """
    rows, columns = (_nearest(side, pad_to) for side in mask.shape)
    h, w = int(rows[-1]) + 1, int(columns[-1]) + 1
    cells = mask.new_zeros(h * w).index_add(0, (rows[:, None] * w + columns).flatten(), mask.flatten())
    return cells.view(h, w) / cells.sum()


def _nearest(side: int, pad_to: int) -> Tensor:
    """Return the nearest position of each pixel along one side of the input, (side,)."""
    before, after = padding(side, pad_to)
    positions = -(-(before + side + after) // STRIDE)
    return ((torch.arange(side) + before + STRIDE // 2) // STRIDE).clamp(max=positions - 1)


def spread(maps: np.ndarray, size: tuple[int, int], pad_to: int) -> np.ndarray:
    """Enlarge a map of positions to the network's input, bilinear; the inverse of `focus_on`.

    Args:
        maps: (h, w); size: (H, W) of the input, before padding.
    Returns: (H, W) float32, with the values of `maps` at the centres of its positions.
    """
    rows, columns = ((np.arange(side) + padding(side, pad_to)[0]) / STRIDE for side in size)
    x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return cv2.remap(maps.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


# ---- one frame --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """How much is read from one memory frame for one object in one frame."""

    frame: str
    object: int
    memory_frame: str
    kind: str  # one of KINDS: the object's first frame, the previous frame, or another one
    mass: float  # fraction of the attention; the masses of a frame and object have sum 1


@dataclass(frozen=True)
class Reading:
    """Where attention goes for one object in one frame."""

    times: list[int]  # of the memory frames
    maps: np.ndarray  # (frames, h, w), of sum 1

    @property
    def masses(self) -> np.ndarray:
        """(frames,) of sum 1."""
        return self.maps.sum((1, 2))


def read_object(moment: Moment, number: int, focus: Tensor) -> Reading | None:
    """Compute where the read of one object goes; None if it is new, so that no frame is remembered yet.

    Args:
        focus: (h, w), see `read_from`.
    """
    channel = 1 + moment.ids.index(number)
    for memory, times in zip(moment.bank.read(), moment.bank.read_times()):
        rows = (memory.objects.channel == channel).nonzero().flatten().tolist()
        if rows:
            query = moment.query.key[0]
            read = read_from(memory.keys[rows[0]], query, focus.to(query.device))
            return Reading(times, read.view(len(times), *query.shape[1:]).cpu().numpy())
    return None


def mask_of(moment: Moment, number: int, pixel: Sequence[int] | None) -> np.ndarray:
    """Return the pixels to read for, (H, W) bool: those of the object, or the one that shows `pixel`.

    Args:
        pixel: (x, y) in the source frame.
    """
    mask = moment.predicted(number)
    if pixel is None:
        return mask
    box = moment.view.box(moment.source_size)
    inside = zip(reversed(pixel), box.size, box.source, box.box)
    y, x = (part.start + min(size - 1, int((at + 0.5) * size / source)) for at, size, source, part in inside)
    mask[:] = False
    mask[y, x] = True
    return mask
