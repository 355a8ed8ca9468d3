"""A loss on the attention weights alone, to train from scratch. In neither paper; off in their recipe."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.memory_read import at_least_float32, read
from models.stm import Memory, Query

MARGIN = 1e-3  # carried masks stay this far from 0 and 1, where their logarithm is steep


def attention_loss(memory: Memory, queries: list[Query], truth: Tensor) -> Tensor:
    """Compare the masks of later frames with frame 0's mask, carried there by the attention weights alone.

    Without a decoder in between, the gradient tells the keys what to look for before the decoder can make
    anything of the readout. Masks are at stride 16.

    Args:
        memory: of frame 0.
        queries: of frames 1 to T-1.
        truth: (B, T, K, H, W) one-hot.
    Returns: binary cross entropy, averaged over positions and a clip's objects, summed over frames and clips.
    """
    objects, size = memory.objects, queries[0].key.shape[-2:]
    masks = truth.transpose(1, 2)[objects.clip_index, objects.channel]  # (O, T, H, W)
    masks = F.interpolate(masks, size=size, mode="area")  # (O, T, h, w), fraction of a cell that is covered
    objects_of_clip = torch.bincount(objects.clip_index, minlength=len(truth))  # (B,)
    weight = 1 / objects_of_clip.to(truth)[objects.clip_index]  # (O,), sum 1 in each clip
    first = masks[:, 0].flatten(1).unsqueeze(2)  # (O, h*w, 1), in the place of the values
    loss = truth.new_zeros(())
    for t, query in enumerate(queries, start=1):
        key = query.key.index_select(0, objects.clip_index)
        carried = at_least_float32(read(memory.keys, first, key)[:, 0])  # (O, h, w)
        carried = MARGIN + (1 - 2 * MARGIN) * carried
        log_likelihood = masks[:, t] * carried.log() + (1 - masks[:, t]) * (1 - carried).log()
        loss = loss - (weight * log_likelihood.flatten(1).mean(1)).sum()
    return loss
