"""The cycle of STM-Cycle (Li et al., NeurIPS 2020): predict the reference frame back from a later one.

As a loss it trains the network (section 3.2); its gradient with respect to a mask corrects the mask (section 3.3).
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from libs.core.structures import CorrectedFrame
from libs.method.losses import mask_loss, present_channels
from libs.method.propagate import Remembered, Step


def predict_reference(step: Step, masks: Tensor | None = None) -> Tensor:
    """Predict the reference frame back from the memory of one later frame alone.

    Args:
        masks: (B, K, H, W) of the later frame, instead of those that are remembered of it.
    Returns: (B, K, H, W) logits.
    """
    memory = step.memory if masks is None else step.model.memorize(step.image, masks, step.objects)
    return step.model.segment(step.reference.query, [memory])


@dataclass(frozen=True)
class CycleLoss:
    """Sum of the cycle terms, and how many of the clips' frames gave one."""

    value: Tensor
    used: int
    skipped: int


def cycle_loss(steps: list[Step], truth: Tensor, num_objects: list[int], kind: str) -> CycleLoss:
    """Predict frame 0 from each later frame alone and compare with its true mask.

    A clip's frame counts only where its true mask holds the clip's highest label; of the objects, those in that mask.

    Args:
        steps: all T steps of propagation, frame 0 first; truth: (B, T, K, H, W) one-hot; num_objects: of each clip.
        kind: 'ce', 'iou' or 'both'.
    """
    value, used = truth.new_zeros(()), 0
    for t in range(len(steps) - 1, 0, -1):
        # An object that frame t does not show cannot be found from it. The original skips the term of a clip then,
        # but looks at the clip's last object only.
        present = [present_channels(masks) for masks in truth[:, t]]
        clips = [b for b, count in enumerate(num_objects) if present[b][count]]
        if not clips:
            continue
        logits = predict_reference(steps[t])
        value = value + sum(mask_loss(logits[b], truth[b, 0], present[b], kind) for b in clips)
        used += len(clips)
    return CycleLoss(value, used, len(num_objects) * (len(steps) - 1) - used)


class GradientCorrection:
    """Move a predicted mask down the gradient of the loss with which it predicts the reference frame back.

    It is a memory policy (`remember`) of Propagation, for one clip. Gradients of parameters are never computed.

    Args:
        every: correct frames at multiples of this (the paper: save_freq).
        loop: gradient steps; rate: their size; momentum: share of the last step that is added to the next.
        tolerance: stop where a step lowers the loss by less than this, and take the better mask; 0: never stop.
        sharpness: what the logits of all frames are multiplied by first; above 1 soft masks become harder, 1 is the paper's.
    """

    def __init__(
        self,
        every: int,
        loop: int,
        rate: float,
        momentum: float = 0.0,
        tolerance: float = 0.0,
        sharpness: float = 1.0,
    ) -> None:
        self.every, self.loop, self.rate = every, loop, rate
        self.momentum, self.tolerance, self.sharpness = momentum, tolerance, sharpness

    def __call__(self, step: Step) -> Remembered:
        """Masks (1, K, H, W) to remember of `step`; corrected ones are neither clamped nor normalised (original code)."""
        masks = (self.sharpness * step.logits).softmax(1)
        # Only frames that stay in the memory are worth the time (STM-Cycle, section 3.3).
        if step.t % self.every or not self.loop:
            return Remembered(masks)
        start, velocity, before, losses = time.perf_counter(), torch.zeros_like(masks), masks, []
        for _ in range(self.loop):
            loss, gradient = self._gradient(step, masks)
            if self._stalled(losses, loss):
                masks = masks if loss < losses[-1] else before
                break
            losses.append(loss)
            velocity = self.momentum * velocity + gradient
            before, masks = masks, masks - self.rate * velocity
        milliseconds = 1000 * _elapsed(start, masks.device)
        after = self._loss(step, masks).item()
        return Remembered(masks, CorrectedFrame(len(losses), losses[0], after, milliseconds))

    def _stalled(self, losses: list[float], loss: float) -> bool:
        return bool(self.tolerance and losses) and losses[-1] - loss < self.tolerance

    def _gradient(self, step: Step, masks: Tensor) -> tuple[float, Tensor]:
        leaf = masks.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(step, leaf)
        return loss.item(), torch.autograd.grad(loss, leaf)[0]

    def _loss(self, step: Step, masks: Tensor) -> Tensor:
        counted = torch.zeros(masks.shape[1], dtype=torch.bool, device=masks.device)
        counted[0] = counted[step.objects.channel] = True  # all objects count, present or not
        logits = predict_reference(step, masks)
        return mask_loss(logits[0], step.reference.masks[0], counted)


def _elapsed(start: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
