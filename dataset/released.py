"""Augmentation 'dali': the original's DALI pipeline, which trained the published ResNet-18.

Steps: shear, rotate, resize to fit inside the network's input, mirror. Each step takes the nearest pixel, of
frames too, and leaves 0 outside the source. Portrait videos are not transposed. Both loaders use this file:
`distort` is for PIL, `plan_distortion` and `distort_with_dali` are for DALI.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from libs.core.errors import InputError
from libs.core.masks import Letterbox

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode  # an optional package

SHEAR_X, SHEAR_Y = 0.04, 0.025  # largest factors, positive or negative
ROTATE = 10.0  # degrees, in either direction
MIRROR = 0.5  # probability
MEAN, STD = 0.45, 0.226  # of values in 0..1, in all three channels; testing normalises with ImageNet's


@dataclass(frozen=True)
class Distortion:
    """One draw for a clip; only the angle differs from frame to frame."""

    shear: tuple[float, float]  # factors (sx, sy)
    angles: tuple[float, ...]  # degrees counter-clockwise, one per frame
    mirror: bool


def draw_distortion(rng: np.random.Generator, frames: int) -> Distortion:
    """Draw for a clip of `frames` frames.

    Takes one number from `rng`, for any number of frames, so that both loaders then choose the same objects.
    """
    own = np.random.default_rng(int(rng.integers(2**31)))
    shear = own.uniform(-SHEAR_X, SHEAR_X), own.uniform(-SHEAR_Y, SHEAR_Y)
    mirror = bool(own.random() < MIRROR)
    return Distortion(shear, tuple(own.uniform(-ROTATE, ROTATE, frames).tolist()), mirror)


def fitted_size(name: str, sources: list[tuple[int, int]], target: tuple[int, int]) -> tuple[int, int]:
    """Size (H, W) of a clip: the largest inside `target` (H, W) that its frames fill without padding.

    Args:
        sources: (height, width) of each frame.
    Raises: InputError naming the video `name` if its frames would not have one size.
    """
    sizes = {Letterbox(source, target).size: source for source in sources}
    if len(sizes) > 1:
        found = " and ".join(f"{width}x{height}" for height, width in sizes.values())
        raise InputError(
            f"video {name}: expected frames of one size, found {found}; "
            "key 'augmentation': use 'paper', which pads them to one size"
        )
    return next(iter(sizes))


def shear_matrix(shear: tuple[float, float]) -> np.ndarray:
    """(2, 3) float64 from a point (x, y) of the sheared image to one of the source; (0, 0) stays."""
    sx, sy = shear
    return np.array([[1, -sx, 0], [-sy, 1, 0]]) / (1 - sx * sy)


def rotation_matrix(angle: float, size: tuple[int, int]) -> np.ndarray:
    """(2, 3) float64 from a point (x, y) of the rotated image to one of the source; the centre stays.

    Args:
        angle: degrees counter-clockwise, as displayed. size: (height, width) of both images.
    """
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cos, -sin], [sin, cos]])
    centre = np.array(size[::-1]) / 2
    return np.column_stack([turn, centre - turn @ centre])


# ---- PIL ----


def distort(
    name: str,
    images: list[np.ndarray],
    labels: list[np.ndarray],
    target: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw once for a clip and distort its frames and label maps.

    Args:
        name: of the video; images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8.
        target: (H, W) to fit inside.
    Returns: T images (h, w, 3) and T label maps (h, w), uint8, of the fitted size.
    Raises: InputError as `fitted_size`.
    """
    sources = [label.shape for label in labels]
    size = fitted_size(name, sources, target)
    drawn = draw_distortion(rng, len(images))
    indices = [
        source_pixels(source, size, drawn.shear, angle, drawn.mirror)
        for source, angle in zip(sources, drawn.angles)
    ]
    return list(map(_gather, images, indices)), list(map(_gather, labels, indices))


