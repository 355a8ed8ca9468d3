"""Backdrops of INSTANCES: a square of a photograph, and the labelled objects in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.cutouts import Figure, Photo, figure_from_texture, soft_mask
from dataset.synthetic.motion import Wave
from dataset.synthetic.render import BACKDROP_HALF_SIDE, MIN_AREA, Size
from dataset.synthetic.scene import inpaint_marked

MAX_OBJECTS = 8  # of the backdrop, the largest in view
DIAMETER = 0.2, 0.6  # range for the object that the crop is chosen around, in units of sqrt(H * W)
# The photograph covers at least so many times the view, so that mirrored borders are rarely seen.
MARGIN = 1.2
MAX_ENLARGEMENT = 1.8  # of the photograph, beyond what MARGIN needs


@dataclass(frozen=True)
class BackdropObject:
    """An object of the backdrop: its appearance and its place."""

    figure: Figure
    box: tuple[slice, slice]  # rows and columns of the backdrop that its texture repeats
    centre: np.ndarray  # (2,) x, y in the scene


def cut_backdrop(
    rng: np.random.Generator, photo: Photo, size: Size
) -> tuple[np.ndarray, list[BackdropObject]]:
    """Cut a square around a random object of the photograph.

    Returns: the square, (S, S, 3) uint8 RGB, and the objects that are in view.
    """
    unit = math.sqrt(math.prod(size))
    side = min(512, int(2 * BACKDROP_HALF_SIDE * unit))
    pixel = 2 * BACKDROP_HALF_SIDE / side  # length of a pixel of the backdrop
    view = np.array(size[::-1]) / (unit * pixel)  # width and height of what the camera sees, in those pixels
    to_backdrop = _choose_crop(rng, photo.labels, view, side)
    backdrop = cv2.warpAffine(photo.image, to_backdrop, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(photo.labels, to_backdrop, (side, side), flags=cv2.INTER_NEAREST)
    low, high = (np.maximum(np.rint(side / 2 + sign * view / 2).astype(int), 0) for sign in (-1, 1))
    areas = np.bincount(labels[low[1] : high[1], low[0] : high[0]].ravel(), minlength=1)
    areas[0] = 0
    min_area = MIN_AREA * math.prod(view)
    in_view = [int(label) for label in np.argsort(-areas)[:MAX_OBJECTS] if areas[label] >= min_area]
    middle = np.array(size[::-1]) / unit / 2
    objects = [_find_object(photo.labels == i, to_backdrop, backdrop, middle, pixel) for i in in_view]
    return backdrop, objects


def _choose_crop(rng: np.random.Generator, labels: np.ndarray, view: np.ndarray, side: int) -> np.ndarray:
    """Draw the (2, 3) matrix from photograph to backdrop.

    An object of a useful size is in view; the border of the photograph is not, if that is possible.
    """
    shape, areas = np.array(labels.shape[::-1]), np.bincount(labels.ravel())
    areas[0] = 0
    min_scale = MARGIN * float((view / shape).max())
    if not areas.any():
        scale, centre = min_scale * math.exp(rng.uniform(0, 0.4)), rng.uniform(0.3, 0.7, 2) * shape
    else:
        mask = labels == rng.choice(len(areas), p=np.sqrt(areas) / np.sqrt(areas).sum())
        diameter = math.sqrt(math.prod(view)) * math.exp(rng.uniform(*np.log(DIAMETER)))
        scale = diameter / (2 * math.sqrt(mask.sum() / math.pi))
        scale = float(np.clip(scale, min_scale, MAX_ENLARGEMENT * min_scale))
        # A random pixel of the object lies near the middle of the view, not always the object's centre.
        rows, columns = np.nonzero(mask)
        point = int(rng.integers(len(rows)))
        centre = np.array([columns[point], rows[point]]) + rng.uniform(-0.3, 0.3, 2) * view / scale
    half = MARGIN * view / scale / 2
    centre = np.clip(centre, np.minimum(half, shape / 2), np.maximum(shape - half, shape / 2))
    return np.array([[scale, 0, side / 2 - scale * centre[0]], [0, scale, side / 2 - scale * centre[1]]])


def _find_object(
    mask: np.ndarray, to_backdrop: np.ndarray, backdrop: np.ndarray, middle: np.ndarray, pixel: float
) -> BackdropObject:
    """Find an object of the photograph in the backdrop.

    Args:
        mask: (H, W) bool, of the photograph. to_backdrop: (2, 3), from it to the backdrop.
        middle: (2,) x, y of the view's centre in the scene. pixel: length of a pixel of the backdrop.
    """
    side = len(backdrop)
    texture = mask.astype(np.uint8) * 255
    visible = cv2.warpAffine(texture, to_backdrop, (side, side)) >= 128
    # The photograph is mirrored beyond its border: an object that touches the border continues there, and
    # belongs to it in one piece; any other object appears a second time, which is no part of it.
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        mirrored = (
            cv2.warpAffine(texture, to_backdrop, (side, side), borderMode=cv2.BORDER_REFLECT_101) >= 128
        )
        pieces = cv2.connectedComponents(mirrored.view(np.uint8))[1]
        visible = np.isin(pieces, np.setdiff1d(pieces[visible], 0))
    x, y, width, height = cv2.boundingRect(visible.view(np.uint8))
    left, top = max(0, x - 2), max(0, y - 2)
    right, bottom = min(side, x + width + 2), min(side, y + height + 2)
    box = slice(top, bottom), slice(left, right)
    centre = middle + pixel * (np.array([left + right, top + bottom]) - side) / 2
    figure = figure_from_texture(np.dstack([backdrop[box], soft_mask(visible[box])]), pixel, Wave())
    return BackdropObject(figure, box, centre)


def remove_objects(backdrop: np.ndarray, objects: Sequence[BackdropObject]) -> np.ndarray:
    """Inpaint these objects in a backdrop (S, S, 3) uint8 RGB. Returns: the same shape and type."""
    marked = np.dstack([backdrop, np.zeros(backdrop.shape[:2], np.uint8)])
    for removed in objects:
        opacity = marked[removed.box][..., 3]
        np.maximum(opacity, removed.figure.parts[0].texture[..., 3], out=opacity)
    return inpaint_marked(marked)
