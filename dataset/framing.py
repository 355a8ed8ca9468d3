"""Crops of recorded training clips at the scale of the test: a window around one object.

A 16:9 frame that is letterboxed into a square wastes 44 % of the pixels and shows objects at half their
test size.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from libs.core.masks import Letterbox, object_ids

SHAKE = 0.04  # most by which a later frame's window is moved, as a fraction of its side, and zoomed
ENOUGH = 0.02  # of the window; an object that shows as much, or ENOUGH_OF_ITSELF, is well in view
ENOUGH_OF_ITSELF = 0.3
TRIES = 8


@dataclass(frozen=True)
class Crop:
    """How recorded clips are cropped.

    test_size: (height, width) of the network's input at test time, into which a frame would be letterboxed.
    zoom: least and greatest factor on that scale, drawn log-uniformly once per clip.
    """

    test_size: tuple[int, int] = (240, 427)
    zoom: tuple[float, float] = (0.8, 1.4)

    def draw_target(self, rng: np.random.Generator, shrink: float = 1.0) -> tuple[int, int]:
        """(height, width) of the box into which the frames of one clip fit.

        Args:
            shrink: size of the window relative to the config's `input_size`. A smaller window gets a smaller
                zoom, so that it still shows the object and what surrounds it; a larger one shows more.
        """
        zoom = min(1.0, shrink) * math.exp(rng.uniform(*np.log(self.zoom)))
        return tuple(max(1, round(zoom * side)) for side in self.test_size)


def scale(images: list[np.ndarray], labels: list[np.ndarray], target: tuple[int, int]) -> None:
    """Resize every frame to fit into `target` (height, width), in place of the list's entries.

    Args:
        images: T of (Hs, Ws, 3) uint8, upright; labels: T of (Hs, Ws) uint8.
    """
    for t, (image, label) in enumerate(zip(images, labels)):
        size = Letterbox(image.shape[:2], target).size[::-1]
        images[t] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        labels[t] = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)


def cut(
    images: list[np.ndarray], labels: list[np.ndarray], size: tuple[int, int], rng: np.random.Generator
) -> None:
    """Cut a window around an object of the first frame from every frame, in place of the list's entries.

    The window is placed so that a random pixel of the object lies near its middle. It stays within the frame;
    along a side that is shorter than the window, the frame stays within the window, padded with 0. The
    windows of later frames shake.

    Args:
        images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8; size: (H, W) of the window.
    """
    corner = _choose_corner(labels[0], size, rng)
    for t, (image, label) in enumerate(zip(images, labels)):
        shake = SHAKE * rng.uniform(-1, 1, 3) if t else np.zeros(3)
        zoom, middle = math.exp(shake[2]), (0.5 + shake[:2]) * size  # of the window
        start = _clamp(zoom * (corner + middle) - np.array(size) / 2, zoom * np.array(label.shape), size)
        # maps pixels of the frame to the window; where nothing is zoomed, it only moves whole pixels
        onto = np.float64([[zoom, 0, -start[1]], [0, zoom, -start[0]]])
        images[t] = cv2.warpAffine(image, onto, size[::-1], flags=cv2.INTER_LINEAR)
        labels[t] = cv2.warpAffine(label, onto, size[::-1], flags=cv2.INTER_NEAREST)


def _choose_corner(labels: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(y, x) of the first window's upper left corner; the chosen object is well in view if a try succeeds."""
    ids = object_ids(labels)
    if not ids:
        return _clamp(rng.uniform(0, 1, 2) * labels.shape - np.array(size) / 2, labels.shape, size)
    mask = labels == rng.choice(ids)
    points = np.argwhere(mask)
    best, most = None, -1
    for _ in range(TRIES):
        point, within = points[rng.integers(len(points))], rng.uniform(0.25, 0.75, 2)  # near the middle
        corner = _clamp(point - within * size, labels.shape, size)
        top, left = np.maximum(corner, 0)
        shown = int(mask[top : corner[0] + size[0], left : corner[1] + size[1]].sum())
        if shown > most:
            best, most = corner, shown
        if shown >= min(ENOUGH * math.prod(size), ENOUGH_OF_ITSELF * len(points)):
            break
    return best


def _clamp(corner: np.ndarray, frame: tuple[int, int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest whole (y, x) with the window inside the frame, or the frame inside the window."""
    spare = np.floor(np.array(frame) - size).astype(int)
    return np.clip(np.rint(corner).astype(int), np.minimum(spare, 0), np.maximum(spare, 0))
