"""Augmentation 'paper' of a training clip, frames and label maps together, one draw per clip (PIL loader)."""

import imgaug.augmenters as iaa
import numpy as np
import torch
from imgaug.augmentables.segmaps import SegmentationMapsOnImage
from torch import Tensor

from libs.core.masks import Letterbox, normalise

CROP = 0.1  # largest fraction of each side that is cut off; the result is enlarged to the old size
SCALE = (0.95, 1.05)
SHEAR = (-10, 10)  # degrees
ROTATE = (-15, 15)  # degrees
CONTRAST = (0.97, 1.03)  # factor on the values
BRIGHTNESS = (-5, 5)  # offset, of 255
MIRROR = 0.5  # probability


def augment(images: list[np.ndarray], labels: list[np.ndarray], rng: np.random.Generator) -> None:
    """Augment a clip in place of the lists' entries: one draw, the same for every frame.

    Args:
        images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8.
    """
    pipeline = augmenter(int(rng.integers(2**31)))
    for t, (image, label) in enumerate(zip(images, labels)):
        maps = SegmentationMapsOnImage(label.astype(np.int32), shape=label.shape)
        images[t], maps = pipeline(image=image, segmentation_maps=maps)
        labels[t] = maps.get_arr().astype(np.uint8)


def augmenter(seed: int) -> iaa.Augmenter:
    """Crop, affine, contrast, brightness and mirror; each call repeats the same draw."""
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
    """Letterbox and normalise with ImageNet's mean and deviation.

    Args:
        images: T of (Hs, Ws, 3) uint8; labels: T of (Hs, Ws) uint8; size: (H, W).
    Returns: frames (T, 3, H, W) float32, labels (T, H, W) uint8.
    """
    frames = np.stack([Letterbox(image.shape[:2], size).image(image) for image in images])
    maps = np.stack([Letterbox(label.shape[:2], size).labels(label) for label in labels])
    return normalise(frames), torch.from_numpy(maps)


def to_landscape(image: np.ndarray) -> np.ndarray:
    """Transpose an image or label map in portrait format; others stay as they are."""
    portrait = image.shape[0] > image.shape[1]
    return np.ascontiguousarray(image.swapaxes(0, 1)) if portrait else image
