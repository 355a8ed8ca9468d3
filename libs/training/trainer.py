"""The training run: epochs of steps, validation, checkpoints from which it goes on."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from libs.core.errors import InputError
from libs.core.log import Progress, RunLog
from libs.core.structures import Clip, Loader
from libs.evaluation.evaluator import Report
from libs.evaluation.scores import j_and_f
from libs.method.objective import Batch, EpochTotals, training_losses
from libs.training.checkpoint import save_checkpoint
from libs.training.distributed import Processes
from libs.training.figures import contact_sheet, save_curves
from libs.training.optim import Precision, running_average
from libs.training.training_state import TrainingState
from models.stm import STM


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
    amp: str = "off"
    grad_clip: float = 0.0
    ema: float = 0.0
    save_steps: int = 0
    keep: int = 1
    epoch_per_sheet: int = 0
    attention_loss: float = 0.0
    max_minutes: float = 0.0


class Trainer(TrainingState):
    """Trains a model, and saves all that going on needs.

    Args:
        scheduler: stepped at every update; validate: segments the validation set with the model in evaluation mode.
        processes: those that train together; the first writes.
        asked_to_stop: looked at after each update; then the run saves and ends.
    """

    def __init__(
        self,
        model: STM,
        loader: Loader,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        settings: TrainSettings,
        log: RunLog,
        validate: Callable[[STM], Report],
        processes: Processes = Processes(),
        asked_to_stop: Callable[[], bool] = lambda: False,
    ):
        device = next(model.parameters()).device
        precision, average = Precision(settings.amp, device), running_average(model, settings.ema)
        super().__init__(
            model, average, loader, optimizer, scheduler, precision, processes, settings.iter_size
        )
        self.settings, self.log, self.validate, self.asked_to_stop, self.device = (
            settings,
            log,
            validate,
            asked_to_stop,
            device,
        )
        self._started = time.perf_counter()  # begins anew with `run`
        self._shown: Clip | None = None  # on the contact sheet

    def run(self) -> None:
        """Train from where it stands to the last epoch, or as long as the settings let it."""
        self._started = time.perf_counter()
        if self.validated < self.epoch:  # the run stopped in between
            self._validate()
        while self.epoch < self.settings.epochs:
            start = time.perf_counter()
            self.train_epoch()
            if self.step == len(self.loader):
                self._report(time.perf_counter() - start)
                self._finish_epoch()
            if self.epoch < self.settings.epochs and self._must_stop():
                self.log.info(
                    f"stopped after epoch {self.epoch}, step {self.step}, saved; `resume auto` goes on from here"
                )
                return
        if self.history and self.processes.is_main:
            save_curves(self.history, self.settings.checkpoint / "curves.png")

    def train_epoch(self) -> None:
        """The rest of an epoch, with an update every `iter_size` steps and one for what is left at the end.

        (The original dropped what was left.) Stops at an update, and saves, where it must.
        """
        self.model.train()
        self.rate = self.rate if self.step else self.scheduler.get_last_lr()[0]
        steps, every = len(self.loader), self.settings.iter_size
        progress = Progress(f"epoch {self.epoch + 1}", steps - self.step)
        for clips in self.loader.batches(self.epoch, self.step):
            self._accumulate(clips, self.loader.clips_in_step(self.step))
            self.step += 1
            if self.step % every == 0 or self.step == steps:
                self._update()
                if self.step < steps and self._must_stop():
                    self.save()
                    break
                if 0 < self.settings.save_steps <= self.step - self.saved_at and self.step < steps:
                    self.save()
            progress.advance(f"loss {self.totals.means()['loss']:.4f}")
        progress.close()

    def _must_stop(self) -> bool:
        """Whether any process was asked to, or has trained for `max_minutes`."""
        most = self.settings.max_minutes
        over = 0 < 60 * most < time.perf_counter() - self._started
        return any(self.processes.gather(over or self.asked_to_stop()))

    def _accumulate(self, clips: list[Clip], together: int) -> None:
        """Add the gradients of one step, the mean over `together` clips; each shape takes its own pass."""
        settings = self.settings
        for shape in sorted({clip.frames.shape for clip in clips}):
            same = [clip for clip in clips if clip.frames.shape == shape]
            self._shown = same[0]
            batch = Batch.of(same, self.device)
            with self.precision():
                losses = training_losses(
                    self.model,
                    batch,
                    mode=settings.mode,
                    kind=settings.loss,
                    iou_threshold=settings.iou_threshold,
                    cycle=settings.cycle,
                    attention=settings.attention_loss,
                )
            total = losses.total.item()
            if not math.isfinite(total):  # the original went on in silence
                self._stop(same, total)
            share = len(same) / together / settings.iter_size
            self.precision.scaler.scale(losses.total * share).backward()
            self.totals += EpochTotals(
                len(same),
                total * len(same),
                losses.forward.item(),
                losses.cycle.item(),
                losses.cycle_used,
                losses.cycle_skipped,
                losses.attention.item(),
            )

    def _stop(self, clips: list[Clip], total: float) -> None:
        path = self.settings.checkpoint / f"stopped_{self.processes.rank}.pth.tar"
        names = [clip.name for clip in clips]
        save_checkpoint(
            path, {"names": names, "frames": [c.frames for c in clips], "labels": [c.labels for c in clips]}
        )
        raise InputError(
            f"epoch {self.epoch + 1}: the loss of {', '.join(names)} is {total}; lower learning_rate, or look at these clips, "
            f"which are in {path}; the checkpoint holds the last good state"
        )

    def _update(self) -> None:
        self.processes.sum_gradients(self.model.parameters())
        if not self.precision.update(self.optimizer, self.settings.grad_clip):
            raise InputError(
                f"epoch {self.epoch + 1}, step {self.step}: the gradients are not finite; lower learning_rate or set grad_clip; "
                "the checkpoint holds the last good state"
            )
        self.scheduler.step()
        if self.average:
            self.average.update_parameters(self.model)

    def _report(self, seconds: float) -> None:
        """The epoch in one line, and its numbers."""
        means = sum(self.processes.gather(self.totals), start=EpochTotals()).means()
        self.history.append({"epoch": self.epoch + 1, "learning rate": self.rate, **means})
        self.log.scalars(
            self.epoch + 1,
            loss__total=means["loss"],
            loss__forward=means["forward"],
            loss__cycle=means["cycle"],
            loss__attention=means["attention"],
            cycle__skipped=means["cycle_skipped"],
            learning_rate=self.rate,
            **{f"max_skip__{i}": float(skip) for i, skip in enumerate(self.loader.max_skip)},
        )
        terms = (
            f"cycle {means['cycle']:.4f} ({means['cycle_skipped']:.0%} skipped), "
            if self.settings.cycle
            else ""
        )
        terms += f"attention {means['attention']:.4f}, " if self.settings.attention_loss else ""
        self.log.info(
            f"epoch {self.epoch + 1}/{self.settings.epochs}: loss {means['loss']:.4f} a predicted frame, forward {means['forward']:.4f} a clip, {terms}learning rate {self.rate:g}, "
            f"max_skip {self.loader.max_skip}, {seconds:.1f} s"
        )

    def _finish_epoch(self) -> None:
        """Advance the curriculum, save, validate and draw where it is due."""
        self.epoch, self.step, self.totals = self.epoch + 1, 0, EpochTotals()
        if self.epoch % self.settings.epochs_per_increment == 0:
            self.loader.grow_max_skip()
        for model in dict.fromkeys((self.model, self.result)):  # in the same order in all processes
            self.processes.copy_buffers(model)
        due = self._due(self.settings.epoch_per_test)
        if not due:
            self.validated = self.epoch
        self.save()  # before what takes long, and may end at a frame that cannot be read
        if self._due(self.settings.epoch_per_sheet) and self._shown and self.processes.is_main:
            sheet = contact_sheet(self.result, self._shown)
            self.log.image(
                self.epoch, "clip", sheet, self.settings.checkpoint / f"sheet_{self.epoch:03d}.png"
            )
        if due:
            self._validate()

    def _due(self, every: int) -> bool:
        return every > 0 and (self.epoch % every == 0 or self.epoch == self.settings.epochs)

    def _validate(self) -> None:
        """Segment the validation set, and note in the checkpoint what it gave."""
        self.result.eval()
        with self.precision():
            report = self.validate(self.result)
        improved = self._take_scores(report)
        self.validated = self.epoch
        self.save(improved, again=True)

    def _take_scores(self, report: Report) -> bool:
        """Print the scores; whether they are the best so far."""
        score, summary = j_and_f(report.summary), report.summary
        if score is None:
            self.log.info(f"validation: {report.frames} frames segmented, no ground truth to score them with")
            return False
        self.history[-1].update({"J": summary.J.mean, "F": summary.F.mean, "J&F": score})
        self.log.info(
            f"validation: J {summary.J.mean:.1%}, F {summary.F.mean:.1%}, J&F {score:.1%}; {report.speed()}"
        )
        self.log.scalars(self.epoch, val__J=summary.J.mean, val__F=summary.F.mean, val__JF=score)
        improved, self.best = score > self.best, max(score, self.best)
        return improved

    def save(self, best: bool = False, again: bool = False) -> None:
        """Write the checkpoint, from the first process, as the best too where it is that; `again`: in place of the newest."""
        state, stem = self.state(), self.settings.checkpoint / self.settings.mode
        if self.processes.is_main:
            if best:  # before the checkpoint that says so
                save_checkpoint(Path(f"{stem}_best.pth.tar"), state)
            save_checkpoint(Path(f"{stem}.pth.tar"), state, 1 if again else self.settings.keep)
        self.saved_at = self.step
