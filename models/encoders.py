"""The two ResNet encoders, up to stride 16, and the heads that turn their maps into keys and values."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet

ARCHS = ("resnet18", "resnet34", "resnet50", "resnet101")
NORMS = {
    "bn": nn.BatchNorm2d,
    "gn": partial(nn.GroupNorm, 32),
}  # 'gn' to train from scratch: no statistics of other pictures
CONTEXTS = {
    "background": "conv1_bg",
    "others": "conv1_o",
}  # memory context -> name of its convolution in weight files


class Pyramid(NamedTuple):
    """Feature maps of one picture: res4 at stride 16, res3 at 8, res2 at 4; channels 256e, 128e, 64e."""

    res4: Tensor
    res3: Tensor
    res2: Tensor


def channels(arch: str) -> Pyramid:
    """Channel counts of the three maps of `arch`."""
    e = 1 if arch in ("resnet18", "resnet34") else 4
    return Pyramid(256 * e, 128 * e, 64 * e)


class QueryEncoder(nn.Module):
    """The plain ResNet on a picture (STM, section 3.1)."""

    def __init__(self, arch: str, norm: str = "bn"):
        super().__init__()
        net = getattr(resnet, arch)(weights=None, norm_layer=NORMS[norm])
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.res2, self.res3, self.res4 = net.layer1, net.layer2, net.layer3
        # Part of the released files, never applied: pictures come normalised from the data side.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Pyramid:
        """(B, 3, H, W) normalised pictures to their feature maps."""
        return self._trunk(self.conv1(frames))

    def _trunk(self, stem: Tensor) -> Pyramid:
        res2 = self.res2(self.maxpool(self.relu(self.bn1(stem))))
        res3 = self.res3(res2)
        return Pyramid(self.res4(res3), res3, res2)


class MemoryEncoder(QueryEncoder):
    """The ResNet on a picture with one object's mask and its context beside it (STM, section 3.1).

    The context of an object is the background as it sees it, clamp(1 - mask, 0, 1) (STM-Cycle), or the clamped sum
    of the other objects' masks (official STM).
    """

    def __init__(self, arch: str, context: str, norm: str = "bn"):
        super().__init__(arch, norm)
        self.context = context
        self.conv1_m = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.add_module(CONTEXTS[context], nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False))

    def stem(self, frames: Tensor) -> Tensor:
        """The picture's own first convolution, once for all objects: (B, 3, H, W) to (B, 64, H/2, W/2)."""
        return self.conv1(frames)

    def forward(self, stem: Tensor, masks: Tensor, clip_index: Tensor, channel: Tensor) -> Pyramid:
        """Encode each object with the picture of its clip.

        Args:
            stem: (B, 64, H/2, W/2) of the pictures; masks: (B, K, H, W) soft.
            clip_index, channel: (O,) which clip, and which of the K channels, each object is.
        Returns: maps of O pictures.
        """
        # index_select, as the backward pass of masks[clip_index, channel] is many times slower
        mask = (
            masks.flatten(0, 1).index_select(0, clip_index * masks.shape[1] + channel).unsqueeze(1)
        )  # (O, 1, H, W)
        if self.context == "background":
            other = 1 - mask
        else:
            other = masks[:, 1:].sum(1).index_select(0, clip_index).unsqueeze(1) - mask
        with_mask = stem.index_select(0, clip_index) + self.conv1_m(mask)
        return self._trunk(with_mask + self.conv_context(other.clamp(0, 1)))

    @property
    def conv_context(self) -> nn.Conv2d:
        """The context's convolution, whose name in weight files tells which context it is."""
        return getattr(self, CONTEXTS[self.context])


class KeyValue(nn.Module):
    """Two 3x3 convolutions on the stride-16 map: Key to attend with, Value to carry the appearance."""

    def __init__(self, width: int, keydim: int, valdim: int):
        super().__init__()
        self.Key = nn.Conv2d(width, keydim, 3, padding=1)
        self.Value = nn.Conv2d(width, valdim, 3, padding=1)

    def forward(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 256e, h, w) to key (B, Ck, h, w) and value (B, Cv, h, w)."""
        return self.Key(res4), self.Value(res4)
