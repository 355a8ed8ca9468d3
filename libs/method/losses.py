"""The loss between one predicted frame and its ground truth: hard-pixel cross entropy and soft IoU.

Both work on one clip, and both leave out the channels that are not `counted`: objects that the frame does not
show from which the prediction was made.
"""

import torch
from torch import Tensor

HARD_PIXELS = 0.4  # the cross entropy averages over this fraction of the pixels, the worst ones
KINDS = ("ce", "iou", "both")


def present_channels(masks: Tensor) -> Tensor:
    """Find the channels that have at least one pixel: (K, H, W) one-hot to (K,) bool."""
    return masks.flatten(1).any(1)


def hard_pixel_cross_entropy(
    logits: Tensor, truth: Tensor, counted: Tensor, fraction: float = HARD_PIXELS
) -> Tensor:
    """Mean over the worst pixels of -sum_k y_k log p_k over the counted channels (original code).

    Args:
        logits: (K, H, W).
        truth: (K, H, W) one-hot.
        counted: (K,) bool, background included.
        fraction: of the pixels that count; the original has 0.4, and 1 is the mean over all pixels.
    Returns: scalar.
    """
    weights = truth * counted.view(-1, 1, 1)
    per_pixel = -(weights * logits.log_softmax(0)).sum(0).flatten()  # (H*W,)
    # Most pixels are easy background. The worst ones, mainly along object borders, carry the gradient.
    return per_pixel.topk(int(fraction * per_pixel.numel()), sorted=False).values.mean()


def soft_iou_loss(probs: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted objects (not background) of 1 - sum min(p, y) / sum max(p, y) (original code).

    Unlike the cross entropy, it weighs a small object as much as a large one.

    Args:
        probs: (K, H, W).
        truth: (K, H, W) one-hot.
        counted: (K,) bool.
    Returns: scalar; 0 if no object counts (the original got NaN).
    """
    intersection = torch.minimum(probs[1:], truth[1:]).flatten(1).sum(1)  # (K - 1,)
    union = torch.maximum(probs[1:], truth[1:]).flatten(1).sum(1)
    objects = counted[1:].float()
    return ((1 - intersection / union) * objects).sum() / objects.sum().clamp(min=1)


def mask_loss(
    logits: Tensor, truth: Tensor, counted: Tensor, kind: str = "both", *, fraction: float = HARD_PIXELS
) -> Tensor:
    """Loss of one predicted frame.

    Args:
        logits: (K, H, W).
        truth: (K, H, W) one-hot.
        counted: (K,) bool.
        kind: 'ce' (cross entropy), 'iou' or 'both' (their sum).
        fraction: of the pixels over which the cross entropy averages, the worst ones.
    Returns: scalar.
    """
    loss = logits.new_zeros(())
    if kind in ("ce", "both"):
        loss = loss + hard_pixel_cross_entropy(logits, truth, counted, fraction)
    if kind in ("iou", "both"):
        loss = loss + soft_iou_loss(logits.softmax(0), truth, counted)
    return loss
