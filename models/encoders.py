"""The two ResNet encoders, up to stride 16, and the heads that turn their maps into keys and values."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet

from models.decoder import of_objects

ARCHS = ("resnet18", "resnet34", "resnet50", "resnet101")
# Group norm is for training from scratch: its statistics come from one image, not from a batch or a running
# mean.
NORMS = {"bn": nn.BatchNorm2d, "gn": partial(nn.GroupNorm, 32)}
# Memory context -> name of its convolution in weight files.
CONTEXTS = {"background": "conv1_bg", "others": "conv1_o"}


class Pyramid(NamedTuple):
    """Feature maps of one image: res4 at stride 16, res3 at 8, res2 at 4; channels 256e, 128e, 64e."""

    res4: Tensor
    res3: Tensor
    res2: Tensor


class Channels(NamedTuple):
    """Channel counts of the maps of a Pyramid."""

    res4: int
    res3: int
    res2: int


def channels(arch: str) -> Channels:
    """Channel counts of the three maps of `arch`."""
    e = 1 if arch in ("resnet18", "resnet34") else 4
    return Channels(256 * e, 128 * e, 64 * e)


class Encoder(nn.Module):
    """A ResNet up to layer3. Query and memory encoder differ in what they feed to its stem."""

    mean: Tensor
    std: Tensor

    def __init__(self, arch: str, norm: str = "bn"):
        super().__init__()
        net = getattr(resnet, arch)(weights=None, norm_layer=NORMS[norm])
        self.conv1 = net.conv1
        self.bn1 = net.bn1
        self.relu = net.relu
        self.maxpool = net.maxpool
        self.res2 = net.layer1
        self.res3 = net.layer2
        self.res4 = net.layer3
        # The released files hold these two buffers. They are never applied: images come normalised.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def _trunk(self, stem: Tensor) -> Pyramid:
        """Everything behind the first convolution: (B, 64, H/2, W/2) to the feature maps."""
        res2 = self.res2(self.maxpool(self.relu(self.bn1(stem))))
        res3 = self.res3(res2)
        return Pyramid(self.res4(res3), res3, res2)


class QueryEncoder(Encoder):
    """The plain ResNet on an image (STM, section 3.1)."""

    def forward(self, frames: Tensor) -> Pyramid:
        """Encode normalised images (B, 3, H, W)."""
        return self._trunk(self.conv1(frames))


class MemoryEncoder(Encoder):
    """The ResNet on an image, one object's mask and the mask's context (STM, section 3.1).

    The context of an object is its background, clamp(1 - mask, 0, 1) (STM-Cycle), or the clamped sum of the
    other objects' masks (official STM).
    """

    def __init__(self, arch: str, context: str, norm: str = "bn"):
        super().__init__(arch, norm)
        self.context = context
        self.conv1_m = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.add_module(CONTEXTS[context], nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False))

    def stem(self, frames: Tensor) -> Tensor:
        """Apply the image's first convolution, once for all objects: (B, 3, H, W) to (B, 64, H/2, W/2)."""
        return self.conv1(frames)

    def forward(self, stem: Tensor, masks: Tensor, clip_index: Tensor, channel: Tensor) -> Pyramid:
        """Encode each object together with the image of its clip.

        Args:
            stem: (B, 64, H/2, W/2), what `stem` returned for the images.
            masks: (B, K, H, W) soft.
            clip_index: (O,) the clip of each object.
            channel: (O,) the channel of each object, 1..K-1.
        Returns: feature maps of O images.
        """
        # index_select, because the backward pass of masks[clip_index, channel] is many times slower.
        rows = clip_index * masks.shape[1] + channel  # (O,) in the B*K masks
        mask = masks.flatten(0, 1).index_select(0, rows).unsqueeze(1)  # (O, 1, H, W)
        if self.context == "background":
            context = 1 - mask
        else:
            context = masks[:, 1:].sum(1).index_select(0, clip_index).unsqueeze(1) - mask  # (O, 1, H, W)
        # A corrected mask may leave 0..1: the context is clamped, the mask is not (original code).
        planes = torch.cat([mask, context.clamp(0, 1)], dim=1)  # (O, 2, H, W)
        # Both convolutions in one: on CPUs, one with a single input channel is slow, and its result has a
        # layout in which pooling is slow, too.
        weight = torch.cat([self.conv1_m.weight, self.conv_context.weight], dim=1)  # (64, 2, 7, 7)
        with_masks = F.conv2d(planes, weight, stride=2, padding=3)
        return self._trunk(with_masks.add_(of_objects(stem, clip_index)))

    @property
    def conv_context(self) -> nn.Conv2d:
        """The convolution of the context. Its name in weight files tells which context it is."""
        return getattr(self, CONTEXTS[self.context])


class KeyValue(nn.Module):
    """Key and value embedding (STM): two 3x3 convolutions on the stride-16 map.

    Keys are compared with each other to find where to look. Values carry the appearance that is read there.
    """

    def __init__(self, width: int, keydim: int, valdim: int):
        super().__init__()
        self.Key = nn.Conv2d(width, keydim, 3, padding=1)
        self.Value = nn.Conv2d(width, valdim, 3, padding=1)

    def forward(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """Embed (B, 256e, h, w) as key (B, Ck, h, w) and value (B, Cv, h, w)."""
        return self.Key(res4), self.Value(res4)
