"""The training run: epochs of steps, validation, checkpoints from which it goes on."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from libs.checkpoint import save_checkpoint
from libs.distributed import Processes
from libs.evaluator import Report
from libs.log import Progress, RunLog
from libs.objective import Batch, EpochTotals, training_losses
from libs.optim import Precision, running_average
from libs.scores import j_and_f
from libs.sheet import contact_sheet, save_curves
from libs.structures import Clip, InputError, Loader
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


class Trainer:
    """Trains a model and keeps everything that going on needs.

    Args:
        scheduler: stepped at every update; validate: segments the validation set with the model in evaluation mode.
        processes: those that train together; the first writes.
        asked_to_stop: looked at after each update; then the run saves and ends.
    """

    def __init__(
        self, model: STM, loader: Loader, optimizer: Optimizer, scheduler: LRScheduler, settings: TrainSettings,
        log: RunLog, validate: Callable[[STM], Report], processes: Processes = Processes(),
        asked_to_stop: Callable[[], bool] = lambda: False,
    ):
        self.model, self.loader, self.optimizer, self.scheduler = model, loader, optimizer, scheduler
        self.settings, self.log, self.validate, self.processes = settings, log, validate, processes
        self.asked_to_stop = asked_to_stop
        self.device = next(model.parameters()).device
        self.precision, self.average = Precision(settings.amp, self.device), running_average(model, settings.ema)
        self.epoch, self.step, self.totals = 0, 0, EpochTotals()  # what is done: epochs, steps of this one, their sums
        self.validated = 0  # epochs after which validation was done or not due
        self.rate, self.best, self.history = 0.0, 0.0, []  # the rate with which this epoch began
        self._saved_at = 0  # step of this epoch
        self._started = time.perf_counter()  # begins anew with `run`
        self._shown: Clip | None = None  # on the contact sheet

    @property
    def result(self) -> STM:
        """The model that is validated and used: the running average where there is one."""
        return self.average.module if self.average else self.model

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
                self.log.say(f"stopped after epoch {self.epoch}, step {self.step}, saved; `resume auto` goes on from here")
                return
        if self.history and self.processes.writes:
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
                if 0 < self.settings.save_steps <= self.step - self._saved_at and self.step < steps:
                    self.save()
            progress.advance(f"loss {self.totals.means()['loss']:.4f}")
        progress.close()

    def _must_stop(self) -> bool:
        """Whether any process was asked to, or has trained for `max_minutes`."""
        most = self.settings.max_minutes
        over = 0 < 60 * most < time.perf_counter() - self._started
        return any(self.processes.gather(over or self.asked_to_stop()))

    def _accumulate(self, clips: list[Clip], together: int) -> None:
        """Add the gradients of one step, the mean over `together` clips; those of unequal length take separate passes."""
        settings = self.settings
        for length in sorted({len(clip.frames) for clip in clips}):
            same = [clip for clip in clips if len(clip.frames) == length]
            self._shown = same[0]
            batch = Batch.of(same, self.device)
            with self.precision():
                losses = training_losses(
                    self.model, batch, settings.mode, settings.loss, settings.iou_threshold, settings.cycle, settings.attention_loss,
                )
            total = losses.total.item()
            if not math.isfinite(total):  # the original went on in silence
                self._stop(same, total)
            share = len(same) / together / settings.iter_size
            self.precision.scaler.scale(losses.total * share).backward()
            self.totals += EpochTotals(
                len(same), total * len(same), losses.forward.item(), losses.cycle.item(), losses.cycle_used, losses.cycle_skipped,
                losses.attention.item(),
            )

    def _stop(self, clips: list[Clip], total: float) -> None:
        path = self.settings.checkpoint / f"stopped_{self.processes.rank}.pth.tar"
        names = [clip.name for clip in clips]
        save_checkpoint(path, {"names": names, "frames": [c.frames for c in clips], "labels": [c.labels for c in clips]})
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
        self.log.numbers(
            self.epoch + 1, loss__total=means["loss"], loss__forward=means["forward"], loss__cycle=means["cycle"],
            loss__attention=means["attention"], cycle__skipped=means["cycle_skipped"], learning_rate=self.rate,
            **{f"max_skip__{i}": float(skip) for i, skip in enumerate(self.loader.max_skip)},
        )
        self.log.say(
            f"epoch {self.epoch + 1}/{self.settings.epochs}: loss {means['loss']:.4f}, forward {means['forward']:.4f}, "
            f"cycle {means['cycle']:.4f} ({means['cycle_skipped']:.0%} skipped), attention {means['attention']:.4f}, learning rate {self.rate:g}, "
            f"max_skip {self.loader.max_skip}, {seconds:.1f} s"
        )

    def _finish_epoch(self) -> None:
        """Advance the curriculum, save, validate and draw where it is due."""
        self.epoch, self.step, self.totals = self.epoch + 1, 0, EpochTotals()
        if self.epoch % self.settings.epochs_per_increment == 0:
            self.loader.grow_max_skip()
        for model in {self.model, self.result}:
            self.processes.copy_buffers(model)
        due = self._due(self.settings.epoch_per_test)
        if not due:
            self.validated = self.epoch
        self.save()  # before what takes long, and may end at a frame that cannot be read
        if self._due(self.settings.epoch_per_sheet) and self._shown and self.processes.writes:
            sheet = contact_sheet(self.result, self._shown)
            self.log.picture(self.epoch, "clip", sheet, self.settings.checkpoint / f"sheet_{self.epoch:03d}.png")
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
            self.log.say(f"validation: {report.frames} frames segmented, no ground truth to score them with")
            return False
        self.history[-1].update({"J": summary.J.mean, "F": summary.F.mean, "J&F": score})
        self.log.say(f"validation: J {summary.J.mean:.1%}, F {summary.F.mean:.1%}, J&F {score:.1%}; {report.speed()}")
        self.log.numbers(self.epoch, val__J=summary.J.mean, val__F=summary.F.mean, val__JF=score)
        improved, self.best = score > self.best, max(score, self.best)
        return improved

    def save(self, best: bool = False, again: bool = False) -> None:
        """Write the checkpoint, from the first process, as the best too where it is that; `again`: in place of the newest."""
        state, stem = self.state(), self.settings.checkpoint / self.settings.mode
        if self.processes.writes:
            if best:  # before the checkpoint that says so
                save_checkpoint(Path(f"{stem}_best.pth.tar"), state)
            save_checkpoint(Path(f"{stem}.pth.tar"), state, 1 if again else self.settings.keep)
        self._saved_at = self.step

    def state(self) -> dict:
        """Everything that going on needs, at an update: no gradients are pending.

        Clips and their augmentation are functions of seed, epoch and position, so loaders have no state of their own.
        """
        return {
            "epoch": self.epoch, "step": self.step, "totals": asdict(sum(self.processes.gather(self.totals), start=EpochTotals())),
            "state_dict": self.model.state_dict(), "ema": self.average.module.state_dict() if self.average else None,
            "updates": int(self.average.n_averaged) if self.average else 0, "max_skip": list(self.loader.max_skip),
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
            "scaler": self.precision.scaler.state_dict(), "best": self.best, "history": self.history, "rate": self.rate,
            "rng": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            "solver": type(self.optimizer).__name__, "plan": self._plan(), "validated": self.validated,
        }

    def _plan(self) -> list[int]:
        """What a step and an epoch are."""
        return [len(self.loader), self.loader.clips_in_step(0), self.settings.iter_size]

    def check_together(self) -> None:
        """Raises: InputError where the processes do not stand at the same step."""
        if len(set(self.processes.gather((self.epoch, self.step)))) > 1:
            raise InputError("key 'checkpoint': expected one folder for all processes, on a shared disk; they do not go on from the same state")

    def restore(self, state: dict) -> None:
        """Go on from `state`, whose weights are in the model already.

        Learning rate, its schedule, weight decay and momentum are those of the config, changed or not.

        Raises: InputError where it was trained with another solver or number of sets, or stopped within other steps, or is no such state.
        """
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as fault:  # from a file that anyone can write
            raise InputError(f"the checkpoint to go on from has odd content ({type(fault).__name__}: {fault}); to start from its weights use initial") from fault

    def _restore(self, state: dict) -> None:
        """Take over what `state` holds."""
        if len(state["max_skip"]) != len(self.loader.max_skip):
            raise InputError(
                f"key 'trainset': the checkpoint was trained on {len(state['max_skip'])} sets, not on {len(self.loader.max_skip)}; "
                "to start from its weights use initial"
            )
        if state["solver"] != type(self.optimizer).__name__:
            raise InputError(f"key 'solver': the checkpoint was trained with {state['solver']}; to start from its weights use initial")
        if state["step"] and state["plan"] != self._plan():
            raise InputError(
                f"the checkpoint lies within an epoch of {state['plan'][0]} steps of {state['plan'][1]} clips, iter_size {state['plan'][2]}, "
                f"not {self._plan()}; give the same train_batch, iter_size, data and number of processes, or a checkpoint of a whole epoch"
            )
        self.epoch, self.step, self.rate, self.validated = state["epoch"], state["step"], state["rate"], state["validated"]
        self.best, self.history = state["best"], list(state["history"])
        self._saved_at = self.step
        self.totals = EpochTotals(**state["totals"]) if self.processes.writes else EpochTotals()
        self.loader.max_skip = [int(skip) for skip in state["max_skip"]]
        self._restore_optimizer(state)
        if state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        if self.average and state["ema"]:
            self.average.module.load_state_dict(state["ema"])
            self.average.n_averaged.fill_(state["updates"])
        torch.set_rng_state(state["rng"]["torch"])
        if state["rng"]["cuda"] and torch.cuda.device_count() == len(state["rng"]["cuda"]):
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])

    def _restore_optimizer(self, state: dict) -> None:
        """Moments and the place in the schedule from `state`, all else as the config says."""
        wanted = [{name: value for name, value in group.items() if name != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if state["plan"] != self._plan():
            self.scheduler.last_epoch = self.epoch * -(-len(self.loader) // self.settings.iter_size)
        self.scheduler.base_lrs = [group["initial_lr"] for group in wanted]
        for group, own, factor in zip(self.optimizer.param_groups, wanted, self.scheduler.lr_lambdas):
            group.update({**own, "lr": own["initial_lr"] * factor(self.scheduler.last_epoch)})
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]
