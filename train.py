"""Train STM with the cycle-consistency loss: python3 train.py --cfg config.yaml [KEY VALUE ...]

On several GPUs: torchrun --nproc_per_node 4 train.py --cfg config.yaml [KEY VALUE ...]
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import reduce
from pathlib import Path

from yacs.config import CfgNode

from dataset.build import build_loader, test_videos, training_sets
from dataset.framing import Crop
from dataset.paste import open_paster
from dataset.sampling import ClipSettings, TrainingSet
from libs.app.build import build_device, build_model, inference_settings, result_folder, train_settings
from libs.app.script import SignalHandler, run_script
from libs.core.errors import FolderBusyError, InputError
from libs.core.files import exclusive_run
from libs.core.log import RunLog, SilentLog
from libs.core.structures import Video
from libs.evaluation.evaluator import Report, Writer, evaluate
from libs.training.distributed import Processes, join_processes
from libs.training.optim import build_optimizer, build_scheduler
from libs.training.trainer import Trainer
from libs.training.validation import validation_writer
from models.compiled import compile_network
from models.stm import STM
from models.weights import describe_network

DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main(cfg: CfgNode, signals: SignalHandler) -> None:
    """Train, in a folder that no other run writes to; a signal ends it, saved."""
    sets = training_sets(Path(cfg.root), cfg.trainset, cfg.datafreq, cfg.distractors)
    processes = join_processes(cfg.backend if cfg.gpu_id >= 0 else "gloo", cfg.init_method)
    with exclusive_run(Path(cfg.checkpoint)) if processes.is_main else nullcontext():
        _keep_what_is_there(cfg)
        _check_folders(cfg)
        train(cfg, signals, sets, processes)
    processes.leave()


def train(cfg: CfgNode, signals: SignalHandler, sets: list[TrainingSet], processes: Processes) -> None:
    """Build the parts and run them."""
    device = build_device(cfg.gpu_id, cfg.multi_gpu_ids, processes)
    loader = build_loader(
        cfg.data_backend,
        device,
        sets,
        clip_settings(cfg),
        workers=cfg.workers,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    model, state = build_model(cfg, device, resume=True)
    optimizer = build_optimizer(
        model.parameters(), cfg.solver, cfg.learning_rate, cfg.momentum, cfg.weight_decay
    )
    updates = -(-len(loader) // cfg.iter_size)
    scheduler = build_scheduler(
        optimizer, cfg.schedule, cfg.epochs, updates, cfg.milestone, cfg.gamma, cfg.warmup
    )
    validate = _validation(cfg, signals, processes)
    log = RunLog(Path(cfg.checkpoint)) if processes.is_main else SilentLog()
    trainer = Trainer(
        model,
        loader,
        optimizer,
        scheduler,
        train_settings(cfg),
        log,
        validate,
        processes,
        lambda: signals.requested is not None,
    )
    if cfg.compile:
        compile_network(model, fixed=False)
    if state:
        trainer.restore(state)
        if "optimizer" not in state:
            log.info(
                "the checkpoint is one of the original: it brings weights, epoch and max_skip, the optimizer is new"
            )
        log.info(f"going on after epoch {trainer.epoch}, step {trainer.step}")
    trainer.check_together()
    log.info(
        _opening(
            cfg,
            model,
            sum(len(data.videos) for data in sets),
            len(loader),
            f"{device} x {processes.world_size}",
        )
    )
    signals.defer()
    trainer.run()
    signals.release()
    if trainer.epoch >= cfg.epochs:
        log.info(f"done: {Path(cfg.checkpoint) / cfg.mode}.pth.tar")
    log.close()


def clip_settings(cfg: CfgNode) -> ClipSettings:
    """How training clips are sampled and augmented."""
    return ClipSettings(
        size=cfg.input_size,
        max_skip=cfg.max_skip,
        sampled_frames=cfg.sampled_frames,
        samples_per_video=cfg.samples_per_video,
        train_batch=cfg.train_batch,
        seed=cfg.seed,
        scales=cfg.scales,
        coarse_epochs=cfg.coarse_epochs,
        clip_objects=cfg.clip_objects,
        augmentation=cfg.augmentation,
        crop=Crop(cfg.crop_test_size, cfg.crop_zoom) if cfg.framing == "crop" else None,
        paste=open_paster(Path(cfg.root), cfg.paste),
    )


def _keep_what_is_there(cfg: CfgNode) -> None:
    """Raises: InputError where the checkpoints of another run would be written over."""
    there = Path(cfg.checkpoint) / f"{cfg.mode}.pth.tar"
    if there.exists() and not cfg.resume:
        raise InputError(
            f"key 'checkpoint': {there} is there from an earlier run; `resume auto` goes on from it, else give another folder"
        )


def _check_folders(cfg: CfgNode) -> None:
    """Find out now, and not after an epoch, that the masks of validation cannot be written.

    Raises: InputError naming the keys.
    """
    folder = Path(cfg.checkpoint).resolve()
    if (
        folder.parent == DEFAULT_CFG.parent and (folder / "__init__.py").exists()
    ):  # as in the original's config.yaml
        warnings.warn(
            f"key 'checkpoint': {cfg.checkpoint} holds source code; checkpoints are written there",
            stacklevel=2,
        )
    if cfg.epoch_per_test and cfg.save_validation:
        try:
            with suppress(FolderBusyError), exclusive_run(result_folder(cfg)):
                pass
        except InputError as error:
            raise InputError(f"keys 'output_dir' and 'save_validation': {error}") from error


def _validation(cfg: CfgNode, signals: SignalHandler, processes: Processes) -> Callable[[STM], Report]:
    """Segments this process's share of the validation videos, writes their masks, and reports on all of them."""
    videos = test_videos(Path(cfg.root), cfg.valset, cfg.val_split) if cfg.epoch_per_test else []
    settings = inference_settings(cfg, correct=False)
    share = videos[processes.rank :: processes.world_size]

    def validate(model: STM) -> Report:
        """In evaluation mode; a signal ends it at once, as the epoch is saved by then."""
        with signals.interruptible(), _masks_of_validation(cfg, videos, processes) as write:
            own = evaluate(model, share, settings, write, label="validate")
        return reduce(Report.beside, processes.gather(own))

    return validate


def _masks_of_validation(
    cfg: CfgNode, videos: list[Video], processes: Processes
) -> AbstractContextManager[Writer | None]:
    """What writes the masks of a validation, as the original did; nothing where `save_validation` is off."""
    if not cfg.save_validation:
        return nullcontext()
    return validation_writer(result_folder(cfg), videos, processes)


def _opening(cfg: CfgNode, model: STM, num_videos: int, steps: int, device: str) -> str:
    size = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"training {describe_network(model.state_dict()).arch}, {size:,} parameters, on {', '.join(cfg.trainset)}: {num_videos} videos, {steps} steps of {cfg.train_batch} clips "
        f"an epoch, {cfg.epochs} epochs, mode {cfg.mode}, on {device}"
    )


if __name__ == "__main__":
    run_script(main, __doc__, DEFAULT_CFG)
