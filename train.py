"""Train STM with the cycle-consistency loss: python3 train.py --cfg config.yaml [KEY VALUE ...]"""

from functools import partial
from pathlib import Path

from yacs.config import CfgNode

from dataset.loader import build_loader, test_videos, training_sets
from libs.build import build_device, build_model, inference_settings, train_settings
from libs.config import parse_arguments
from libs.evaluator import evaluate
from libs.log import RunLog, run_script
from libs.optim import build_optimizer, build_scheduler
from libs.trainer import Trainer

DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main() -> None:
    """Read the config, build the parts, train."""
    cfg = parse_arguments(__doc__, DEFAULT_CFG)
    root = Path(cfg.root)
    sets = training_sets(root, cfg.trainset, cfg.datafreq)
    loader = build_loader(
        cfg.data_backend, sets, cfg.input_size, cfg.sampled_frames, cfg.samples_per_video, cfg.max_skip,
        cfg.train_batch, cfg.workers, cfg.seed,
    )
    videos = test_videos(root, cfg.valset, cfg.val_split) if cfg.epoch_per_test else []
    device = build_device(cfg.gpu_id)
    model, state = build_model(cfg, device)
    optimizer = build_optimizer(model.parameters(), cfg.solver, cfg.learning_rate, cfg.momentum, cfg.weight_decay)
    scheduler = build_scheduler(optimizer, cfg.milestone, cfg.gamma)
    validate = partial(evaluate, videos=videos, settings=inference_settings(cfg, correct=False), label="validate")
    log = RunLog(Path(cfg.checkpoint))
    trainer = Trainer(model, loader, optimizer, scheduler, train_settings(cfg), log, validate)
    if state:
        trainer.restore(state)
        log.say(f"going on from {cfg.resume} after epoch {trainer.epoch}")
    log.say(_opening(cfg, sum(len(data.videos) for data in sets), len(loader), str(device)))
    trainer.run()
    log.say(f"done: {Path(cfg.checkpoint) / cfg.mode}.pth.tar")
    log.close()


def _opening(cfg: CfgNode, num_videos: int, steps: int, device: str) -> str:
    return (
        f"training {cfg.arch} on {', '.join(cfg.trainset)}: {num_videos} videos, {steps} steps of {cfg.train_batch} clips "
        f"an epoch, {cfg.epochs} epochs, mode {cfg.mode}, on {device}"
    )


if __name__ == "__main__":
    run_script(main)
