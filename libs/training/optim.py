"""Optimizers, learning-rate schedules, number formats of training, and the running average of the weights."""

import bisect
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
    return {"adam": Adam, "adamw": AdamW}[solver](
        parameters, learning_rate, betas=momentum, weight_decay=weight_decay
    )


def build_scheduler(
    optimizer: Optimizer,
    schedule: str,
    epochs: int,
    updates_per_epoch: int,
    milestones: list[int],
    gamma: float,
    warmup: float,
) -> LambdaLR:
    """A schedule that steps at every update of the weights; see `rate_factor`."""
    factor = partial(
        rate_factor,
        schedule=schedule,
        epochs=epochs,
        milestones=sorted(milestones),
        gamma=gamma,
        warmup=warmup,
    )
    return LambdaLR(optimizer, lambda update: factor(update / updates_per_epoch, first=1 / updates_per_epoch))


def rate_factor(
    epoch: float,
    schedule: str,
    epochs: int,
    milestones: list[int],
    gamma: float,
    warmup: float,
    first: float = 0.0,
) -> float:
    """What the learning rate is multiplied by at `epoch`, a fraction within an epoch included.

    'milestones': gamma for each milestone passed (the original multiplied by the rate itself); 'cosine': half a wave
    down to 0 at `epochs`; 'poly': (1 - epoch / epochs)^0.9. Before that it rises linearly over `warmup` epochs.

    Args:
        first: length of the first update in epochs, so that it does not begin with 0.
    """
    if epoch < warmup:
        return min(1.0, (epoch + first) / warmup)
    if schedule == "milestones":
        return gamma ** bisect.bisect_right(milestones, epoch + 1e-9)
    progress = min(1.0, (epoch - warmup) / max(epochs - warmup, 1e-9))
    return (1 - progress) ** POLY_POWER if schedule == "poly" else 0.5 * (1 + math.cos(math.pi * progress))


class Precision:
    """Number format of the network while training: weights stay in float32, as do soft aggregation and losses.

    Args:
        amp: 'off', 'bf16' or 'fp16'; fp16 scales the loss, so that small gradients do not vanish.
    """

    def __init__(self, amp: str, device: torch.device) -> None:
        self._device, self._dtype = (
            device.type,
            {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp],
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self.scaler.scale(
            torch.zeros((), device=device)
        )  # makes its state, also in a process that has no clip yet

    def __call__(self) -> AbstractContextManager:
        """The context in which the network runs."""
        return torch.autocast(self._device, self._dtype, enabled=self._dtype is not None)

    def update(self, optimizer: Optimizer, grad_clip: float) -> bool:
        """One update from the accumulated gradients, whose norm is cut to `grad_clip` (0: is not).

        Returns: False, and nothing is changed, where they are not finite; fp16 takes that as a sign to scale less.
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
    """Exponential moving average of the weights and buffers, None for decay 0."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None
