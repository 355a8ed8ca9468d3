"""Label maps and one-hot masks, the letterbox and its inverse, the palette."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VOID = 255  # label of pixels that belong to nobody: background here


def one_hot(labels: Tensor, num_channels: int) -> Tensor:
    """Label map to masks.

    Args:
        labels: (..., H, W) integers in 0..num_channels - 1.
    Returns: (..., K, H, W) float32 of 0 and 1, K = num_channels, background first.
    """
    channels = torch.arange(num_channels, device=labels.device).view(-1, 1, 1)
    return (labels.unsqueeze(-3) == channels).float()


def select_objects(labels: np.ndarray, ids: list[int]) -> np.ndarray:
    """Renumber the objects `ids` to 1..O in their order; every other label, void too, becomes background.

    Args:
        labels: (...) uint8.
    Returns: the same shape, uint8.
    """
    table = np.zeros(256, np.uint8)
    table[ids] = np.arange(1, len(ids) + 1)
    return table[labels]


def keep_objects(labels: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Turn every label but the objects `ids` into background: labels (...) uint8 to the same shape, uint8."""
    table = np.zeros(256, np.uint8)
    table[list(ids)] = ids
    return table[labels]


def object_ids(labels: np.ndarray) -> list[int]:
    """The labels of objects in ascending order: all but background and void."""
    return [int(i) for i in np.unique(labels) if i not in (0, VOID)]


@dataclass(frozen=True)
class Letterbox:
    """A source frame scaled to fit inside the network's input, centred, the rest filled with 0.

    source, target: (height, width) in pixels.
    """

    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the scaled source inside the target, rounded down as in the original."""
        (hs, ws), (h, w) = self.source, self.target
        # Computed in integers, because 720 * (240 / 720) may be 239.99.
        if h * ws <= w * hs:
            return h, max(1, h * ws // hs)
        return max(1, w * hs // ws), w

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the target that hold the image."""
        (h, w), (sh, sw) = self.target, self.size
        top, left = (h - sh) // 2, (w - sw) // 2
        return slice(top, top + sh), slice(left, left + sw)

    def image(self, image: np.ndarray) -> np.ndarray:
        """(Hs, Ws, 3) uint8 to (H, W, 3) uint8, bilinear."""
        return self._place(image, cv2.INTER_LINEAR)

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """(Hs, Ws) uint8 to (H, W) uint8, nearest; the original resized bilinearly, which eroded masks."""
        return self._place(labels, cv2.INTER_NEAREST_EXACT)

    def undo(self, probs: Tensor) -> Tensor:
        """Probabilities (K, H, W) back to (K, Hs, Ws), bilinear (the original used nearest)."""
        inside = probs[:, self.box[0], self.box[1]].unsqueeze(0)
        return F.interpolate(inside, size=self.source, mode="bilinear", align_corners=False)[0]

    def _place(self, image: np.ndarray, interpolation: int) -> np.ndarray:
        """Scale an image or label map, and put it into the middle of the target."""
        height, width = self.size
        if image.shape[:2] != self.size:
            image = cv2.resize(image, (width, height), interpolation=interpolation)
        if self.size == self.target:
            return image
        canvas = np.zeros((*self.target, *image.shape[2:]), image.dtype)
        canvas[self.box] = image
        return canvas


def normalise(image: np.ndarray) -> Tensor:
    """(..., H, W, 3) uint8 RGB to (..., 3, H, W) float32 with ImageNet's mean 0 and deviation 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).float().div_(255)
    pixels.sub_(torch.tensor(IMAGENET_MEAN)).div_(torch.tensor(IMAGENET_STD))
    return pixels.movedim(-1, -3).contiguous()


def denormalise(images: Tensor) -> np.ndarray:
    """The inverse of `normalise`: (..., 3, H, W) to (..., H, W, 3) uint8 RGB."""
    pixels = images.cpu().movedim(-3, -1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return (255 * pixels).round().clip(0, 255).to(torch.uint8).numpy()


def palette() -> np.ndarray:
    """The colours of the PASCAL VOC and DAVIS masks.

    The bits of a label, three at a time, fill red, green and blue from the top bit down.

    Returns: (256, 3) uint8 RGB.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours
