"""Train STM with the cycle-consistency loss: python3 train.py --cfg config.yaml [KEY VALUE ...]

On several GPUs: torchrun --nproc_per_node 4 train.py --cfg config.yaml [KEY VALUE ...]
"""

import libs.core.threads  # noqa: F401  before torch

# isort: split
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from dataset.build import build_loader, check_masks, test_videos, training_sets
from dataset.framing import Crop
from dataset.loader import ClipLoader
from dataset.paste import open_paster
from dataset.sampling import ClipSettings, TrainingSet
from libs.app.build import (
    build_device,
    build_model,
    cache_folder,
    inference_settings,
    result_folder,
    settings_from,
)
from libs.app.script import SignalHandler, run_script
from libs.app.training import build_trainer, check_folders, checkpoint_file, run_settings
from libs.core.distributed import Processes, join_processes
from libs.core.errors import InputError
from libs.core.files import exclusive_run
from libs.core.log import RunLog, SilentLog
from libs.core.structures import Video
from libs.evaluation.evaluator import Report
from libs.training.run import TrainingRun
from libs.training.validation import validate
from models.compiled import compile_network
from models.stm import STM
from models.weights import describe_network

DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main(cfg: CfgNode, signals: SignalHandler) -> None:
    """Train under an exclusive lock on the checkpoint folder; on SIGINT or SIGTERM, save and exit."""
    processes = join_processes(cfg.backend if cfg.gpu_id >= 0 else "gloo", cfg.init_method)
    # One process lists the files, before anything is written; a file server must not answer all of them.
    sets = processes.from_main(lambda: list_training_sets(cfg))
    videos = validation_videos(cfg, processes) if cfg.epoch_per_test else []
    with exclusive_run(Path(cfg.checkpoint)) if processes.is_main else nullcontext():
        check_folders(cfg)
        train(cfg, signals, sets, videos, processes)
    processes.leave()


def train(
    cfg: CfgNode, signals: SignalHandler, sets: list[TrainingSet], videos: list[Video], processes: Processes
) -> None:
    """Build the parts, resume if there is a state to resume from, and run.

    Args:
        videos: to validate with.
    """
    device = build_device(cfg.gpu_id, cfg.multi_gpu_ids, processes)
    loader = training_loader(cfg, device, sets, processes)
    model, saved = build_model(cfg, device, resume=True)
    trainer = build_trainer(cfg, model, len(loader), processes)
    # After the trainer has copied the model for the running average: a compiled one is not to be copied.
    if cfg.compile:
        compile_network(model, fixed=False)
    log = RunLog(Path(cfg.checkpoint)) if processes.is_main else SilentLog()
    run = TrainingRun(
        trainer,
        loader,
        run_settings(cfg),
        log,
        validate=_validation(cfg, videos, signals, processes, log),
        stop_requested=lambda: signals.requested is not None,
    )
    if saved:
        _resume(run, saved, log)
    run.state.check_processes_agree()
    arch = describe_network(model.state_dict()).arch
    size = sum(parameter.numel() for parameter in model.parameters())
    log.info(
        f"training {arch}, {size:,} parameters, on {', '.join(cfg.trainset)}: "
        f"{sum(len(data.videos) for data in sets)} videos, {cfg.epochs} epochs, "
        f"{len(loader)} steps of {cfg.train_batch} clips per epoch, "
        f"mode {cfg.mode}, on {device} x {processes.world_size}"
    )
    # From here on a signal is only recorded. The run sees it after the next update, saves and returns.
    signals.defer()
    run.run()
    # If there was a signal, exit with its code.
    signals.release()
    if run.state.epoch >= cfg.epochs:
        log.info(f"done: {checkpoint_file(cfg)}")
    log.close()


def list_training_sets(cfg: CfgNode) -> list[TrainingSet]:
    """List the files of the training sets."""
    cache = cache_folder(cfg.index_cache)
    return training_sets(
        Path(cfg.root), cfg.trainset, cfg.datafreq, cfg.distractors, cfg.davis_resolution, cache
    )


def training_loader(
    cfg: CfgNode, device: torch.device, sets: list[TrainingSet], processes: Processes
) -> ClipLoader:
    """Build the loader of training clips, and check masks of all sets before training starts."""
    settings = clip_settings(cfg, processes)
    loader = build_loader(
        cfg.data_backend,
        device,
        sets,
        settings,
        workers=cfg.workers,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    processes.from_main(lambda: check_masks(sets, settings, cfg.checked_masks))
    return loader


def clip_settings(cfg: CfgNode, processes: Processes) -> ClipSettings:
    """How training clips are sampled and augmented."""
    cache = cache_folder(cfg.index_cache)
    return settings_from(
        ClipSettings,
        cfg,
        size=cfg.input_size,
        crop=Crop(cfg.crop_test_size, cfg.crop_zoom) if cfg.framing == "crop" else None,
        paste=processes.from_main(lambda: open_paster(Path(cfg.root), cfg.paste, cache)),
    )


def validation_videos(cfg: CfgNode, processes: Processes) -> list[Video]:
    """Open the videos of the validation set.

    Raises: InputError naming the keys that choose another set, or none, if this one is not there.
    """
    try:
        cache = cache_folder(cfg.index_cache)
        return test_videos(
            Path(cfg.root), cfg.valset, cfg.val_split, cfg.davis_resolution, cache, processes.from_main
        )
    except InputError as error:
        raise InputError(
            f"{error}; training validates on this set: choose another with `valset`, or none with "
            "`epoch_per_test 0`"
        ) from error


def _validation(
    cfg: CfgNode, videos: list[Video], signals: SignalHandler, processes: Processes, log: RunLog
) -> Callable[[STM], Report]:
    """The function that segments and scores the validation set."""
    settings = inference_settings(cfg, validation=True)
    folder = result_folder(cfg) if cfg.save_validation else None

    def run(model: STM) -> Report:
        """Validate; a signal ends it at once, as the epoch is saved already."""
        with signals.interruptible():
            return validate(model, videos, settings, folder, processes=processes, log=log)

    return run


def _resume(run: TrainingRun, saved: dict[str, Any], log: RunLog) -> None:
    """Continue from a checkpoint whose weights are in the model already."""
    run.state.load_state_dict(saved)
    if "optimizer" not in saved:
        log.info("the checkpoint of the original holds weights, epoch and max_skip; the optimizer is new")
    log.info(f"resuming after epoch {run.state.epoch}, step {run.state.step}")


if __name__ == "__main__":
    run_script(main, __doc__, DEFAULT_CFG)
