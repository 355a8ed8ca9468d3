"""The training run: epochs of steps, validation, checkpoints from which it goes on."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from libs.checkpoint import save_checkpoint
from libs.evaluator import Report
from libs.files import replacing
from libs.log import Progress, RunLog
from libs.objective import Batch, training_losses
from libs.scores import j_and_f
from libs.structures import Clip, InputError
from models.stm import STM


class Loader(Protocol):
    """What both data back ends offer."""

    max_skip: list[int]

    def __len__(self) -> int: ...

    def batches(self, epoch: int) -> Iterator[list[Clip]]:
        """Batches of clips of one epoch."""

    def grow_max_skip(self) -> None:
        """One increment of the curriculum."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train; meanings as the config's keys of the same names."""

    epochs: int
    iter_size: int
    epochs_per_increment: int
    epoch_per_test: int
    mode: str
    loss: str
    cycle: bool
    iou_threshold: float
    checkpoint: Path
    arch: str


@dataclass
class EpochTotals:
    """Sums over the steps of an epoch."""

    clips: int = 0
    total: float = 0.0
    forward: float = 0.0
    cycle: float = 0.0
    cycle_used: int = 0
    cycle_skipped: int = 0

    def means(self) -> dict[str, float]:
        """Per clip, and the share of cycle terms that were skipped."""
        clips, terms = max(self.clips, 1), max(self.cycle_used + self.cycle_skipped, 1)
        return {
            "loss": self.total / clips, "forward": self.forward / clips, "cycle": self.cycle / clips,
            "cycle_skipped": self.cycle_skipped / terms,
        }


class Trainer:
    """Trains a model and keeps everything that going on needs.

    Args:
        validate: segments the validation set with the model in evaluation mode.
    """

    def __init__(
        self, model: STM, loader: Loader, optimizer: Optimizer, scheduler: LRScheduler, settings: TrainSettings,
        log: RunLog, validate: Callable[[STM], Report],
    ):
        self.model, self.loader, self.optimizer, self.scheduler = model, loader, optimizer, scheduler
        self.settings, self.log, self.validate = settings, log, validate
        self.epoch, self.best = 0, 0.0
        self.device = next(model.parameters()).device

    def run(self) -> None:
        """Train from the current epoch to the last."""
        while self.epoch < self.settings.epochs:
            start = time.perf_counter()
            rate = self.scheduler.get_last_lr()[0]
            means = self.train_epoch()
            seconds = time.perf_counter() - start
            self.log.numbers(
                self.epoch + 1, loss__total=means["loss"], loss__forward=means["forward"], loss__cycle=means["cycle"],
                cycle__skipped=means["cycle_skipped"], learning_rate=rate,
                **{f"max_skip__{i}": float(skip) for i, skip in enumerate(self.loader.max_skip)},
            )
            self.log.say(
                f"epoch {self.epoch + 1}/{self.settings.epochs}: loss {means['loss']:.4f}, forward {means['forward']:.4f}, "
                f"cycle {means['cycle']:.4f} ({means['cycle_skipped']:.0%} skipped), learning rate {rate:g}, "
                f"max_skip {self.loader.max_skip}, {seconds:.1f} s"
            )
            self._finish_epoch()

    def train_epoch(self) -> dict[str, float]:
        """One pass over the loader, with an update every `iter_size` steps and one for what is left at the end.

        (The original dropped what was left.)
        """
        self.model.train()
        totals, steps = EpochTotals(), len(self.loader)
        progress = Progress(f"epoch {self.epoch + 1}", steps)
        for number, clips in enumerate(self.loader.batches(self.epoch), start=1):
            self._accumulate(clips, totals)
            if number % self.settings.iter_size == 0 or number == steps:
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            progress.advance(f"loss {totals.total / totals.clips:.4f}")
        progress.close()
        return totals.means()

    def _accumulate(self, clips: list[Clip], totals: EpochTotals) -> None:
        """Add the gradients of one step; clips of unequal length take separate passes."""
        for length in sorted({len(clip.frames) for clip in clips}):
            batch = Batch.of([clip for clip in clips if len(clip.frames) == length], self.device)
            settings = self.settings
            losses = training_losses(self.model, batch, settings.mode, settings.loss, settings.iou_threshold, settings.cycle)
            total, weight = losses.total.item(), len(batch.names) / len(clips)
            if not math.isfinite(total):  # the original went on in silence
                raise InputError(
                    f"epoch {self.epoch + 1}: the loss of {', '.join(batch.names)} is {total}; lower learning_rate, "
                    "or look at these clips; the last complete epoch is in the checkpoint"
                )
            (losses.total * weight / settings.iter_size).backward()
            totals.clips += len(batch.names)
            totals.total += total * len(batch.names)
            totals.forward += losses.forward.item()
            totals.cycle += losses.cycle.item()
            totals.cycle_used += losses.cycle_used
            totals.cycle_skipped += losses.cycle_skipped

    def _finish_epoch(self) -> None:
        """Advance the schedules, validate where it is due, save."""
        self.epoch += 1
        self.scheduler.step()
        if self.epoch % self.settings.epochs_per_increment == 0:
            self.loader.grow_max_skip()
        improved = self._validate() if self._validation_due() else False
        path = self.settings.checkpoint / f"{self.settings.mode}.pth.tar"
        save_checkpoint(path, self.state())
        if improved:
            with replacing(path.with_name(f"{self.settings.mode}_best.pth.tar")) as temporary:
                shutil.copyfile(path, temporary)

    def _validation_due(self) -> bool:
        every = self.settings.epoch_per_test
        return every > 0 and (self.epoch % every == 0 or self.epoch == self.settings.epochs)

    def _validate(self) -> bool:
        """Print the scores of the validation set; whether they are the best so far."""
        self.model.eval()
        report = self.validate(self.model)
        score = j_and_f(report.summary)
        if score is None:
            self.log.say(f"validation: {report.frames} frames segmented, no ground truth to score them with")
            return False
        summary = report.summary
        self.log.say(f"validation: J {summary.J.mean:.1%}, F {summary.F.mean:.1%}, J&F {score:.1%}; {report.speed()}")
        self.log.numbers(self.epoch, val__J=summary.J.mean, val__F=summary.F.mean, val__JF=score)
        improved, self.best = score > self.best, max(score, self.best)
        return improved

    def state(self) -> dict:
        """Everything that going on needs; clips are functions of seed and epoch, so loaders have no state of their own."""
        return {
            "epoch": self.epoch, "state_dict": self.model.state_dict(), "max_skip": list(self.loader.max_skip),
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(), "best": self.best,
            "rng": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            "arch": self.settings.arch, "mode": self.settings.mode,
        }

    def restore(self, state: dict) -> None:
        """Go on from `state`, whose weights are in the model already.

        Raises: InputError where it was trained with another solver or another number of sets.
        """
        if len(state["max_skip"]) != len(self.loader.max_skip):
            raise InputError(
                f"key 'trainset': the checkpoint was trained on {len(state['max_skip'])} sets, not on {len(self.loader.max_skip)}; "
                "to start from its weights use initial"
            )
        if ("betas" in state["optimizer"]["param_groups"][0]) != ("betas" in self.optimizer.param_groups[0]):  # only Adam has them
            raise InputError("key 'solver': the checkpoint was trained with the other one; to start from its weights use initial")
        self.epoch, self.best = state["epoch"], state["best"]
        self.loader.max_skip = list(state["max_skip"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["rng"]["torch"])
        if state["rng"]["cuda"] and torch.cuda.device_count() == len(state["rng"]["cuda"]):
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