def source_pixels(
    source: tuple[int, int], size: tuple[int, int], shear: tuple[float, float], angle: float, mirror: bool
) -> np.ndarray:
    """The source pixel of each pixel of the result.

    It is traced back through all steps, to the nearest pixel in each.

    Args:
        source, size: (height, width) before and after.
    Returns: (h, w) int64, row * width + column in the source; -1 for pixels outside the source.
    """
    # In the reverse order of the steps: mirror and resize, then rotation, then shear.
    rows, columns = ((2 * np.arange(n) + 1) * side // (2 * n) for n, side in zip(size, source))
    y = rows[:, None]
    x = columns[::-1] if mirror else columns
    inside = np.ones(size, bool)
    for matrix in (rotation_matrix(angle, source), shear_matrix(shear)):
        x, y = (np.floor(a * (x + 0.5) + b * (y + 0.5) + c).astype(np.int64) for a, b, c in matrix)
        inside &= (x >= 0) & (x < source[1]) & (y >= 0) & (y < source[0])
    return np.where(inside, y * source[1] + x, -1)


def _gather(image: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Pixels (h, w, ...) of an image (Hs, Ws, ...) at the indices of `source_pixels`; 0 outside."""
    pixels = image.reshape(-1, *image.shape[2:])[indices]
    pixels[indices < 0] = 0
    return pixels


def to_tensors(images: list[np.ndarray], labels: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Normalise with MEAN and STD.

    Args:
        images: T of (H, W, 3) uint8; labels: T of (H, W) uint8.
    Returns: frames (T, 3, H, W) float32, labels (T, H, W) uint8.
    """
    frames = torch.from_numpy(np.stack(images)).float().div_(255).sub_(MEAN).div_(STD)
    return frames.movedim(-1, -3).contiguous(), torch.from_numpy(np.stack(labels))


# ---- DALI ----


def plan_distortion(
    name: str, labels: list[np.ndarray], target: tuple[int, int], rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Draw once for a clip, and list the inputs of `distort_with_dali` for each frame.

    Arguments and errors are those of `distort`.
    """
    size = fitted_size(name, [label.shape for label in labels], target)
    drawn = draw_distortion(rng, len(labels))
    return [
        {
            "labels": label[..., None],
            "shear": shear_matrix(drawn.shear).astype(np.float32),
            "angle": np.array(angle, np.float32),
            "fitted": np.array(size, np.float32),
            "mirror": np.array(drawn.mirror, np.int32),
        }
        for label, angle in zip(labels, drawn.angles)
    ]


def distort_with_dali(source: "DataNode", target: tuple[int, int]) -> tuple["DataNode", "DataNode"]:
    """Add the steps to the pipeline that is being built.

    DALI computes in float32: up to 1 % of the pixels are taken from a neighbour of those that `distort`
    takes, and more if rows of the result lie halfway between two of the source (480 rows to 200; not 480 or
    720 to 240).

    Args:
        source: decoded frames (Hs, Ws, 3). target: not read, because each frame has its size as an input.
    Returns: frames (3, h, w) float32, normalised; label maps (h, w, 1) uint8.
    """
    from nvidia.dali import fn, types

    shear, angle, fitted, mirror = (
        fn.external_source(name=name) for name in ("shear", "angle", "fitted", "mirror")
    )
    nearest = types.DALIInterpType.INTERP_NN

    def steps(image: Any) -> Any:
        """Apply the same shear, rotation, resize and mirror to frames or label maps."""
        image = fn.warp_affine(image, matrix=shear, fill_value=0, interp_type=nearest)
        image = fn.rotate(image, angle=angle, keep_size=True, fill_value=0, interp_type=nearest)
        image = fn.resize(image, size=fitted, interp_type=nearest)
        return fn.flip(image, horizontal=mirror)

    frames = fn.crop_mirror_normalize(steps(source), mean=[255 * MEAN] * 3, std=[255 * STD] * 3)
    return frames, steps(fn.external_source(name="labels", layout="HWC"))
