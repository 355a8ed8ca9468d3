"""The training run around the training step: when to save, validate, draw, log and stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libs.core.errors import InputError
from libs.core.log import Progress, RunLog
from libs.core.structures import Clip, Loader
from libs.evaluation.evaluator import Report
from libs.evaluation.scores import overall
from libs.method.objective import EpochTotals
from libs.training.checkpoint import SUFFIX, save_checkpoint
from libs.training.figures import contact_sheet, save_curves
from libs.training.trainer import NonFiniteError, Trainer
from libs.training.training_state import TrainingState
from models.stm import STM


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """When a run saves, validates, draws and stops. All fields but `path` are named as their config keys."""

    path: Path  # of the checkpoint; whatever else the run writes lies beside it
    epochs: int
    epochs_per_increment: int
    epoch_per_test: int
    epoch_per_sheet: int
    save_steps: int
    keep: int
    max_minutes: float


class TrainingRun:
    """Trains until the last epoch, and writes checkpoints, log and figures on the way.

    Args:
        validate: segments the validation set with a model in evaluation mode.
        stop_requested: asked after each update; once it is true, the run saves and ends.
        clock: seconds; a parameter so that tests need not wait.
    """

    def __init__(
        self,
        trainer: Trainer,
        loader: Loader,
        settings: RunSettings,
        log: RunLog,
        *,
        validate: Callable[[STM], Report],
        stop_requested: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.trainer = trainer
        self.loader = loader
        self.settings = settings
        self.log = log
        self.state = TrainingState(trainer, loader)
        self._validate_model = validate
        self._stop_requested = stop_requested
        self._clock = clock
        self._processes = trainer.processes
        self._saved_step = 0  # of the current epoch
        self._last_clip: Clip | None = None  # shown on the contact sheet

    def run(self) -> None:
        """Train from the current state to the last epoch, or until the run must stop."""
        state = self.state
        self._started = self._clock()
        self._saved_step = state.step
        steps_left = (self.settings.epochs - state.epoch) * len(self.loader) - state.step
        self._progress = Progress(
            "epoch", steps_left, record=self.log.record, shown=self._processes.is_main, clock=self._clock
        )
        # The earlier run may have ended between saving an epoch and validating it.
        if state.validated < state.epoch and self.settings.epoch_per_test:
            self._validate()
        while state.epoch < self.settings.epochs:
            stopped = self._train_epoch()
            if not stopped:
                self._finish_epoch()
                stopped = state.epoch < self.settings.epochs and self._must_stop()
            if stopped:
                self.log.info(
                    f"stopped after epoch {state.epoch}, step {state.step}; the state is saved, "
                    "`resume auto` continues from it"
                )
                return
        if state.history and self._processes.is_main:
            save_curves(state.history, self.settings.path.with_name("curves.png"))

    def _train_epoch(self) -> bool:
        """Train for the rest of the current epoch.

        Returns: whether the run must stop before the end of the epoch; its state is saved then.
        """
        state, start = self.state, self._clock()
        steps = len(self.loader)
        self.trainer.model.train()
        if state.step == 0:  # the log and the curves show the rate of an epoch's start, also after resuming
            state.rate = self.trainer.learning_rate
        with self._progress.section(f"{state.epoch + 1}/{self.settings.epochs}", steps, done=state.step):
            for clips in self.loader.batches(state.epoch, state.step):
                updated = self._train_step(clips)
                # A checkpoint holds no gradients, so save and stop only right after an update.
                # The last update of an epoch is saved in `_finish_epoch`.
                if updated and state.step < steps:
                    if self._must_stop():
                        self._save()
                        return True
                    if 0 < self.settings.save_steps <= state.step - self._saved_step:
                        self._save()
                self._progress.advance(f"loss {state.totals.means()['loss']:.4f}")
        self._report_epoch(self._clock() - start)
        return False

    def _train_step(self, clips: list[Clip]) -> bool:
        """One step: gradients, and an update if one is due. Returns: whether the weights were updated.

        Raises: InputError if a loss or a gradient is not finite.
        """
        state, trainer = self.state, self.trainer
        self._last_clip = clips[0] if clips else self._last_clip
        try:
            state.totals += trainer.forward_backward(clips, self.loader.clips_in_step(state.step))
            state.step += 1
            # Gradients left at the end of an epoch get an update of their own. (The original dropped them.)
            due = state.step % trainer.settings.iter_size == 0 or state.step == len(self.loader)
            if due:
                trainer.update()
        except NonFiniteError as error:
            raise self._input_error(error) from error
        return due

    def _input_error(self, error: NonFiniteError) -> InputError:
        """What to tell about a loss or gradient that is not finite; saves the clips that gave the loss."""
        last_good = "the checkpoint holds the last good state"
        if not error.clips:
            place = f"epoch {self.state.epoch + 1}, step {self.state.step}"
            return InputError(f"{place}: {error}; lower learning_rate or set grad_clip; {last_good}")
        path = self.settings.path.with_name(f"stopped_{self._processes.rank}{SUFFIX}")
        content = {
            "names": [clip.name for clip in error.clips],
            "frames": [clip.frames for clip in error.clips],
            "labels": [clip.labels for clip in error.clips],
        }
        save_checkpoint(path, content)
        return InputError(
            f"epoch {self.state.epoch + 1}: {error}; lower learning_rate, or inspect these clips, "
            f"saved as {path}; {last_good}"
        )

    def _must_stop(self) -> bool:
        """Whether any process was asked to stop (SIGTERM, SIGINT) or has trained for `max_minutes`."""
        limit = 60 * self.settings.max_minutes
        time_is_up = 0 < limit < self._clock() - self._started
        # All processes must decide alike, or some would wait for the gradients of those that left.
        return any(self._processes.gather(time_is_up or self._stop_requested()))

    def _finish_epoch(self) -> None:
        """Advance the curriculum, save, then draw and validate if due."""
        state, settings = self.state, self.settings
        state.epoch += 1
        state.step = 0
        state.totals = EpochTotals()
        # The curriculum: from now on, sampled frames may lie further apart.
        if state.epoch % settings.epochs_per_increment == 0:
            self.loader.grow_max_skip()
        self.trainer.broadcast_buffers()
        validation_due = self._due(settings.epoch_per_test)
        if not validation_due:
            state.validated = state.epoch
        # Save before validation: it takes long, and a frame that cannot be read or a signal may end it.
        self._save()
        if self._due(settings.epoch_per_sheet) and self._last_clip and self._processes.is_main:
            sheet = contact_sheet(self.trainer.eval_model, self._last_clip)
            self.log.image(
                state.epoch, "clip", sheet, settings.path.with_name(f"sheet_{state.epoch:03d}.png")
            )
        if validation_due:
            self._validate()

    def _due(self, every: int) -> bool:
        """Whether it is time for what is done every `every` epochs (0: never) and after the last one."""
        return every > 0 and (self.state.epoch % every == 0 or self.state.epoch == self.settings.epochs)

    def _validate(self) -> None:
        """Segment the validation set, and save the scores in the newest checkpoint."""
        model = self.trainer.eval_model.eval()
        with self.trainer.precision():
            report = self._validate_model(model)
        is_best = self._record_scores(report)
        self.state.validated = self.state.epoch
        self._save(is_best, replace_newest=True)

    def _record_scores(self, report: Report) -> bool:
        """Log the scores and add them to the history. Returns: whether J&F is the best so far."""
        state, summary = self.state, report.summary
        score = overall(summary)
        if score is None:
            self.log.info(f"validation: {report.frames} frames segmented, no ground truth to score them with")
            return False
        found = {name: m.mean for name, m in (("J", summary.J), ("F", summary.F)) if m}
        found |= {"J&F": score} if "F" in found else {}
        state.history[-1].update(found)
        line = ", ".join(f"{name} {value:.1%}" for name, value in found.items())
        self.log.info(f"validation: {line}; {report.speed()}")
        self.log.scalars(state.epoch, **{f"val__{name.replace('&', '')}": v for name, v in found.items()})
        is_best = score > state.best
        state.best = max(score, state.best)
        return is_best

    def _report_epoch(self, seconds: float) -> None:
        """Log the finished epoch in one line and as scalars, and add it to the history."""
        state = self.state
        max_skip = self.loader.max_skip
        epoch = state.epoch + 1
        means = sum(self._processes.gather(state.totals), start=EpochTotals()).means()
        state.history.append({"epoch": epoch, "learning rate": state.rate, **means})
        self.log.scalars(
            epoch,
            loss__total=means["loss"],
            loss__forward=means["forward"],
            loss__cycle=means["cycle"],
            loss__attention=means["attention"],
            cycle__skipped=means["cycle_skipped"],
            learning_rate=state.rate,
            **{f"max_skip__{i}": float(skip) for i, skip in enumerate(max_skip)},
        )
        parts = [f"loss {means['loss']:.4f} per predicted frame", f"forward {means['forward']:.4f} per clip"]
        if self.trainer.settings.cycle:
            parts.append(f"cycle {means['cycle']:.4f} ({means['cycle_skipped']:.0%} skipped)")
        if self.trainer.settings.attention_loss:
            parts.append(f"attention {means['attention']:.4f}")
        parts += [f"learning rate {state.rate:g} at its start", f"max_skip {max_skip}", f"{seconds:.1f} s"]
        self.log.info(f"epoch {epoch}/{self.settings.epochs}: {', '.join(parts)}")

    def _save(self, is_best: bool = False, replace_newest: bool = False) -> None:
        """Write the checkpoint in the main process, and a copy if it is the best one.

        Args:
            replace_newest: overwrite the newest checkpoint, rather than keep it as the one before.
        """
        path, content = self.settings.path, self.state.state_dict()  # all processes: it gathers their sums
        if self._processes.is_main:
            # First the copy: if the run is killed in between, validation and this copy are done again.
            if is_best:
                save_checkpoint(path.with_name(path.name.removesuffix(SUFFIX) + f"_best{SUFFIX}"), content)
            save_checkpoint(path, content, 1 if replace_newest else self.settings.keep)
        self._saved_step = self.state.step
