"""Fold batch norm into the convolution before it: the same function, faster."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.encoders import Encoder, MemoryEncoder
from models.stm import STM


def fold_batch_norm(model: STM) -> STM:
    """Fold all batch norms of a model in evaluation mode, in place.

    Afterwards the parameters no longer have the names of weight files. Group norm is left as it is: its
    statistics depend on the image.
    """
    if not isinstance(model.Encoder_Q.bn1, nn.BatchNorm2d):
        return model
    for encoder in (model.Encoder_M, model.Encoder_Q):
        _fold_stem(encoder)
        for block in (*encoder.res2, *encoder.res3, *encoder.res4):
            for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")):
                if hasattr(block, conv):  # only the bottleneck blocks of ResNet-50 and 101 have a third
                    _fold(block, conv, norm)
            if block.downsample is not None:
                _fold(block.downsample, "0", "1")
    return model


def _fold(parent: nn.Module, conv: str, norm: str) -> None:
    """Replace the convolution `conv` of `parent` by one that does the work of `norm` too."""
    setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
    setattr(parent, norm, nn.Identity())


@torch.no_grad()
def _fold_stem(encoder: Encoder) -> None:
    """Fold the norm of the stem, which in the memory encoder follows a sum of three convolutions.

    The norm's scale goes to all of them, its shift to the image's convolution alone.
    """
    scale = encoder.bn1.weight / (encoder.bn1.running_var + encoder.bn1.eps).sqrt()  # (64,)
    if isinstance(encoder, MemoryEncoder):
        for conv in (encoder.conv1_m, encoder.conv_context):
            conv.weight.mul_(scale.view(-1, 1, 1, 1))
    _fold(encoder, "conv1", "bn1")
