"""Objects cut out of photographs in which every object is marked, and how such things move."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import check_size, read_labels
from dataset.synthetic.motion import Motion, Part, Wave, random_wave, stroll
from dataset.synthetic.photos import index_pictures, is_cut_off
from dataset.synthetic.scene import tinted
from libs.core.image_io import image_size, read_image
from libs.core.masks import VOID
from libs.core.structures import VideoIndex

LEAST_PIXELS = 144  # of an object in its photograph; smaller ones are a blur
ENLARGED = 2.5  # most by which the sides of an object are enlarged
DIAMETER = 0.16, 0.6  # of a cutout, that of a disc as large as a fraction of the image's side
WHOLE = 0.8  # fraction of cutouts that must not be cut off by the border of their photograph


@dataclass(frozen=True)
class Photo:
    """image: (H, W, 3) uint8 RGB; labels: (H, W) uint8, every one an object of its own, 0 none and void."""

    image: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Figure:
    """Something cut out, without a place: its parts, and the diameter of a disc as large."""

    parts: tuple[Part, ...]
    diameter: float


def index_instances(root: Path, hint: str = "set root, see DATASET.md") -> list[VideoIndex]:
    """The photographs of `root`/INSTANCES/images and their masks in `root`/INSTANCES/masks.

    Raises: InputError where there are none, with `hint`, or where a mask is missing.
    """
    return index_pictures(root, "INSTANCES", hint)


def read_photo(index: VideoIndex, enough: int) -> Photo:
    """A photograph, reduced where its shorter side has more than twice `enough` pixels.

    Raises: InputError naming a file that cannot be read or does not fit the other.
    """
    path, mask = index.frames[0], index.masks[0]
    size, labels = image_size(path), read_labels(mask)
    check_size(mask, labels, size)
    labels = np.where(labels == VOID, 0, labels).astype(np.uint8)
    shrink = max(1, min(size) // max(1, enough))
    small = (max(1, size[1] // shrink), max(1, size[0] // shrink))
    image = read_image(path, small[::-1])
    if image.shape[1::-1] != small:
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if shrink > 1:
        labels = cv2.resize(labels, small, interpolation=cv2.INTER_NEAREST_EXACT)
    return Photo(image, labels)


def cut_object(rng: np.random.Generator, photo: Photo, unit: float) -> Figure | None:
    """Cut one object out, large ones more often than small ones; None where none is large enough.

    Args:
        unit: pixels of a length of 1.
    """
    areas = np.bincount(photo.labels.ravel())
    areas[0] = 0
    areas[areas < LEAST_PIXELS] = 0
    if not areas.any():
        return None
    for _ in range(6):
        mask = photo.labels == rng.choice(len(areas), p=np.sqrt(areas) / np.sqrt(areas).sum())
        if not is_cut_off(mask) or rng.random() > WHOLE:
            break
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = slice(y, y + height), slice(x, x + width)
    area = int(mask.sum())
    diameter = _log_uniform(rng, *DIAMETER)
    factor = min(diameter * unit * math.sqrt(math.pi) / 2 / math.sqrt(area), ENLARGED)
    paint = np.dstack([photo.image[box], soft(mask[box], shrink=1 if area > 900 else 0)])
    paint = cv2.copyMakeBorder(paint, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    paint[[0, 1, -2, -1], :, 3] = paint[:, [0, 1, -2, -1], 3] = 0
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    paint = cv2.resize(paint, None, fx=factor, fy=factor, interpolation=method)
    paint = np.ascontiguousarray(paint[:, ::-1]) if rng.random() < 0.5 else paint
    return figure_of(paint, 1 / unit, random_ripple(rng))


def figure_of(paint: np.ndarray, pixel: float, ripple: Wave = Wave()) -> Figure:
    """A figure of one part.

    Args:
        paint: (H, W, 4) uint8 RGBA; pixel: length of one of its pixels.
    """
    reach = (pixel * paint.shape[1] / 2, pixel * paint.shape[0] / 2)
    diameter = 2 * pixel * math.sqrt((paint[..., 3] >= 128).sum() / math.pi)
    return Figure((Part(paint, reach, ripple=ripple),), diameter)


def random_ripple(rng: np.random.Generator) -> Wave:
    """How something cut out changes its shape; a third of them stay rigid."""
    return random_wave(rng, rng.choice([0.0, 0.03, 0.08]))


def look_alike(rng: np.random.Generator, figure: Figure) -> Figure:
    """The same in slightly other colours, mirrored half the time."""
    parts = tinted(rng, figure.parts)
    if rng.random() < 0.5:
        parts = tuple(replace(part, paint=np.ascontiguousarray(part.paint[:, ::-1])) for part in parts)
    return replace(figure, parts=parts)


def soft(mask: np.ndarray, shrink: int = 0) -> np.ndarray:
    """Opacity (H, W) uint8 of a mask (H, W) bool, its outline taken back by `shrink` pixels."""
    opacity = mask.astype(np.uint8) * 255
    if shrink:
        opacity = cv2.erode(opacity, np.ones((1 + 2 * shrink,) * 2, np.uint8), borderValue=255)
    return cv2.GaussianBlur(opacity, (3, 3), 0)


def wander(
    rng: np.random.Generator, view: np.ndarray, diameter: float, brisk: float, start: np.ndarray | None = None
) -> Motion:
    """A random path, upright or nearly so as photographs are, that may leave the view and come back.

    Args:
        view: (2,) width and height. brisk: most of its own diameter that it travels in a frame.
        start: (2,) x, y; None: anywhere.
    """
    motion = stroll(rng, view, diameter, brisk, inset=rng.choice([0.12, 0.12, -0.25]))
    if start is None:
        start = rng.uniform(0.12, 0.88, 2) * view
    room = np.stack([np.minimum(motion.room[0], start), np.maximum(motion.room[1], start)])
    return replace(motion, start=start, room=room, facing=rng.normal(0, 0.2))


def crossing(rng: np.random.Generator, goal: Motion, reach: float, time: float) -> Motion:
    """A straight path that hides `goal` at `time` and starts beside it, at least `reach` away."""
    angle = rng.uniform(0, math.tau)
    away = reach * rng.uniform(1.2, 2.0) * np.array([math.cos(angle), math.sin(angle)])
    place = goal.pose(time)[:2, 2]
    return Motion(
        start=place - away,
        velocity=away / time,
        facing=rng.normal(0, 0.3),
        breath=random_wave(rng, 0.2, (0.03, 0.12)),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
