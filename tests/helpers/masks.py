"""Mask files of every kind, right and wrong, for the tests of how masks are read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from libs.core.masks import palette
from tests.helpers import fake_datasets

Pixels = np.ndarray | Image.Image
Blur = Callable[[np.ndarray], np.ndarray]


def labels(*ids: int) -> np.ndarray:
    """(H, W) uint8: a square per object."""
    return fake_datasets.scene(list(ids))[1]


def blur(values: np.ndarray) -> np.ndarray:
    return cv2.blur(values, (3, 3))


def enlarge(values: np.ndarray, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Keep every second pixel, and enlarge to the old size."""
    height, width = values.shape[:2]
    return cv2.resize(values[::2, ::2], (width, height), interpolation=how)


def grid(count: int, first: int = 1) -> np.ndarray:
    """(48, 64) uint8: `count` objects of 4x4 pixels with consecutive labels, apart from each other."""
    found = np.zeros(fake_datasets.SIZE, np.uint8)
    for i in range(count):
        y, x = 5 * (i // 12), 5 * (i % 12)
        found[y : y + 4, x : x + 4] = first + i
    return found


def spots(*ids: int, side: int = 2) -> np.ndarray:
    """(48, 64) uint8: tiny objects that do not touch."""
    found = np.zeros(fake_datasets.SIZE, np.uint8)
    for i, label in enumerate(ids):
        found[10 : 10 + side, 8 * i + 2 : 8 * i + 2 + side] = label
    return found


def coloured(*colours: tuple[int, int, int]) -> np.ndarray:
    """(H, W, 3) uint8: a square per colour."""
    table = np.array([(0, 0, 0), *colours], np.uint8)
    return table[labels(*range(1, len(colours) + 1))]


def grey(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with R = G = B."""
    return np.dstack([values] * 3)


def indexed(values: np.ndarray, colours: Sequence[Sequence[int]] | np.ndarray | None = None) -> Image.Image:
    """A palette image; by default with the DAVIS palette."""
    image = Image.fromarray(values)
    image.putpalette(np.array(palette() if colours is None else colours, np.uint8).tobytes())
    return image


def in_alpha(values: np.ndarray, mode: str = "RGBA") -> Image.Image:
    """A white image with the shape in its alpha channel."""
    image = Image.new(mode.removesuffix("A"), values.shape[::-1], "white")
    image.putalpha(Image.fromarray(np.where(values, 255, 0).astype(np.uint8)))
    return image


def save(path: Path, pixels: Pixels, suffix: str = "", **options: object) -> None:
    """Write a mask in place of the one at `path`, perhaps with another suffix."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(path.with_suffix(suffix) if suffix else path, **options)
