"""Train STM with the cycle-consistency loss: python3 train.py --cfg config.yaml [KEY VALUE ...]

On several GPUs: torchrun --nproc_per_node 4 train.py --cfg config.yaml [KEY VALUE ...]
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from yacs.config import CfgNode

from dataset.clips import TrainingSet
from dataset.framing import Crop
from dataset.loader import build_loader, test_videos, training_sets
from dataset.paste import open_paster
from libs.build import build_device, build_model, inference_settings, train_settings
from libs.distributed import Processes, join_processes
from libs.evaluator import Report, evaluate
from libs.files import only_run
from libs.log import RunLog, SilentLog
from libs.optim import build_optimizer, build_scheduler
from libs.script import StopSign, run_script
from libs.structures import InputError
from libs.trainer import Trainer
from models.compiled import compile_network
from models.stm import STM

DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main(cfg: CfgNode, sign: StopSign) -> None:
    """Train, in a folder that no other run writes to; a signal ends it, saved."""
    sets = training_sets(Path(cfg.root), cfg.trainset, cfg.datafreq, cfg.distractors)
    processes = join_processes(cfg.backend if cfg.gpu_id >= 0 else "gloo", cfg.init_method)
    with only_run(Path(cfg.checkpoint)) if processes.writes else nullcontext():
        _keep_what_is_there(cfg)
        train(cfg, sign, sets, processes)
    processes.leave()


def train(cfg: CfgNode, sign: StopSign, sets: list[TrainingSet], processes: Processes) -> None:
    """Build the parts and run them."""
    device = build_device(cfg.gpu_id, cfg.multi_gpu_ids, processes)
    loader = build_loader(
        cfg.data_backend, device, sets, cfg.input_size, cfg.sampled_frames, cfg.samples_per_video, cfg.max_skip,
        cfg.train_batch, cfg.workers, cfg.seed, processes.rank, processes.world, cfg.scales, cfg.coarse_epochs,
        Crop(cfg.crop_test_size, cfg.crop_zoom) if cfg.framing == "crop" else None, open_paster(Path(cfg.root), cfg.paste),
    )
    model, state = build_model(cfg, device, resume=True)
    optimizer = build_optimizer(model.parameters(), cfg.solver, cfg.learning_rate, cfg.momentum, cfg.weight_decay)
    updates = -(-len(loader) // cfg.iter_size)
    scheduler = build_scheduler(optimizer, cfg.schedule, cfg.epochs, updates, cfg.milestone, cfg.gamma, cfg.warmup)
    validate = _validation(cfg, sign, processes)
    log = RunLog(Path(cfg.checkpoint)) if processes.writes else SilentLog()
    trainer = Trainer(model, loader, optimizer, scheduler, train_settings(cfg), log, validate, processes, lambda: sign.wanted is not None)
    if cfg.compile:
        compile_network(model, fixed=False)
    if state:
        trainer.restore(state)
        log.say(f"going on after epoch {trainer.epoch}, step {trainer.step}")
    trainer.check_together()
    log.say(_opening(cfg, sum(len(data.videos) for data in sets), len(loader), f"{device} x {processes.world}"))
    sign.hold()
    trainer.run()
    sign.release()
    if trainer.epoch >= cfg.epochs:
        log.say(f"done: {Path(cfg.checkpoint) / cfg.mode}.pth.tar")
    log.close()


def _keep_what_is_there(cfg: CfgNode) -> None:
    """Raises: InputError where the checkpoints of another run would be written over."""
    there = Path(cfg.checkpoint) / f"{cfg.mode}.pth.tar"
    if there.exists() and not cfg.resume:
        raise InputError(f"key 'checkpoint': {there} is there from an earlier run; `resume auto` goes on from it, else give another folder")


def _validation(cfg: CfgNode, sign: StopSign, processes: Processes) -> Callable[[STM], Report]:
    """Segments this process's share of the validation videos, and reports on all of them."""
    videos = test_videos(Path(cfg.root), cfg.valset, cfg.val_split) if cfg.epoch_per_test else []
    settings = inference_settings(cfg, correct=False)

    def validate(model: STM) -> Report:
        """In evaluation mode; a signal ends it at once, as the epoch is saved by then."""
        with sign.let_through():
            own = evaluate(model, videos[processes.rank :: processes.world], settings, label="validate")
        return sum(processes.gather(own), start=Report())

    return validate


def _opening(cfg: CfgNode, num_videos: int, steps: int, device: str) -> str:
    return (
        f"training {cfg.arch} on {', '.join(cfg.trainset)}: {num_videos} videos, {steps} steps of {cfg.train_batch} clips "
        f"an epoch, {cfg.epochs} epochs, mode {cfg.mode}, on {device}"
    )


if __name__ == "__main__":
    run_script(main, __doc__, DEFAULT_CFG)
