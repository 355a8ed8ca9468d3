"""Objects cut out of photographs in which all objects are labelled, and how such objects move."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import Annotations
from dataset.synthetic.motion import Motion, Part, Wave, random_motion, random_wave
from dataset.synthetic.photos import index_images, is_cut_off
from dataset.synthetic.scene import tinted
from libs.core.image_io import image_size, read_image
from libs.core.masks import VOID
from libs.core.structures import VideoIndex

MIN_PIXELS = 144  # of an object in its photograph; smaller ones have no detail
MAX_ENLARGEMENT = 2.5  # of the sides of an object
DIAMETER = 0.16, 0.6  # range of a cutout's diameter, that of a disc of the same area; sqrt(H * W) is 1
WHOLE = 0.8  # fraction of cutouts that must not be cut off by the border of their photograph
CUTOUT_DRAWS = 6  # of an object, until one is not cut off


@dataclass(frozen=True)
class Photo:
    """A photograph in which every label is an object of its own."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray  # (H, W) uint8; 0: background or void


@dataclass(frozen=True)
class Figure:
    """A figure that has no place in a scene yet."""

    parts: tuple[Part, ...]
    diameter: float  # of a disc of the same area


def index_instances(root: Path, hint: str = "set root, see DATASET.md") -> list[VideoIndex]:
    """List the photographs in `root`/INSTANCES/images with their masks in `root`/INSTANCES/masks.

    Raises: InputError if there are none (the message ends with `hint`), or if a mask is missing.
    """
    return index_images(root, "INSTANCES", hint, binary=False)


def read_photo(index: VideoIndex, min_side: int) -> Photo:
    """Read a photograph, reduced by a whole factor as long as its shorter side keeps `min_side` pixels.

    Raises: InputError naming a file that cannot be read, or a mask of another size than its image.
    """
    path = index.frames[0]
    size = image_size(path)
    labels = Annotations(index, warn=None).read(0, size)
    labels = np.where(labels == VOID, 0, labels).astype(np.uint8)
    shrink = max(1, min(size) // max(1, min_side))
    small = (max(1, size[1] // shrink), max(1, size[0] // shrink))
    image = read_image(path, small[::-1])  # may decode at a reduced size, which need not be exactly `small`
    if image.shape[1::-1] != small:
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if shrink > 1:
        labels = cv2.resize(labels, small, interpolation=cv2.INTER_NEAREST_EXACT)
    return Photo(image, labels)


def cut_object(rng: np.random.Generator, photo: Photo, unit: float) -> Figure | None:
    """Cut out a random object, large ones more often than small ones; None if none is large enough.

    Args:
        unit: pixels of a length of 1.
    """
    areas = np.bincount(photo.labels.ravel())
    areas[0] = 0
    areas[areas < MIN_PIXELS] = 0
    if not areas.any():
        return None
    for _ in range(CUTOUT_DRAWS):
        mask = photo.labels == rng.choice(len(areas), p=np.sqrt(areas) / np.sqrt(areas).sum())
        if not is_cut_off(mask) or rng.random() > WHOLE:
            break
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = slice(y, y + height), slice(x, x + width)
    area = int(mask.sum())
    diameter = _log_uniform(rng, *DIAMETER)
    factor = min(diameter * unit * math.sqrt(math.pi) / 2 / math.sqrt(area), MAX_ENLARGEMENT)
    # Erode: the outermost pixels of an object show its old background and would betray what was pasted.
    alpha = soft_mask(mask[box], shrink=1 if area > 900 else 0)
    # A transparent border lets the outline fade when the texture is warped.
    texture = cv2.copyMakeBorder(np.dstack([photo.image[box], alpha]), 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    texture[[0, 1, -2, -1], :, 3] = texture[:, [0, 1, -2, -1], 3] = 0
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    texture = cv2.resize(texture, None, fx=factor, fy=factor, interpolation=method)
    texture = np.ascontiguousarray(texture[:, ::-1]) if rng.random() < 0.5 else texture
    return figure_from_texture(texture, 1 / unit, random_ripple(rng))


def figure_from_texture(texture: np.ndarray, pixel: float, ripple: Wave) -> Figure:
    """Make a figure of one part.

    Args:
        texture: (H, W, 4) uint8 RGBA. pixel: length of one of its pixels.
    """
    half_size = (pixel * texture.shape[1] / 2, pixel * texture.shape[0] / 2)
    diameter = 2 * pixel * math.sqrt((texture[..., 3] >= 128).sum() / math.pi)
    return Figure((Part(texture, half_size, ripple=ripple),), diameter)


def random_ripple(rng: np.random.Generator) -> Wave:
    """Draw how a cutout changes its shape over time; one in three stays rigid."""
    return random_wave(rng, rng.choice([0.0, 0.03, 0.08]))


def tinted_copy(rng: np.random.Generator, figure: Figure) -> Figure:
    """Return a copy in slightly different colours, mirrored half the time."""
    parts = tinted(rng, figure.parts)
    if rng.random() < 0.5:
        parts = tuple(replace(part, texture=np.ascontiguousarray(part.texture[:, ::-1])) for part in parts)
    return replace(figure, parts=parts)


def soft_mask(mask: np.ndarray, shrink: int = 0) -> np.ndarray:
    """Turn a mask (H, W) bool into opacity (H, W) uint8: erode it by `shrink` pixels and soften its edges."""
    opacity = mask.astype(np.uint8) * 255
    # Beyond its border the mask counts as object, so that a side that is cut off is not eroded; a kernel of 1
    # pixel changes nothing.
    kernel = np.ones((1 + 2 * shrink, 1 + 2 * shrink), np.uint8)
    return cv2.GaussianBlur(cv2.erode(opacity, kernel, borderValue=255), (3, 3), 0)


def upright_motion(
    rng: np.random.Generator,
    view: np.ndarray,
    diameter: float,
    max_speed: float,
    start: np.ndarray | None = None,
) -> Motion:
    """Draw a path that may leave the view and return. The figure stays nearly upright, as in photographs.

    Args:
        view: (2,) width and height. max_speed: in own diameters per frame.
        start: (2,) x, y; None: anywhere.
    """
    motion = random_motion(rng, view, diameter, max_speed, inset=rng.choice([0.12, 0.12, -0.25]))
    if start is None:
        start = rng.uniform(0.12, 0.88, 2) * view
    assert motion.bounds is not None  # random_motion sets them; widen them to hold the start
    bounds = np.stack([np.minimum(motion.bounds[0], start), np.maximum(motion.bounds[1], start)])
    return replace(motion, start=start, bounds=bounds, angle=rng.normal(0, 0.2))


def crossing_motion(rng: np.random.Generator, goal: Motion, distance: float, time: float) -> Motion:
    """Draw a straight path that meets `goal` at `time` and starts at least `distance` away from there."""
    angle = rng.uniform(0, math.tau)
    offset = distance * rng.uniform(1.2, 2.0) * np.array([math.cos(angle), math.sin(angle)])
    meeting = goal.pose(time)[:2, 2]
    return Motion(
        start=meeting - offset,
        velocity=offset / time,
        angle=rng.normal(0, 0.3),
        pulsing=random_wave(rng, 0.2, (0.03, 0.12)),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
