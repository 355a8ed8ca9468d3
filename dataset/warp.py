"""Augmentation 'paper' of dataset/transforms.py as one matrix: a picture is interpolated once (DALI loader)."""

from dataclasses import dataclass

import numpy as np

from dataset.transforms import BRIGHTNESS, CONTRAST, CROP, MIRROR, ROTATE, SCALE, SHEAR
from libs.core.masks import VOID, Letterbox


@dataclass(frozen=True)
class Augmentation:
    """One draw for all frames of a clip; the defaults change nothing."""

    crop: tuple[float, float, float, float] = (
        0,
        0,
        0,
        0,
    )  # top, right, bottom, left, as shares of height and width
    scale: float = 1
    shear: float = 0  # degrees
    rotate: float = 0  # degrees, clockwise
    contrast: float = 1  # factor on the values
    brightness: int = 0  # offset of 255
    mirror: bool = False

    def kept(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns that the crop leaves, in whole pixels as imgaug has them."""
        top, right, bottom, left = (
            round(side * share) for side, share in zip((height, width) * 2, self.crop)
        )
        return slice(top, height - bottom), slice(left, width - right)


def draw_augmentation(rng: np.random.Generator) -> Augmentation:
    """The ranges of the PIL loader; takes one number from `rng` as it does, so that the objects drawn next are the same."""
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
    """From a point of the letterboxed picture, (0, 0) its upper left corner, to one of the source, in pixels (x, y).

    Args:
        letterbox: of the upright source; portrait: the source was transposed to be upright.
    Returns: (2, 3) float32.
    """
    (height, width), (box_height, box_width) = letterbox.source, letterbox.size
    rows, columns = augmentation.kept(height, width)
    turn, shear = np.deg2rad(augmentation.rotate), np.tanh(np.deg2rad(augmentation.shear))
    crop = _scale(width / (columns.stop - columns.start), height / (rows.stop - rows.start)) @ _move(
        -columns.start, -rows.start
    )
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    shears = np.array(
        [[1, -shear, 0], [shear, 1, 0], [0, 0, 1]]
    )  # imgaug shears both axes by the one angle it draws
    affine = shears @ _scale(augmentation.scale, augmentation.scale) @ rotation
    centred = _move(width / 2, height / 2) @ affine @ _move(-width / 2, -height / 2)
    mirror = _move(width, 0) @ _scale(-1, 1) if augmentation.mirror else np.eye(3)
    upright = np.eye(3)[[1, 0, 2]] if portrait else np.eye(3)
    forward = _scale(box_width / width, box_height / height) @ mirror @ centred @ crop @ upright
    return np.linalg.inv(forward)[:2].astype(np.float32)


def _scale(x: float, y: float) -> np.ndarray:
    return np.diag([x, y, 1.0])


def _move(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def code_labels(labels: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """(Hs, Ws) uint8 to (Hs, Ws, 1) uint8: label + 1 (void is background), and 0 where the crop has cut off.

    What the warp fills with 0 thus tells where there is no picture either, without a second map.
    """
    coded = np.zeros_like(labels)
    portrait = labels.shape[0] > labels.shape[1]
    upright, source = (coded.T, labels.T) if portrait else (coded, labels)
    kept = augmentation.kept(*upright.shape)
    upright[kept] = np.where(source[kept] == VOID, 0, source[kept]) + 1
    return coded[..., None]
