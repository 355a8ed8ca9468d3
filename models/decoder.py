"""The decoder: from what was read out of the memory to one object's mask, refined with the query's finer maps."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(width_in: int, width_out: int) -> nn.Conv2d:
    """3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(width_in, width_out, 3, padding=1)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to `size` (height, width), corners not aligned."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class ResBlock(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = conv3x3(width, width)
        self.conv2 = conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return self.conv2(F.relu_(self.conv1(F.relu(x)))).add_(x)  # in place what no backward pass needs


class Refine(nn.Module):
    """Merge a skip map of the picture with the coarser map of each object (STM, section 3.3)."""

    def __init__(self, width_skip: int, width: int):
        super().__init__()
        self.convFS = conv3x3(width_skip, width)
        self.ResFS = ResBlock(width)
        self.ResMM = ResBlock(width)

    def picture(self, skip: Tensor) -> Tensor:
        """The part that does not depend on the object: (B, Cs, H', W') to (B, C, H', W')."""
        return self.ResFS(self.convFS(skip))

    def forward(self, picture: Tensor, below: Tensor, clip_index: Tensor) -> Tensor:
        """picture (B, C, H', W') from above, below (O, C, h', w') to (O, C, H', W'); clip_index (O,): whose picture."""
        return self.ResMM(resize(below, picture.shape[-2:]).add_(picture.index_select(0, clip_index)))


class ImageMaps(NamedTuple):
    """What the decoder makes of the query pictures, once for all objects."""

    m4: Tensor  # (B, C, h, w)
    m3: Tensor  # (B, C, H/8, W/8)
    m2: Tensor  # (B, C, H/4, W/4)


class Decoder(nn.Module):
    """Readout at stride 16 to two logits per pixel, 'not this object' and 'this object' (STM, section 3.3)."""

    def __init__(self, valdim: int, width_res3: int, width_res2: int, width: int):
        super().__init__()
        self.valdim = valdim
        self.convFM = conv3x3(2 * valdim, width)
        self.ResMM = ResBlock(width)
        self.RF3 = Refine(width_res3, width)
        self.RF2 = Refine(width_res2, width)
        self.pred2 = conv3x3(width, 2)

    def picture(self, value: Tensor, res3: Tensor, res2: Tensor) -> ImageMaps:
        """The part that does not depend on the objects.

        Args:
            value: (B, Cv, h, w), the query's own; res3, res2: (B, 128e, ...), (B, 64e, ...).
        """
        m4 = F.conv2d(value, self.convFM.weight[:, self.valdim :], self.convFM.bias, padding=1)
        return ImageMaps(m4, self.RF3.picture(res3), self.RF2.picture(res2))

    def forward(self, found: Tensor, picture: ImageMaps, clip_index: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode objects side by side.

        The paper concatenates readout and query value, (O, 2Cv, h, w), for convFM; here its two halves are added.

        Args:
            found: (O, Cv, h, w) read from memory; picture: of B pictures; clip_index: (O,); size: (H, W) of the result.
        Returns: (O, 2, H, W) logits.
        """
        m4 = F.conv2d(found, self.convFM.weight[:, : self.valdim], padding=1) + picture.m4.index_select(
            0, clip_index
        )
        m3 = self.RF3(picture.m3, self.ResMM(m4), clip_index)
        m2 = self.RF2(picture.m2, m3, clip_index)
        return resize(self.pred2(F.relu(m2)), size)
