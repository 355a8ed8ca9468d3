"""Augmentation 'paper' as DALI does it: one matrix and one interpolation for all geometric steps.

PIL takes the same steps one after the other (dataset/transforms.py) and interpolates three times.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dataset.transforms import BRIGHTNESS, CONTRAST, CROP, MIRROR, ROTATE, SCALE, SHEAR
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD, VOID, Letterbox

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode  # an extra package, which most users do without


@dataclass(frozen=True)
class Augmentation:
    """One draw for all frames of a clip; the defaults change nothing."""

    crop: tuple[float, ...] = (0, 0, 0, 0)  # top, right, bottom, left, as fractions of height and width
    scale: float = 1
    shear: float = 0  # degrees
    rotate: float = 0  # degrees, clockwise
    contrast: float = 1  # factor on the values
    brightness: int = 0  # offset, of 255
    mirror: bool = False

    def kept(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns that the crop leaves, rounded to whole pixels as imgaug does."""
        top, right, bottom, left = (
            round(side * fraction) for side, fraction in zip((height, width) * 2, self.crop)
        )
        return slice(top, height - bottom), slice(left, width - right)


def draw_augmentation(rng: np.random.Generator) -> Augmentation:
    """Draw within the ranges of the PIL loader.

    Takes one number from `rng`, as the PIL loader does, so that both loaders then choose the same objects.
    """
    own = np.random.default_rng(int(rng.integers(2**31)))
    return Augmentation(
        crop=tuple(own.uniform(0, CROP, 4).tolist()),
        scale=own.uniform(*SCALE),
        shear=own.uniform(*SHEAR),
        rotate=own.uniform(*ROTATE),
        contrast=own.uniform(*CONTRAST),
        brightness=int(own.integers(BRIGHTNESS[0], BRIGHTNESS[1] + 1)),
        mirror=bool(own.random() < MIRROR),
    )


def warp_matrix(augmentation: Augmentation, letterbox: Letterbox, portrait: bool) -> np.ndarray:
    """The map from a point of the result to one of the source, in pixels (x, y) from the upper left corner.

    Args:
        letterbox: of the source in landscape format. portrait: the source is still in portrait format.
    Returns: (2, 3) float32.
    """
    height, width = letterbox.source
    box_height, box_width = letterbox.size
    rows, columns = augmentation.kept(height, width)
    angle, shear = np.deg2rad(augmentation.rotate), np.tanh(np.deg2rad(augmentation.shear))
    # The crop is enlarged to the size of the source again.
    crop_scale = _scale(width / (columns.stop - columns.start), height / (rows.stop - rows.start))
    crop = crop_scale @ _move(-columns.start, -rows.start)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    # imgaug shears both axes by the one angle that it draws.
    shears = np.array([[1, -shear, 0], [shear, 1, 0], [0, 0, 1]])
    affine = shears @ _scale(augmentation.scale, augmentation.scale) @ rotation
    centred = _move(width / 2, height / 2) @ affine @ _move(-width / 2, -height / 2)
    mirror = _move(width, 0) @ _scale(-1, 1) if augmentation.mirror else np.eye(3)
    transpose = np.eye(3)[[1, 0, 2]] if portrait else np.eye(3)
    fit = _scale(box_width / width, box_height / height)
    # Read from right to left: the order in which PIL takes the steps. DALI wants the inverse.
    forward = fit @ mirror @ centred @ crop @ transpose
    return np.linalg.inv(forward)[:2].astype(np.float32)


def _scale(x: float, y: float) -> np.ndarray:
    return np.diag([x, y, 1.0])


def _move(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def code_labels(labels: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """(Hs, Ws) uint8 to (Hs, Ws, 1) uint8: label + 1 (void is background), and 0 where the crop cuts off.

    The warp fills with 0 outside the source. So 0 tells where the image must be black, without a second map.
    """
    coded = np.zeros_like(labels)
    portrait = labels.shape[0] > labels.shape[1]
    landscape, source = (coded.T, labels.T) if portrait else (coded, labels)  # views: `coded` is filled
    kept = augmentation.kept(*landscape.shape)
    landscape[kept] = np.where(source[kept] == VOID, 0, source[kept]) + 1
    return coded[..., None]


def plan_augmentation(
    name: str, labels: list[np.ndarray], size: tuple[int, int], rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Draw once for a clip, and list the inputs of `augment_with_dali` for each of its frames.

    Args:
        name: not read; the plan of augmentation 'dali' names the video in an error.
        labels: T of (Hs, Ws) uint8. size: (H, W) of the network's input.
    """
    augmentation = draw_augmentation(rng)
    contrast = np.array(augmentation.contrast, np.float32)
    brightness = np.array(augmentation.brightness / 255, np.float32)
    inputs = []
    for label in labels:
        letterbox = Letterbox((min(label.shape), max(label.shape)), size)  # of the frame in landscape format
        inputs.append(
            {
                "coded": code_labels(label, augmentation),
                "box": np.array(letterbox.size, np.float32),
                "matrix": warp_matrix(augmentation, letterbox, label.shape[0] > label.shape[1]),
                "contrast": contrast,
                "brightness": brightness,
            }
        )
    return inputs


def augment_with_dali(source: "DataNode", size: tuple[int, int]) -> tuple["DataNode", "DataNode"]:
    """Add warp, colour change and letterbox to the pipeline that is being built.

    Args:
        source: decoded frames (Hs, Ws, 3). size: (H, W) of the network's input.
    Returns: frames (3, H, W) float32, normalised; label maps (H, W, 1) uint8.
    """
    from nvidia.dali import fn, math, types

    matrix, box, contrast, brightness = (
        fn.external_source(name=name) for name in ("matrix", "box", "contrast", "brightness")
    )
    coded = fn.external_source(name="coded", layout="HWC")
    nearest = types.DALIInterpType.INTERP_NN
    coded = fn.warp_affine(coded, matrix=matrix, size=box, interp_type=nearest, fill_value=0)
    inside = coded > 0
    if source.device == "gpu":
        inside = inside.gpu()
    # Without a fill value the border is repeated, as cv2.resize does; then everything outside is made black.
    image = fn.warp_affine(source, matrix=matrix, size=box) * inside
    # contrast_center 0: contrast multiplies the values, as in the original.
    image = fn.brightness_contrast(image, contrast=contrast, brightness_shift=brightness, contrast_center=0)
    mean, std = 255 * np.array(IMAGENET_MEAN), 255 * np.array(IMAGENET_STD)
    # The letterbox: half of what is missing above and to the left, rounded down; black before normalisation.
    letterbox: dict[str, Any] = {"crop": size, "out_of_bounds_policy": "pad", "rounding": "truncate"}
    black = (-mean / std).tolist()
    frame = fn.crop_mirror_normalize(
        image, mean=mean.tolist(), std=std.tolist(), fill_values=black, **letterbox
    )
    labels = fn.cast(math.max(coded, 1) - 1, dtype=types.DALIDataType.UINT8)  # outside is background too
    return frame, fn.crop(labels, fill_values=0, **letterbox)
