"""Backdrops of INSTANCES: a square of a photograph, and the objects that lie in it."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.cutouts import Figure, Photo, figure_of, soft
from dataset.synthetic.scene import BACKDROP_REACH, MIN_AREA, Size, without

NATIVES = 8  # most objects of the backdrop, the largest in view
NATIVE_DIAMETER = 0.2, 0.6  # of the object around which the backdrop is cut, as DIAMETER
MARGIN = 1.2  # of the view, that the photograph fills at least, so that mirrored borders are rarely seen
CLOSEST = 1.8  # most by which the backdrop is enlarged beyond that


@dataclass(frozen=True)
class Native:
    """An object of the backdrop: how it looks and where it lies."""

    figure: Figure
    box: tuple[slice, slice]  # rows and columns of the backdrop that its paint repeats
    home: np.ndarray  # (2,) x, y of its middle in the scene


def lay_out(rng: np.random.Generator, photo: Photo, size: Size) -> tuple[np.ndarray, list[Native]]:
    """A square of the photograph around one of its objects, (S, S, 3) uint8, and the objects in view."""
    unit = math.sqrt(math.prod(size))
    side = min(512, int(2 * BACKDROP_REACH * unit))
    pixel = 2 * BACKDROP_REACH / side
    view = np.array(size[::-1]) / (unit * pixel)
    onto = _place(rng, photo.labels, view, side)
    backdrop = cv2.warpAffine(photo.image, onto, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(photo.labels, onto, (side, side), flags=cv2.INTER_NEAREST)
    low, high = (np.maximum(np.rint(side / 2 + signals * view / 2).astype(int), 0) for signals in (-1, 1))
    areas = np.bincount(labels[low[1] : high[1], low[0] : high[0]].ravel(), minlength=1)
    areas[0] = 0
    least = MIN_AREA * math.prod(view)
    found = [int(label) for label in np.argsort(-areas)[:NATIVES] if areas[label] >= least]
    middle = np.array(size[::-1]) / unit / 2
    return backdrop, [_native(photo.labels == label, onto, backdrop, middle, pixel) for label in found]


def _place(rng: np.random.Generator, labels: np.ndarray, view: np.ndarray, side: int) -> np.ndarray:
    """(2, 3), from photograph to backdrop: an object of useful size in view, and no border if that can be."""
    shape, areas = np.array(labels.shape[::-1]), np.bincount(labels.ravel())
    areas[0] = 0
    least = MARGIN * float((view / shape).max())
    if not areas.any():
        scale, centre = least * math.exp(rng.uniform(0, 0.4)), rng.uniform(0.3, 0.7, 2) * shape
    else:
        mask = labels == rng.choice(len(areas), p=np.sqrt(areas) / np.sqrt(areas).sum())
        diameter = math.sqrt(math.prod(view)) * math.exp(rng.uniform(*np.log(NATIVE_DIAMETER)))
        scale = float(np.clip(diameter / (2 * math.sqrt(mask.sum() / math.pi)), least, CLOSEST * least))
        rows, columns = np.nonzero(mask)
        point = int(rng.integers(len(rows)))
        centre = np.array([columns[point], rows[point]]) + rng.uniform(-0.3, 0.3, 2) * view / scale
    half = MARGIN * view / scale / 2
    centre = np.clip(centre, np.minimum(half, shape / 2), np.maximum(shape - half, shape / 2))
    return np.array([[scale, 0, side / 2 - scale * centre[0]], [0, scale, side / 2 - scale * centre[1]]])


def _native(
    mask: np.ndarray, onto: np.ndarray, backdrop: np.ndarray, middle: np.ndarray, pixel: float
) -> Native:
    """One object of the backdrop.

    Args:
        mask: (H, W) bool of the photograph; onto: (2, 3) from it to the backdrop; middle: (2,) of the scene.
    """
    side = len(backdrop)
    # beyond its border the photograph is mirrored: objects that touch it go on there, others have a double
    touches = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    paint = mask.astype(np.uint8) * 255
    marked = cv2.warpAffine(paint, onto, (side, side)) >= 128
    if touches:
        mirrored = cv2.warpAffine(paint, onto, (side, side), borderMode=cv2.BORDER_REFLECT_101) >= 128
        pieces = cv2.connectedComponents(mirrored.view(np.uint8))[1]
        marked = np.isin(pieces, np.setdiff1d(pieces[marked], 0))
    x, y, width, height = cv2.boundingRect(marked.view(np.uint8))
    left, top = max(0, x - 2), max(0, y - 2)
    right, bottom = min(side, x + width + 2), min(side, y + height + 2)
    box = slice(top, bottom), slice(left, right)
    home = middle + pixel * (np.array([left + right, top + bottom]) - side) / 2
    return Native(figure_of(np.dstack([backdrop[box], soft(marked[box])]), pixel), box, home)


def emptied(backdrop: np.ndarray, leavers: list[Native]) -> np.ndarray:
    """The backdrop (S, S, 3) uint8 without these."""
    scene = np.dstack([backdrop, np.zeros(backdrop.shape[:2], np.uint8)])
    for native in leavers:
        opacity = scene[native.box][..., 3]
        np.maximum(opacity, native.figure.parts[0].paint[..., 3], out=opacity)
    return without(scene)
