"""Optimizers, the learning rate over time, mixed precision, and the running average of the weights."""

import bisect
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from libs.core.precision import DTYPES, choose_precision

SOLVERS = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
SCHEDULES = ("milestones", "cosine", "poly")
POLY_POWER = 0.9


def build_optimizer(
    parameters: Iterable[Parameter],
    solver: str,
    learning_rate: float,
    momentum: tuple[float, float],
    weight_decay: float,
) -> Optimizer:
    """'adam' or 'adamw' with betas `momentum`, or 'sgd' with its first entry."""
    if solver == "sgd":
        return SGD(parameters, learning_rate, momentum=momentum[0], weight_decay=weight_decay)
    return SOLVERS[solver](parameters, learning_rate, betas=momentum, weight_decay=weight_decay)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over time, as a factor on the configured rate.

    kind: 'milestones': times `gamma` at each milestone epoch; 'cosine': half a wave down to 0 at `epochs`;
        'poly': (1 - epoch / epochs)^0.9.
    warmup: epochs, or a fraction of one, over which the factor rises linearly from 0 first.
    """

    kind: str
    epochs: int
    milestones: Sequence[int] = ()
    gamma: float = 0.1
    warmup: float = 0.0

    def factor(self, epoch: float, first_update: float = 0.0) -> float:
        """The factor after `epoch` epochs, which may be a fraction.

        Args:
            first_update: length of an update in epochs, so that warm-up does not start with a rate of 0.
        """
        if epoch < self.warmup:
            return min(1.0, (epoch + first_update) / self.warmup)
        if self.kind == "milestones":
            # updates / updates per epoch may round to just below a whole epoch.
            passed = bisect.bisect_right(sorted(self.milestones), epoch + 1e-9)
            return self.gamma**passed  # the original multiplied by the rate itself: 1e-5, then 1e-11
        progress = min(1.0, (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9))
        if self.kind == "poly":
            return (1 - progress) ** POLY_POWER
        return 0.5 * (1 + math.cos(math.pi * progress))


def build_scheduler(optimizer: Optimizer, schedule: Schedule, updates_per_epoch: int) -> LambdaLR:
    """A scheduler to step at every update of the weights."""
    per_update = 1 / updates_per_epoch
    return LambdaLR(optimizer, lambda update: schedule.factor(update / updates_per_epoch, per_update))


class Precision:
    """Mixed precision: the network runs in half precision; weights, soft aggregation and losses in float32.

    Args:
        amp: 'off', 'bf16', 'fp16' or 'auto'. fp16 scales the loss up, so that small gradients do not
            become 0.
    """

    def __init__(self, amp: str, device: torch.device) -> None:
        self._device = device.type
        amp = choose_precision(amp, device)
        self._dtype = DTYPES[amp]
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        # The scaler creates its state at first use; a process without clips in the first step needs it too.
        self.scaler.scale(torch.zeros((), device=device))

    def __call__(self) -> AbstractContextManager:
        """The context in which to run the network."""
        return torch.autocast(self._device, self._dtype, enabled=self._dtype != torch.float32)

    def update(self, optimizer: Optimizer, grad_clip: float) -> bool:
        """Update the weights once from the accumulated gradients, then clear these.

        Args:
            grad_clip: largest norm of the gradient; a longer one is scaled down to it. 0: any norm.
        Returns: False, with nothing changed, if the gradients are not finite. fp16 returns True even then: it
            skips the update and lowers its scale, as overflows are normal while it searches for a scale.
        """
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, grad_clip or math.inf)
        if not self.scaler.is_enabled() and not norm.isfinite():
            return False
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return True


def running_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Exponential moving average of the weights and buffers; None if `decay` is 0."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
