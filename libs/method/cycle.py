"""The cycle of STM-Cycle (Li et al., NeurIPS 2020): predict the reference frame back from a later one.

As a loss it trains the network (section 3.2).
Its gradient with respect to a mask corrects that mask (section 3.3).
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from libs.core.structures import CorrectedFrame
from libs.method.losses import HARD_PIXELS, mask_loss, present_channels
from libs.method.propagate import Remembered, Step


def predict_reference(step: Step, masks: Tensor | None = None) -> Tensor:
    """Predict the reference frame back from the memory of one later frame alone (STM-Cycle, section 3.3).

    If the masks of the later frame are wrong, so is what they predict, and there the ground truth is known.

    Args:
        masks: (B, K, H, W) of the later frame; default: the memorized ones.
    Returns: (B, K, H, W) logits.
    """
    memory = step.memory if masks is None else step.model.memorize(step.image, masks, step.objects)
    return step.model.segment(step.reference.query, [memory])


def reference_loss(step: Step, masks: Tensor, fraction: float = HARD_PIXELS) -> Tensor:
    """Return how far the reference frame, predicted back from `masks`, is from its given mask.

    Args:
        masks: (1, K, H, W) of the step's frame.
        fraction: of the pixels over which the cross entropy averages, see `mask_loss`.
    """
    # All tracked objects count, present in the reference or not, unlike in training (original code).
    counted = torch.zeros(masks.shape[1], dtype=torch.bool, device=masks.device)
    counted[0] = True
    counted[step.objects.channel] = True
    logits = predict_reference(step, masks)
    return mask_loss(logits[0], step.reference.masks[0], counted, fraction=fraction)


def mask_gradient(step: Step, masks: Tensor, fraction: float = HARD_PIXELS) -> tuple[float, Tensor]:
    """Return `reference_loss`, and its gradient with respect to the masks (1, K, H, W)."""
    leaf = masks.detach().requires_grad_()  # the mask is what is optimised, as if it were a parameter
    with torch.enable_grad():  # inference runs without gradients; this is its one exception
        loss = reference_loss(step, leaf, fraction)
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


@dataclass(frozen=True)
class CycleLoss:
    """Sum of the cycle terms, and how many pairs of clip and frame were used and skipped."""

    value: Tensor
    used: int
    skipped: int


def cycle_loss(steps: list[Step], truth: Tensor, num_objects: list[int], kind: str) -> CycleLoss:
    """Predict frame 0 from each later frame alone and compare with its true mask (STM-Cycle, section 3.2).

    A term is skipped if the later frame does not show the clip's last object. In a term that is used, the
    objects that the later frame shows are counted.

    Args:
        steps: all T steps of propagation, frame 0 first.
        truth: (B, T, K, H, W) one-hot.
        num_objects: of each clip.
        kind: 'ce', 'iou' or 'both'.
    """
    value, used = truth.new_zeros(()), 0
    for t in range(len(steps) - 1, 0, -1):  # the order of the original
        # An object that frame t does not show cannot be found from it.
        present = [present_channels(masks) for masks in truth[:, t]]
        # Skip the term of a clip whose last object is absent. The original tests this one object only.
        clips = [b for b, last_object in enumerate(num_objects) if present[b][last_object]]
        if not clips:
            continue
        logits = predict_reference(steps[t])
        value = value + sum(mask_loss(logits[b], truth[b, 0], present[b], kind) for b in clips)
        used += len(clips)
    return CycleLoss(value, used, len(num_objects) * (len(steps) - 1) - used)


class GradientCorrection:
    """Gradient correction (STM-Cycle, section 3.3): descend on a predicted mask.

    The loss is that of the reference frame, predicted back from the mask. The network's weights stay as they
    are, and their gradients are never computed. This is a memory policy (`remember`) of Propagation.

    Args:
        every: correct the frames whose index is a multiple of this (the paper: save_freq).
        loop: number of gradient steps; 0 turns the correction off.
        rate: step size.
        momentum: fraction of the previous step that is added to the next.
        tolerance: stop when a step lowers the loss by less than this, and take the better mask; 0: no stop.
        sharpness: factor of the logits of all frames; above 1 soft masks become harder, 1 is the paper's.
    """

    def __init__(
        self,
        every: int,
        loop: int,
        rate: float,
        *,
        momentum: float = 0.0,
        tolerance: float = 0.0,
        sharpness: float = 1.0,
    ) -> None:
        self.every = every
        self.loop = loop
        self.rate = rate
        self.momentum = momentum
        self.tolerance = tolerance
        self.sharpness = sharpness

    def __call__(self, step: Step) -> Remembered:
        """Return the masks (1, K, H, W) to memorize of `step`."""
        return self.correct(step, self.start(step))

    def start(self, step: Step) -> Tensor:
        """Return the predicted masks (1, K, H, W) of `step`, with which correction starts."""
        assert step.logits is not None  # a memory policy is asked about predicted frames only
        return (self.sharpness * step.logits).softmax(1)

    def correct(self, step: Step, masks: Tensor) -> Remembered:
        """Correct masks (1, K, H, W) of the frame of `step`, if it is one of those that are corrected.

        Corrected masks are neither clamped nor normalised (original code).
        """
        # How often a mask is corrected: the frames that stay in the memory. Others are not worth the time.
        if step.t % self.every or not self.loop:
            return Remembered(masks)
        start = time.perf_counter()
        masks, losses = self._descend(step, masks)
        milliseconds = 1000 * _elapsed(start, masks.device)
        after = reference_loss(step, masks).item()
        return Remembered(masks, CorrectedFrame(len(losses), losses[0], after, milliseconds))

    def _descend(self, step: Step, masks: Tensor) -> tuple[Tensor, list[float]]:
        """Return the corrected masks, and the loss before each gradient step that was taken."""
        previous, velocity = masks, torch.zeros_like(masks)
        losses: list[float] = []
        for _ in range(self.loop):
            loss, gradient = mask_gradient(step, masks)
            # The last step did not pay: stop, with the better of the masks before and after it.
            if self.tolerance and losses and losses[-1] - loss < self.tolerance:
                return masks if loss < losses[-1] else previous, losses
            losses.append(loss)
            velocity = self.momentum * velocity + gradient
            # Down the gradient: the mask moves to where it explains the reference frame better.
            previous, masks = masks, masks - self.rate * velocity
        return masks, losses


def _elapsed(start: float, device: torch.device) -> float:
    """Seconds since `start`, with all work on the device done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
