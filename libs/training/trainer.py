"""The training step of STM-Cycle: gradients of a few clips, then one update of the weights.

When to save, validate, log and stop is decided in libs/training/run.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from libs.core.distributed import ALONE, Processes
from libs.core.structures import Clip
from libs.method.objective import Batch, EpochTotals, Losses, training_losses
from libs.training.optim import Precision, running_average
from models.stm import STM


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite; `clips` are those that gave the loss, none for a gradient."""

    def __init__(self, message: str, clips: Sequence[Clip] = ()):
        super().__init__(message)
        self.clips = clips


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How an update is computed. Each field means the same as the config key of its name."""

    mode: str
    loss: str
    cycle: bool
    iou_threshold: float
    iter_size: int
    attention_loss: float
    mask_damage: float
    amp: str
    grad_clip: float
    ema: float


class Trainer:
    """Computes gradients and updates the weights; knows nothing of epochs, files or signals.

    Args:
        scheduler: sets the learning rate; advances by one at every update.
        processes: those that train together, each on its own clips.
    """

    def __init__(
        self,
        model: STM,
        optimizer: Optimizer,
        scheduler: LambdaLR,
        settings: StepSettings,
        processes: Processes = ALONE,
    ):
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.settings = settings
        self.processes = processes
        self.device = next(model.parameters()).device
        self.precision = Precision(settings.amp, self.device)
        self.average = running_average(model, settings.ema)

    @property
    def eval_model(self) -> STM:
        """The model to validate and to use later: the running average of the weights if there is one."""
        return cast(STM, self.average.module) if self.average else self.model

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.scheduler.get_last_lr()[0])

    def forward_backward(self, clips: list[Clip], clips_in_step: int) -> EpochTotals:
        """Compute the losses of one step's clips and add their gradients to the accumulated ones.

        Args:
            clips: this process's clips of the step; there may be none at the end of an epoch.
            clips_in_step: number of clips of all processes together.
        Returns: sums of the losses over `clips`, for the log.
        Raises: NonFiniteError if a loss is NaN or infinite.
        """
        totals = EpochTotals()
        # Only clips of one shape can be stacked, so each shape takes its own forward and backward pass.
        for shape in sorted({clip.frames.shape for clip in clips}):
            same = [clip for clip in clips if clip.frames.shape == shape]
            # Under amp the network runs in half precision; soft aggregation and losses stay in float32.
            with self.precision():
                losses = self._losses(Batch.of(same, self.device))
            # One update with NaN would destroy the weights. (The original skipped such steps in silence.)
            loss = losses.total.item()
            if not math.isfinite(loss):
                names = ", ".join(clip.name for clip in same)
                raise NonFiniteError(f"the loss of {names} is {loss}", same)
            # `losses.total` is a mean over `same`. With this weight, the passes of all processes add up to a
            # mean over the step's clips, and `iter_size` steps to a mean over the steps of an update.
            weight = len(same) / clips_in_step / self.settings.iter_size
            # fp16 would round small gradients to 0, so its loss is scaled up; else the scaler does nothing.
            self.precision.scaler.scale(losses.total * weight).backward()
            totals += _totals(losses, loss, len(same))
        return totals

    def update(self) -> None:
        """Update the weights from the accumulated gradients, and clear these.

        Raises: NonFiniteError if a gradient is NaN or infinite; not in fp16, see `Precision.update`.
        """
        # Each process has seen its own clips only; the sum is the gradient of the whole step.
        self.processes.sum_gradients(self.model.parameters())
        # Undo fp16's scale, clip the norm, step, and set the gradients to None for the next update.
        if not self.precision.update(self.optimizer, self.settings.grad_clip):
            raise NonFiniteError("the gradients are not finite")
        # The learning rate falls here: the schedule counts updates (Schedule in libs/training/optim.py).
        self.scheduler.step()
        # The running average follows every update, so that its decay is per update too.
        if self.average:
            self.average.update_parameters(self.model)

    def broadcast_buffers(self) -> None:
        """Give all processes the buffers of the main one, see `Processes.broadcast_buffers`."""
        for model in dict.fromkeys((self.model, self.eval_model)):  # ordered: all processes must agree on it
            self.processes.broadcast_buffers(model)

    def _losses(self, batch: Batch) -> Losses:
        settings = self.settings
        return training_losses(
            self.model,
            batch,
            mode=settings.mode,
            kind=settings.loss,
            iou_threshold=settings.iou_threshold,
            cycle=settings.cycle,
            attention=settings.attention_loss,
            mask_damage=settings.mask_damage,
        )


def _totals(losses: Losses, loss: float, clips: int) -> EpochTotals:
    """The losses as plain numbers; `loss` is a mean over the clips, all others are sums already."""
    return EpochTotals(
        clips=clips,
        total=loss * clips,
        forward=losses.forward.item(),
        cycle=losses.cycle.item(),
        cycle_used=losses.cycle_used,
        cycle_skipped=losses.cycle_skipped,
        attention=losses.attention.item(),
    )
