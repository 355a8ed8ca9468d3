"""The state of a training run: what must be saved to resume it bit for bit."""

from dataclasses import asdict
from typing import Any

import torch

from libs.core.errors import InputError
from libs.core.structures import Loader
from libs.method.objective import EpochTotals
from libs.training.trainer import Trainer

WEIGHTS_ONLY = "to start from its weights only, use `initial`"


class TrainingState:
    """How far a run has come; with the trainer's and the loader's state, the content of a checkpoint."""

    def __init__(self, trainer: Trainer, loader: Loader):
        self.trainer = trainer
        self.loader = loader
        self.epoch = 0  # finished epochs
        self.step = 0  # finished steps of the current epoch
        self.totals = EpochTotals()  # sums of the losses over these steps
        self.validated = 0  # finished epochs whose validation is done or was not due
        self.rate = 0.0  # learning rate at the start of the current epoch
        self.best = 0.0  # best J&F of all validations
        self.history: list[dict[str, float]] = []  # losses and scores of each epoch

    def state_dict(self) -> dict[str, Any]:
        """The content of a checkpoint. All processes call it, right after an update: gradients are not saved.

        Loaders save only `max_skip`: clips and augmentation are functions of seed, epoch and position.
        """
        trainer, average = self.trainer, self.trainer.average
        return {
            # where the run is
            "epoch": self.epoch,
            "step": self.step,
            "totals": asdict(sum(trainer.processes.gather(self.totals), start=EpochTotals())),
            "validated": self.validated,
            "plan": self._plan(),
            # the network, and the running average of its weights
            "state_dict": trainer.model.state_dict(),
            "ema": average.module.state_dict() if average else None,
            "updates": int(average.n_averaged) if average else 0,
            # the curriculum: largest gap between sampled frames, per training set
            "max_skip": list(self.loader.max_skip),
            # the optimizer, the schedule of its learning rate, the loss scale of fp16
            "solver": type(trainer.optimizer).__name__,
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.scheduler.state_dict(),
            "rate": self.rate,
            "scaler": trainer.precision.scaler.state_dict(),
            # results so far
            "best": self.best,
            "history": self.history,
            # random numbers of the training process
            "rng": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state`, whose weights are in the model already.

        Learning rate, schedule, weight decay and momentum come from the config, even if they have changed.
        A checkpoint of the original gives only the epoch and `max_skip`.

        Raises: InputError if `state` has another solver or number of training sets, lies within an epoch of
            other steps, or has invalid content.
        """
        try:
            self._load_curriculum(state)
            if "optimizer" in state:
                self._load_progress(state)
        # Anyone can write such a file, and invalid content fails in many ways.
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(
                f"cannot resume: the checkpoint has invalid content ({reason}); {WEIGHTS_ONLY}"
            ) from error

    def check_processes_agree(self) -> None:
        """Check that all processes resume from the same step.

        Raises: InputError if they do not.
        """
        if len(set(self.trainer.processes.gather((self.epoch, self.step)))) > 1:
            raise InputError(
                "key 'checkpoint': expected one folder on a disk that all processes share; "
                "they do not resume from the same state"
            )

    def _plan(self) -> list[int]:
        """What a step and an epoch are: steps per epoch, clips per step, steps per update."""
        return [len(self.loader), self.loader.clips_in_step(0), self.trainer.settings.iter_size]

    def _updates_in_whole_epochs(self) -> int:
        """Updates in the finished epochs; the last one of an epoch may take fewer steps."""
        return self.epoch * -(-len(self.loader) // self.trainer.settings.iter_size)

    def _load_curriculum(self, state: dict[str, Any]) -> None:
        """Take over the finished epochs and `max_skip`, which is all that the original saved beside weights.

        Optimizer and random state stay new; the learning rate is that of the next epoch.
        """
        saved, configured = len(state["max_skip"]), len(self.loader.max_skip)
        if saved != configured:
            raise InputError(
                f"key 'trainset': the checkpoint was trained on {saved} sets, not on {configured}; "
                f"{WEIGHTS_ONLY}"
            )
        self.epoch = state["epoch"]
        self.validated = state["epoch"]
        self.loader.max_skip = [int(skip) for skip in state["max_skip"]]
        self._set_schedule(self._updates_in_whole_epochs())

    def _load_progress(self, state: dict[str, Any]) -> None:
        """Take over the optimizer, the position within the epoch, the results and the random state."""
        self._check_compatible(state)
        trainer = self.trainer
        self.step = state["step"]
        self.rate = state["rate"]
        self.validated = state["validated"]
        self.best = state["best"]
        self.history = list(state["history"])
        # The saved sums are those of all processes, so only one of them may take them over.
        self.totals = EpochTotals(**state["totals"]) if trainer.processes.is_main else EpochTotals()
        self._load_optimizer(state)
        if state["scaler"]:
            trainer.precision.scaler.load_state_dict(state["scaler"])
        if trainer.average and state["ema"]:
            trainer.average.module.load_state_dict(state["ema"])
            trainer.average.n_averaged.fill_(state["updates"])
        torch.set_rng_state(state["rng"]["torch"])
        # A run may resume on another number of GPUs; their random states cannot be assigned then.
        if state["rng"]["cuda"] and torch.cuda.device_count() == len(state["rng"]["cuda"]):
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])

    def _check_compatible(self, state: dict[str, Any]) -> None:
        """Check that the solver, and within an epoch also the steps, are those of the checkpoint.

        Raises: InputError if not.
        """
        if state["solver"] != type(self.trainer.optimizer).__name__:
            raise InputError(
                f"key 'solver': the checkpoint was trained with {state['solver']}; {WEIGHTS_ONLY}"
            )
        if state["step"] and state["plan"] != self._plan():
            saved, configured = (
                f"{plan[0]} steps of {plan[1]} clips, iter_size {plan[2]}"
                for plan in (state["plan"], self._plan())
            )
            raise InputError(
                f"the checkpoint was saved within an epoch of {saved}, but an epoch now has {configured}; "
                "give the same train_batch, iter_size, data and number of processes, "
                "or a checkpoint of a whole epoch"
            )

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Take over the moments and the position in the schedule; all else stays as the config has it."""
        optimizer, scheduler = self.trainer.optimizer, self.trainer.scheduler
        configured = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        # Both calls also loaded the saved hyperparameters: put those of the config back.
        scheduler.base_lrs = [group["initial_lr"] for group in configured]
        for group, own in zip(optimizer.param_groups, configured):
            group.update(own)
        # If an epoch now has another number of updates, count whole epochs in these.
        same_plan = state["plan"] == self._plan()
        self._set_schedule(scheduler.last_epoch if same_plan else self._updates_in_whole_epochs())

    def _set_schedule(self, updates: int) -> None:
        """Move the schedule of the learning rate to where it is after so many updates."""
        optimizer, scheduler = self.trainer.optimizer, self.trainer.scheduler
        # LambdaLR cannot jump; stepping there one by one would take seconds and warn.
        scheduler.last_epoch = updates
        for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas):
            group["lr"] = base * factor(updates)
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
