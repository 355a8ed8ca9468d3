"""Mask files: label numbers in palette or grey PNGs, one object as 255, or a colour for each object."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.core.errors import UnreadableError
from libs.core.image_io import open_image
from libs.core.masks import VOID, palette
from libs.core.structures import VideoIndex

MAX_OBJECTS = (
    64  # more labels or colours than this in one video are the smoothed edges of a mask, not objects
)


@dataclass(frozen=True)
class MaskStyle:
    """How the masks of one video say which object a pixel belongs to.

    binary: whatever is above 0 is object 1. colours: of objects 1, 2, ... in RGB masks, each as one number; None where
    masks hold label numbers.
    """

    binary: bool = False
    colours: tuple[int, ...] | None = None


def find_style(index: VideoIndex, positions: Iterable[int]) -> MaskStyle:
    """Look at the masks at these positions of a video whose index leaves the style open.

    Colours of the DAVIS palette keep their labels; others are numbered in the order of their RGB values.

    Raises: InputError for smoothed (anti-aliased) masks.
    """
    if index.binary is not None:
        return MaskStyle(index.binary)
    values: set[int] = set()
    coloured = False
    for path in (index.masks[position] for position in sorted(positions)):
        raw = _read(path)
        coloured |= raw.ndim == 3
        values |= {int(v) for v in np.unique(_pack(raw) if raw.ndim == 3 else raw)} - {0}
        if len(values) > MAX_OBJECTS:
            raise UnreadableError(
                f"{path}: expected one label or colour an object, found {len(values)} of them: the mask has smoothed "
                "(anti-aliased) edges; save it again without smoothing, as PNG"
            )
    if not coloured:
        return MaskStyle(binary=values == {VOID})
    known = [int(colour) for colour in _pack(palette())[1:VOID]]
    return MaskStyle(colours=tuple(known if values <= set(known) else sorted(values)))


def read_labels(path: Path, style: MaskStyle = MaskStyle()) -> np.ndarray:
    """Label map as (Hs, Ws) uint8.

    Raises: InputError naming the file, also for RGB masks where the style has no colours.
    """
    labels = _read(path)
    if labels.ndim == 3:
        if style.colours is None:
            raise UnreadableError(
                f"{path}: expected a mask of label numbers (palette or grey PNG), found colours (mode RGB)"
            )
        packed = _pack(labels)
        labels = np.zeros(packed.shape, np.uint8)
        for number, colour in enumerate(style.colours, start=1):
            labels[packed == colour] = number
    return (labels > 0).astype(np.uint8) if style.binary else labels


def check_size(path: Path, labels: np.ndarray, size: tuple[int, int]) -> None:
    """Whether the mask of `path` fits its frame of `size` (height, width).

    Raises: InputError naming the file where not.
    """
    if labels.shape != size:
        raise UnreadableError(
            f"{path}: expected a mask of its frame's size {size[1]}x{size[0]}, found {labels.shape[1]}x{labels.shape[0]}"
        )


def _read(path: Path) -> np.ndarray:
    """(Hs, Ws) uint8 label numbers, or (Hs, Ws, 3) uint8 colours."""
    with open_image(path, "mask") as image:
        if image.mode in ("P", "L"):
            return np.array(image)
        if image.mode in ("LA", "1"):  # one mask of DAVIS 2016 has an alpha channel (LA)
            return np.array(image.convert("L"))
        if image.mode in ("RGB", "RGBA"):
            return np.array(image.convert("RGB"))
        raise UnreadableError(
            f"{path}: expected a palette, grey or RGB mask of 8 bits, found mode {image.mode}"
        )


def _pack(colours: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 to (...) int32, one number a colour."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
