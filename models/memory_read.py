"""Space-time memory read and soft aggregation: the two formulas of the STM paper, as pure functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

CLAMP = 1e-7
MAX_WEIGHTS = (
    1 << 24
)  # attention weights in existence at a time: 64 MB of float32, however long the memory is


def read(keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
    """Attend from every query position to every memory position of the same object (STM, eq. 1-2).

    The matrix of all weights, (O, h*w, N), never exists at once: query positions are taken in chunks.

    Args:
        keys: (O, N, Ck); values: (O, N, Cv); query: (O, Ck, h, w).
    Returns: (O, Cv, h, w): softmax over N of key . query / sqrt(Ck), times the values.
    """
    height, width = query.shape[-2:]
    positions = query.flatten(2).transpose(1, 2)  # (O, h*w, Ck)
    rows = max(1, MAX_WEIGHTS // max(1, keys.shape[0] * keys.shape[1]))
    out = torch.cat(
        [F.scaled_dot_product_attention(part, keys, values) for part in positions.split(rows, 1)], 1
    )
    return out.transpose(1, 2).unflatten(2, (height, width))  # (O, Cv, h, w)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def soft_aggregate(masks: Tensor) -> Tensor:
    """Merge the objects' separate probabilities into one distribution per pixel (STM, section 3.4).

    Args:
        masks: (B, K, H, W), p_o in channel o, 0 in unused channels; channel 0 is not read.
    Returns: (B, K, H, W) logits; their softmax over K is the probability of background and of each object.
    """
    objects = at_least_float32(masks[:, 1:])
    background = torch.prod(1 - objects, dim=1, keepdim=True)
    evidence = torch.cat([background, objects], dim=1).clamp(CLAMP, 1 - CLAMP)
    return torch.log(evidence / (1 - evidence))
