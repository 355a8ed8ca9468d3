"""Batch norm folded into the convolutions before it: the same function with one pass over the maps less for each."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.encoders import MemoryEncoder, QueryEncoder
from models.stm import STM


def fold_batch_norm(model: STM) -> STM:
    """Fold all batch norms of a model in evaluation mode, in place; its parameters lose the names of weight files.

    Group norm stays: what it subtracts depends on the picture.
    """
    if not isinstance(model.Encoder_Q.bn1, nn.BatchNorm2d):
        return model
    for encoder in (model.Encoder_M, model.Encoder_Q):
        _fold_stem(encoder)
        for block in (*encoder.res2, *encoder.res3, *encoder.res4):
            for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")):
                if hasattr(block, conv):
                    _fold(block, conv, norm)
            if block.downsample is not None:
                _fold(block.downsample, "0", "1")
    return model


def _fold(parent: nn.Module, conv: str, norm: str) -> None:
    setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
    setattr(parent, norm, nn.Identity())


@torch.no_grad()
def _fold_stem(encoder: QueryEncoder) -> None:
    """The stem's norm follows a sum of convolutions in the memory encoder: all are scaled, the picture's takes the shift."""
    scale = encoder.bn1.weight / (encoder.bn1.running_var + encoder.bn1.eps).sqrt()  # (64,)
    if isinstance(encoder, MemoryEncoder):
        for conv in (encoder.conv1_m, encoder.conv_context):
            conv.weight.mul_(scale.view(-1, 1, 1, 1))
    _fold(encoder, "conv1", "bn1")
