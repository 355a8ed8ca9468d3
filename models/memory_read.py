"""Space-time memory read and soft aggregation: the two formulas of the STM paper, as pure functions."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

CLAMP = 1e-7  # probabilities stay this far from 0 and 1, so that their logits are finite
MAX_WEIGHTS = 1 << 24  # attention weights that exist at a time: 64 MB of float32, however long the memory is


def read(keys: Tensor, values: Tensor, query: Tensor, top_k: int = 0) -> Tensor:
    """Space-time memory read (STM, equations 1 and 2): attend from each query position to the whole memory.

    Each object reads its own memory only. The readout is softmax over N of (key . query / sqrt(Ck)), times
    the values. `Decoder.forward` joins it with the query's own value.

    With `top_k`, only the top_k largest products of a query position take part in its softmax (STCN, XMem).
    The other memory positions have weight 0.

    Args:
        keys: (O, N, Ck).
        values: (O, N, Cv).
        query: (O, Ck, h, w).
        top_k: 0, or N and more: all take part.
    Returns: the readout, (O, Cv, h, w).
    """
    height, width = query.shape[-2:]
    positions = query.flatten(2).transpose(1, 2)  # (O, h*w, Ck)
    objects, num_positions, valdim = values.shape
    attend, numbers = _attend, num_positions
    if 0 < top_k < num_positions:
        attend, numbers = partial(_attend_to_largest, top_k=top_k), num_positions + top_k * valdim
    parts = [attend(part, keys, values) for part in _chunks(positions, objects * numbers)]
    return torch.cat(parts, 1).transpose(1, 2).unflatten(2, (height, width))  # (O, Cv, h, w)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from query positions (O, P, Ck) to keys (O, N, Ck). Returns: (O, P, Cv)."""
    if values.device.type != "cpu" or values.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(queries, keys, values)
    # PyTorch's kernel for CPUs wants Ck = Cv. Without it, all of the attention is computed in float32.
    # Here only the scores are, because rounded scores would change the weights by much.
    with torch.autocast("cpu", enabled=False):
        scores = queries.float() @ keys.float().transpose(1, 2) * keys.shape[-1] ** -0.5  # (O, P, N)
        return scores.softmax(2).to(values.dtype) @ values


def _attend_to_largest(positions: Tensor, keys: Tensor, values: Tensor, top_k: int) -> Tensor:
    """Attend from each position (O, n, Ck) to the top_k memory positions with the largest products.

    Returns: (O, n, Cv).
    """
    products = (positions * keys.shape[-1] ** -0.5) @ keys.transpose(1, 2)  # (O, n, N)
    largest, index = products.topk(top_k, dim=2)
    weights = at_least_float32(largest).softmax(2).to(values.dtype)
    objects = torch.arange(len(values), device=values.device)[:, None, None]
    return (weights.unsqueeze(2) @ values[objects, index]).squeeze(2)  # (O, n, 1, k) @ (O, n, k, Cv)


def read_weights(keys: Tensor, positions: Tensor) -> Iterator[Tensor]:
    """Yield the weights of `read`, which it never holds: the softmax over N (STM, equation 1).

    Args:
        keys: (O, N, Ck).
        positions: (O, P, Ck), keys of query positions.
    Yields: (O, p, N) in float32 or float64 for the next p positions, each row of sum 1.
    """
    transposed = at_least_float32(keys).transpose(1, 2)  # (O, Ck, N)
    for part in _chunks(positions, keys.shape[0] * keys.shape[1]):
        yield (at_least_float32(part) / math.sqrt(keys.shape[2]) @ transposed).softmax(2)


def _chunks(positions: Tensor, numbers: int) -> Sequence[Tensor]:
    """Split query positions (O, P, Ck) into chunks.

    All weights together would be (O, P, N), which grows with the memory.

    Args:
        numbers: that exist at a time for each of the P positions.
    """
    return positions.split(max(1, MAX_WEIGHTS // max(1, numbers)), 1)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def soft_aggregate(masks: Tensor) -> Tensor:
    """Soft aggregation (STM, section 3.4): merge the objects' probabilities into one distribution a pixel.

    Args:
        masks: (B, K, H, W), p_o in channel o, 0 in unused channels. Channel 0 is not read.
    Returns: (B, K, H, W) logits. Their softmax over K is the probability of background and of each object.
    """
    objects = at_least_float32(masks[:, 1:])  # the logarithms below need more than half precision
    background = torch.prod(1 - objects, dim=1, keepdim=True)  # no object is here: prod over o of (1 - p_o)
    evidence = torch.cat([background, objects], dim=1).clamp(CLAMP, 1 - CLAMP)
    return torch.log(evidence / (1 - evidence))
