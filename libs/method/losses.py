"""How far predicted masks are from true ones: hard-pixel cross entropy and soft IoU, per clip."""

import torch
from torch import Tensor

HARD_PIXELS = 0.4  # share of the pixels, the worst ones, that the cross entropy averages over
KINDS = ("ce", "iou", "both")


def present_channels(masks: Tensor) -> Tensor:
    """Which channels have a pixel: (K, H, W) one-hot to (K,) bool."""
    return masks.flatten(1).any(1)


def hard_pixel_cross_entropy(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Mean over the worst 40 % of the pixels of -sum_k y_k log p_k over the counted channels (original code).

    Args:
        logits: (K, H, W); truth: (K, H, W) one-hot; counted: (K,) bool, background included.
    Returns: scalar.
    """
    weights = truth * counted.view(-1, 1, 1)
    per_pixel = -(weights * logits.log_softmax(0)).sum(0).flatten()
    return per_pixel.topk(int(HARD_PIXELS * per_pixel.numel()), sorted=False).values.mean()


def soft_iou_loss(probs: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted objects, background excluded, of 1 - sum min(p, y) / sum max(p, y) (original code).

    Args:
        probs: (K, H, W); truth: (K, H, W) one-hot; counted: (K,) bool.
    Returns: scalar; 0 where no object counts (the original got NaN).
    """
    smaller = torch.minimum(probs[1:], truth[1:]).flatten(1).sum(1)
    larger = torch.maximum(probs[1:], truth[1:]).flatten(1).sum(1)
    objects = counted[1:].float()
    return ((1 - smaller / larger) * objects).sum() / objects.sum().clamp(min=1)


def mask_loss(logits: Tensor, truth: Tensor, counted: Tensor, kind: str = "both") -> Tensor:
    """Cross entropy ('ce'), IoU ('iou') or their sum ('both') of one predicted frame; shapes as above."""
    loss = logits.new_zeros(())
    if kind in ("ce", "both"):
        loss = loss + hard_pixel_cross_entropy(logits, truth, counted)
    if kind in ("iou", "both"):
        loss = loss + soft_iou_loss(logits.softmax(0), truth, counted)
    return loss
