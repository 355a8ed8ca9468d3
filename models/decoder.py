"""The decoder: turn the readout into one object's mask, refined with the finer maps of the query image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(width_in: int, width_out: int) -> nn.Conv2d:
    """3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(width_in, width_out, 3, padding=1)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, h, w) bilinearly to `size` (height, width), corners not aligned."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def of_objects(maps: Tensor, clip_index: Tensor) -> Tensor:
    """Return the map of each object's image, to add it to maps of O objects.

    Args:
        maps: (B, C, h, w), of the images.
        clip_index: (O,) the image of each object.
    Returns: (O, C, h, w); of a single image (1, C, h, w), which broadcasts without being copied.
    """
    return maps if len(maps) == 1 else maps.index_select(0, clip_index)


class ResBlock(nn.Module):
    """Residual block of the decoder: x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = conv3x3(width, width)
        self.conv2 = conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        # In place only where no backward pass needs the value that is overwritten.
        return self.conv2(F.relu_(self.conv1(F.relu(x)))).add_(x)


class Refine(nn.Module):
    """Refinement module (STM, section 3.3): merge an image's skip map with each object's coarser map."""

    def __init__(self, width_skip: int, width: int):
        super().__init__()
        self.convFS = conv3x3(width_skip, width)
        self.ResFS = ResBlock(width)
        self.ResMM = ResBlock(width)

    def image_map(self, skip: Tensor) -> Tensor:
        """Compute the half that does not depend on the object: (B, Cs, H', W') to (B, C, H', W')."""
        return self.ResFS(self.convFS(skip))

    def forward(self, image_map: Tensor, below: Tensor, clip_index: Tensor) -> Tensor:
        """Add the coarser map of each object to the map of its image.

        Args:
            image_map: (B, C, H', W'), what `image_map` returned.
            below: (O, C, h', w'), the coarser map.
            clip_index: (O,) the image of each object.
        Returns: (O, C, H', W').
        """
        finer = resize(below, image_map.shape[-2:])
        return self.ResMM(finer.add_(of_objects(image_map, clip_index)))


class ImageMaps(NamedTuple):
    """The decoder's maps of the query images, computed once because all objects of an image use them."""

    m4: Tensor  # (B, C, h, w)
    m3: Tensor  # (B, C, H/8, W/8)
    m2: Tensor  # (B, C, H/4, W/4)


class Decoder(nn.Module):
    """Decode a readout to two logits a pixel, "not this object" and "this object" (STM, section 3.3)."""

    def __init__(self, valdim: int, width_res3: int, width_res2: int, width: int):
        super().__init__()
        self.valdim = valdim
        self.convFM = conv3x3(2 * valdim, width)
        self.ResMM = ResBlock(width)
        self.RF3 = Refine(width_res3, width)
        self.RF2 = Refine(width_res2, width)
        self.pred2 = conv3x3(width, 2)

    def image_maps(self, value: Tensor, res3: Tensor, res2: Tensor) -> ImageMaps:
        """Compute the part that does not depend on the objects.

        Args:
            value: (B, Cv, h, w), the query's own value.
            res3, res2: (B, 128e, H/8, W/8) and (B, 64e, H/4, W/4), skip maps of the query encoder.
        """
        # convFM acts on [readout, query value]. This is its second half, which holds the bias.
        m4 = F.conv2d(value, self.convFM.weight[:, self.valdim :], self.convFM.bias, padding=1)
        return ImageMaps(m4, self.RF3.image_map(res3), self.RF2.image_map(res2))

    def forward(
        self, readout: Tensor, image_maps: ImageMaps, clip_index: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Decode objects side by side.

        The paper concatenates readout and query value, (O, 2Cv, h, w), in front of convFM. A convolution is
        linear, so the sum of its two halves is the same, and the half of the query value is computed once for
        all objects.

        Args:
            readout: (O, Cv, h, w), read from memory.
            image_maps: of B images.
            clip_index: (O,) the image of each object.
            size: (H, W) of the result.
        Returns: (O, 2, H, W) logits.
        """
        m4 = F.conv2d(readout, self.convFM.weight[:, : self.valdim], padding=1)
        m4 = m4 + of_objects(image_maps.m4, clip_index)  # (O, C, h, w)
        m3 = self.RF3(image_maps.m3, self.ResMM(m4), clip_index)  # (O, C, H/8, W/8)
        m2 = self.RF2(image_maps.m2, m3, clip_index)  # (O, C, H/4, W/4)
        return resize(self.pred2(F.relu(m2)), size)
