"""A contact sheet of training clips, to look at, and how long one core takes to make one.

python3 -m benchmarks.clips --out FILE.png [--trainset NAME] [--root DATA] [--framing crop] [--paste 0.5]
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.measure import processor
from dataset.build import training_sets
from dataset.clips import ClipSampler
from dataset.framing import Crop
from dataset.paste import open_paster
from dataset.registry import REGISTRY
from dataset.sampling import ClipSettings
from libs.app.script import run_with_error_messages
from libs.core.image_io import write_image
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD
from libs.core.structures import Clip
from libs.evaluation.visualize import overlay

CLIPS, FRAMES = 16, 4


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.clips", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="image to write")
    parser.add_argument("--trainset", default="PROCEDURAL", choices=REGISTRY)
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument(
        "--framing", default="letterbox", choices=("letterbox", "crop"), help="of recorded clips"
    )
    parser.add_argument(
        "--paste", type=float, default=0.0, help="fraction of recorded clips with pasted objects"
    )
    parser.add_argument("--no-distractors", action="store_true")
    parser.add_argument("--max-skip", type=int, default=5, help="most by which frames lie apart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=192, help="pixels")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    write_image(args.out, contact_sheet(build_sampler(args, FRAMES)))
    print(f"{args.out}: {CLIPS} clips of {FRAMES} frames")
    print(f"{milliseconds(build_sampler(args, 3)):.1f} ms per clip of 3 frames, {processor()}, one core")


def build_sampler(args: argparse.Namespace, frames: int) -> ClipSampler:
    """The clips of one epoch."""
    sets = training_sets(args.root, [args.trainset], [1], not args.no_distractors)
    repeats = -(-CLIPS // len(sets[0].videos))
    settings = ClipSettings(
        size=(args.side, args.side),
        max_skip=(args.max_skip,),
        sampled_frames=frames,
        samples_per_video=repeats,
        seed=args.seed,
        crop=Crop() if args.framing == "crop" else None,
        paste=open_paster(args.root, args.paste),
    )
    return ClipSampler(sets, settings)


def contact_sheet(sampler: ClipSampler) -> np.ndarray:
    """Two clips a row, each its first frame, then all frames with masks: (8 H, 10 W, 3) uint8 RGB."""
    strips = [_strip(sampler[i]) for i in range(CLIPS)]
    return np.concatenate([np.concatenate(strips[i : i + 2], axis=1) for i in range(0, CLIPS, 2)])


def _strip(clip: Clip) -> np.ndarray:
    """(H, 5 W, 3) uint8 RGB."""
    pixels = clip.frames.movedim(1, -1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    images = (255 * pixels).round().clip(0, 255).to(torch.uint8).numpy()
    return np.concatenate(
        [images[0], *(overlay(image, label) for image, label in zip(images, clip.labels.numpy()))], axis=1
    )


def milliseconds(sampler: ClipSampler, count: int = 100) -> float:
    """Processor time of one clip."""
    start = time.process_time()
    for i in range(count):
        sampler[i % len(sampler)]
    return 1000 * (time.process_time() - start) / count


if __name__ == "__main__":
    run_with_error_messages(main)
