"""The decoder: from what was read out of the memory to one object's mask, refined with the query's finer maps."""

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
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Refine(nn.Module):
    """Merge a skip map of the picture with the coarser map of each object (STM, section 3.3)."""

    def __init__(self, width_skip: int, width: int):
        super().__init__()
        self.convFS = conv3x3(width_skip, width)
        self.ResFS = ResBlock(width)
        self.ResMM = ResBlock(width)

    def forward(self, skip: Tensor, below: Tensor, owner: Tensor) -> Tensor:
        """skip (B, Cs, H', W'), below (O, C, h', w') to (O, C, H', W').

        The skip's branch does not depend on the object, so it runs once per picture; owner (O,) spreads it.
        """
        picture = self.ResFS(self.convFS(skip)).index_select(0, owner)
        return self.ResMM(picture + resize(below, skip.shape[-2:]))


class Decoder(nn.Module):
    """Readout at stride 16 to two logits per pixel, 'not this object' and 'this object' (STM, section 3.3)."""

    def __init__(self, valdim: int, width_res3: int, width_res2: int, width: int):
        super().__init__()
        self.convFM = conv3x3(2 * valdim, width)
        self.ResMM = ResBlock(width)
        self.RF3 = Refine(width_res3, width)
        self.RF2 = Refine(width_res2, width)
        self.pred2 = conv3x3(width, 2)

    def forward(self, readout: Tensor, res3: Tensor, res2: Tensor, owner: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode all objects at once.

        Args:
            readout: (O, 2Cv, h, w); res3, res2: (B, 128e, ...), (B, 64e, ...) of the query; owner: (O,).
            size: (H, W) of the result.
        Returns: (O, 2, H, W) logits.
        """
        m4 = self.ResMM(self.convFM(readout))
        m3 = self.RF3(res3, m4, owner)
        m2 = self.RF2(res2, m3, owner)
        return resize(self.pred2(F.relu(m2)), size)
