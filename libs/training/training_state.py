"""Where a training run stands: its parts and how far it has come, to be written down and taken up again bit for bit."""

from dataclasses import asdict

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from libs.core.errors import InputError
from libs.core.structures import Loader
from libs.method.objective import EpochTotals
from libs.training.distributed import Processes
from libs.training.optim import Precision
from models.stm import STM


class TrainingState:
    """Everything that going on needs.

    Args:
        average: of the model's weights, None where there is none; processes: those that train together.
        iter_size: steps of an update.
    """

    def __init__(
        self,
        model: STM,
        average: AveragedModel | None,
        loader: Loader,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        precision: Precision,
        processes: Processes,
        iter_size: int,
    ):
        self.model, self.average, self.loader, self.optimizer, self.scheduler = (
            model,
            average,
            loader,
            optimizer,
            scheduler,
        )
        self.precision, self.processes, self.iter_size = precision, processes, iter_size
        self.epoch, self.step, self.totals = (
            0,
            0,
            EpochTotals(),
        )  # what is done: epochs, steps of this one, their sums
        self.validated = 0  # epochs after which validation was done or not due
        self.rate, self.best, self.history = 0.0, 0.0, []  # the rate with which this epoch began
        self.saved_at = 0  # step of this epoch

    @property
    def result(self) -> STM:
        """The model that is validated and used: the running average where there is one."""
        return self.average.module if self.average else self.model

    def state(self) -> dict:
        """Everything that going on needs, at an update: no gradients are pending.

        Clips and their augmentation are functions of seed, epoch and position, so loaders have no state of their own.
        """
        return {
            "epoch": self.epoch,
            "step": self.step,
            "totals": asdict(sum(self.processes.gather(self.totals), start=EpochTotals())),
            "state_dict": self.model.state_dict(),
            "ema": self.average.module.state_dict() if self.average else None,
            "updates": int(self.average.n_averaged) if self.average else 0,
            "max_skip": list(self.loader.max_skip),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "best": self.best,
            "history": self.history,
            "rate": self.rate,
            "rng": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            "solver": type(self.optimizer).__name__,
            "plan": self._plan(),
            "validated": self.validated,
        }

    def _plan(self) -> list[int]:
        """What a step and an epoch are."""
        return [len(self.loader), self.loader.clips_in_step(0), self.iter_size]

    def check_together(self) -> None:
        """Raises: InputError where the processes do not stand at the same step."""
        if len(set(self.processes.gather((self.epoch, self.step)))) > 1:
            raise InputError(
                "key 'checkpoint': expected one folder for all processes, on a shared disk; they do not go on from the same state"
            )

    def restore(self, state: dict) -> None:
        """Go on from `state`, whose weights are in the model already.

        Learning rate, its schedule, weight decay and momentum are those of the config, changed or not.

        Raises: InputError where it was trained with another solver or number of sets, or stopped within other steps, or is no such state.
        """
        try:
            self._restore(state)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            RuntimeError,
        ) as error:  # from a file that anyone can write
            raise InputError(
                f"the checkpoint to go on from has odd content ({type(error).__name__}: {error}); to start from its weights use initial"
            ) from error

    def _restore(self, state: dict) -> None:
        """Take over what `state` holds."""
        self._restore_curriculum(state)
        if "optimizer" in state:
            self._restore_progress(state)

    def _restore_curriculum(self, state: dict) -> None:
        """Take over the number of epochs done and the gaps between frames, all that the original saved beside weights.

        Optimizer and random state stay as new; the learning rate is that of the epoch to come.
        """
        if len(state["max_skip"]) != len(self.loader.max_skip):
            raise InputError(
                f"key 'trainset': the checkpoint was trained on {len(state['max_skip'])} sets, not on {len(self.loader.max_skip)}; "
                "to start from its weights use initial"
            )
        self.epoch, self.validated = state["epoch"], state["epoch"]
        self.loader.max_skip = [int(skip) for skip in state["max_skip"]]
        self._move_schedule(self.epoch * -(-len(self.loader) // self.iter_size))

    def _move_schedule(self, updates: int) -> None:
        """Continue the schedule of the learning rate after so many updates."""
        self.scheduler.last_epoch = updates
        for group, base, factor in zip(
            self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas
        ):
            group["lr"] = base * factor(updates)
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _restore_progress(self, state: dict) -> None:
        """Take over the optimizer, the place within the epoch, scores and random state."""
        if state["solver"] != type(self.optimizer).__name__:
            raise InputError(
                f"key 'solver': the checkpoint was trained with {state['solver']}; to start from its weights use initial"
            )
        if state["step"] and state["plan"] != self._plan():
            raise InputError(
                f"the checkpoint lies within an epoch of {state['plan'][0]} steps of {state['plan'][1]} clips, iter_size {state['plan'][2]}, "
                f"not {self._plan()}; give the same train_batch, iter_size, data and number of processes, or a checkpoint of a whole epoch"
            )
        self.step, self.rate, self.validated = state["step"], state["rate"], state["validated"]
        self.best, self.history = state["best"], list(state["history"])
        self.saved_at = self.step
        self.totals = EpochTotals(**state["totals"]) if self.processes.is_main else EpochTotals()
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
        wanted = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scheduler.base_lrs = [group["initial_lr"] for group in wanted]
        for group, own in zip(self.optimizer.param_groups, wanted):
            group.update(own)
        same = state["plan"] == self._plan()
        self._move_schedule(
            self.scheduler.last_epoch if same else self.epoch * -(-len(self.loader) // self.iter_size)
        )
