"""From the config to the parts of training, and checks of its folders before the first epoch."""

import warnings
from contextlib import suppress
from pathlib import Path

from libs.app.build import result_folder, settings_from
from libs.app.config import Config
from libs.core.distributed import Processes
from libs.core.errors import FolderBusyError, InputError
from libs.core.files import exclusive_run
from libs.training.checkpoint import SUFFIX
from libs.training.optim import Schedule, build_optimizer, build_scheduler
from libs.training.run import RunSettings
from libs.training.trainer import StepSettings, Trainer
from models.stm import STM

PROJECT = Path(__file__).resolve().parents[2]


def build_trainer(cfg: Config, model: STM, steps_per_epoch: int, processes: Processes) -> Trainer:
    """The training step with its optimizer and the schedule of its learning rate."""
    momentum, decay = cfg.momentum, cfg.weight_decay
    optimizer = build_optimizer(model.parameters(), cfg.solver, cfg.learning_rate, momentum, decay)
    schedule = Schedule(
        kind=cfg.schedule, epochs=cfg.epochs, milestones=cfg.milestone, gamma=cfg.gamma, warmup=cfg.warmup
    )
    updates_per_epoch = -(-steps_per_epoch // cfg.iter_size)  # rounded up: the last one may take fewer steps
    scheduler = build_scheduler(optimizer, schedule, updates_per_epoch)
    return Trainer(model, optimizer, scheduler, settings_from(StepSettings, cfg), processes)


def run_settings(cfg: Config) -> RunSettings:
    """When the run saves, validates, draws and stops."""
    return settings_from(RunSettings, cfg, path=checkpoint_file(cfg))


def checkpoint_file(cfg: Config) -> Path:
    """The checkpoint that training writes."""
    return Path(cfg.checkpoint) / f"{cfg.mode}{SUFFIX}"


def check_folders(cfg: Config) -> None:
    """Check before the first epoch what would otherwise fail after it.

    Raises: InputError if the checkpoint of an earlier run would be overwritten, or if the masks of validation
        cannot be written.
    """
    path = checkpoint_file(cfg)
    if path.exists() and not cfg.resume:
        raise InputError(
            f"key 'checkpoint': {path} exists from an earlier run; resume it with `resume auto`, "
            "or give another folder"
        )
    # The original's config.yaml names `models`, which is a package here.
    if path.resolve().parent.parent == PROJECT and path.with_name("__init__.py").exists():
        warnings.warn(
            f"key 'checkpoint': {cfg.checkpoint} holds source code; checkpoints are written there",
            stacklevel=2,
        )
    if cfg.epoch_per_test and cfg.save_validation:
        try:
            # Another run may use the folder now: each validation locks it anew.
            with suppress(FolderBusyError), exclusive_run(result_folder(cfg)):
                pass
        except InputError as error:
            raise InputError(f"keys 'output_dir' and 'save_validation': {error}") from error
