"""Crops of recorded training clips (`framing crop`): a window around one object, at the scale of the test.

A 16:9 frame letterboxed into a square wastes 44 % of the pixels and shows objects at half their test size.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from libs.core.masks import Letterbox, object_ids

SHAKE = 0.04  # largest random shift of a later frame's window, as a fraction of its side, and largest zoom
# An object is well in view if it covers this fraction of the window, or if this much of itself is visible.
ENOUGH = 0.02
ENOUGH_OF_ITSELF = 0.3
TRIES = 8  # windows tried per clip


@dataclass(frozen=True)
class Crop:
    """How recorded clips are cropped.

    test_size: (height, width) of the network's input at test time, into which a frame would be letterboxed.
    zoom: smallest and largest factor on that scale, drawn log-uniformly once per clip.
    """

    test_size: tuple[int, int] = (240, 427)
    zoom: tuple[float, float] = (0.8, 1.4)

    def draw_target(self, rng: np.random.Generator, shrink: float = 1.0) -> tuple[int, int]:
        """Draw the zoom of one clip: (height, width) of the box into which its frames are scaled.

        Args:
            shrink: size of the window relative to the config's `input_size`. A smaller window gets a smaller
                zoom, so that it still shows the object and its surroundings; a larger one shows more.
        """
        zoom = min(1.0, shrink) * math.exp(rng.uniform(*np.log(self.zoom)))
        height, width = self.test_size
        return max(1, round(zoom * height)), max(1, round(zoom * width))


def scale(images: list[np.ndarray], labels: list[np.ndarray], target: tuple[int, int]) -> None:
    """Resize every frame to fit into `target` (height, width), in place of the lists' entries.

    Args:
        images: T of (Hs, Ws, 3) uint8, in landscape format; labels: T of (Hs, Ws) uint8.
    """
    for t, (image, label) in enumerate(zip(images, labels)):
        height, width = Letterbox(image.shape[:2], target).size
        images[t] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        labels[t] = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def cut(
    images: list[np.ndarray], labels: list[np.ndarray], size: tuple[int, int], rng: np.random.Generator
) -> None:
    """Cut a window around a random object of the first frame from every frame.

    The windows replace the lists' entries. The window is placed so that a random pixel of the object lies
    near its middle. It stays within the frame; along a side of the frame that is shorter than the window, the
    frame stays within the window, padded with 0. The windows of later frames are shifted and zoomed at
    random, by up to SHAKE.

    Args:
        images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8; size: (H, W) of the window.
    """
    corner = _choose_corner(labels[0], size, rng)
    for t, (image, label) in enumerate(zip(images, labels)):
        shake = SHAKE * rng.uniform(-1, 1, 3) if t else np.zeros(3)  # the first frame is the sharp reference
        zoom, middle = math.exp(shake[2]), (0.5 + shake[:2]) * size  # of the window
        start = _clamp(zoom * (corner + middle) - np.array(size) / 2, zoom * np.array(label.shape), size)
        # From pixels of the frame to those of the window. Without a zoom, it shifts by whole pixels only.
        matrix = np.array([[zoom, 0, -start[1]], [0, zoom, -start[0]]], np.float64)
        images[t] = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR)
        labels[t] = cv2.warpAffine(label, matrix, size[::-1], flags=cv2.INTER_NEAREST)


def _choose_corner(labels: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Upper left corner (y, x) of the first window: a try with the object well in view, or the best."""
    ids = object_ids(labels)
    if not ids:
        return _clamp(rng.uniform(0, 1, 2) * labels.shape - np.array(size) / 2, labels.shape, size)
    mask = labels == rng.choice(ids)
    points = np.argwhere(mask)
    best, most = np.zeros(2, int), -1  # replaced by the first try
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
    """The nearest whole (y, x) that leaves the window inside the frame, or the frame inside the window."""
    spare = np.floor(np.array(frame) - size).astype(int)
    return np.clip(np.rint(corner).astype(int), np.minimum(spare, 0), np.maximum(spare, 0))
