"""Augmentation 'paper' of the frames of a training clip and their label maps, one draw per clip (PIL loader)."""

import imgaug.augmenters as iaa
import numpy as np
import torch
from imgaug.augmentables.segmaps import SegmentationMapsOnImage
from torch import Tensor

from libs.core.masks import Letterbox, normalise

CROP = 0.1  # most of each side that is cut off, the size kept
SCALE, SHEAR, ROTATE = (0.95, 1.05), (-10, 10), (-15, 15)  # factor, degrees, degrees
CONTRAST, BRIGHTNESS = (0.97, 1.03), (-5, 5)  # factor on the values, offset of 255
MIRROR = 0.5  # probability


def augment(images: list[np.ndarray], labels: list[np.ndarray], rng: np.random.Generator) -> None:
    """Draw once, apply to every frame, in place of the list's entries (ranges: SPEC, training).

    Args:
        images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8.
    """
    pipeline = augmenter(int(rng.integers(2**31)))
    for t, (image, label) in enumerate(zip(images, labels)):
        maps = SegmentationMapsOnImage(label.astype(np.int32), shape=label.shape)
        images[t], maps = pipeline(image=image, segmentation_maps=maps)
        labels[t] = maps.get_arr().astype(np.uint8)


def augmenter(seed: int) -> iaa.Augmenter:
    """Crop, affine, contrast, brightness and mirror; the same draw at each call."""
    pipeline = iaa.Sequential(
        [
            iaa.Crop(percent=(0, CROP), keep_size=True),
            iaa.Affine(scale=SCALE, shear=SHEAR, rotate=ROTATE),
            iaa.Multiply(CONTRAST),  # contrast with centre 0, as in the original
            iaa.Add(BRIGHTNESS),
            iaa.Fliplr(MIRROR),
        ]
    )
    pipeline.seed_(seed)
    return pipeline.to_deterministic()


def to_input(
    images: list[np.ndarray], labels: list[np.ndarray], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Letterbox and normalise.

    Args:
        images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8; size: (H, W).
    Returns: frames (T, 3, H, W) float32, labels (T, H, W) uint8.
    """
    frames = np.stack([Letterbox(image.shape[:2], size).image(image) for image in images])
    maps = np.stack([Letterbox(label.shape[:2], size).labels(label) for label in labels])
    return normalise(frames), torch.from_numpy(maps)


def upright(picture: np.ndarray) -> np.ndarray:
    """Transpose a portrait picture or label map to landscape."""
    portrait = picture.shape[0] > picture.shape[1]
    return np.ascontiguousarray(picture.swapaxes(0, 1)) if portrait else picture
