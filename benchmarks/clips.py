"""Write a contact sheet of training clips, and measure how long one core takes to make a clip.

python3 -m benchmarks.clips --out FILE.png [--trainset NAME] [--root DATA] [--framing crop] [--paste 0.5]
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import processor_name
from dataset.build import training_sets
from dataset.clips import ClipSampler
from dataset.framing import Crop
from dataset.paste import open_paster
from dataset.registry import REGISTRY
from dataset.sampling import ClipSettings
from libs.app.script import run_with_error_messages
from libs.core.image_io import write_image
from libs.core.masks import denormalise
from libs.core.structures import Clip
from libs.evaluation.visualize import overlay

CLIPS, FRAMES = 16, 4  # of the contact sheet
TIMED_FRAMES = 3  # of the clips that are timed: as many as a training clip has


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    cv2.setNumThreads(1)
    write_image(args.out, contact_sheet(build_sampler(args, FRAMES)))
    print(f"wrote {CLIPS} clips of {FRAMES} frames to {args.out}")
    spent = milliseconds(build_sampler(args, TIMED_FRAMES), args.timed_clips)
    print(f"{spent:.1f} ms per clip of {TIMED_FRAMES} frames on one core of {processor_name()}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.clips",
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="image to write")
    add("--trainset", default="PROCEDURAL", choices=REGISTRY, help="training set that the clips come from")
    add("--root", type=Path, default=Path("data"), metavar="DATA", help="folder that holds the data sets")
    add(
        "--framing", default="letterbox", choices=("letterbox", "crop"), help="how recorded frames are fitted"
    )
    add("--paste", type=float, default=0.0, help="fraction of the recorded clips with pasted objects")
    add("--no-distractors", action="store_true", help="generate clips without copies and unlabelled objects")
    add("--max-skip", type=int, default=5, help="largest gap between the frames of a clip")
    add("--seed", type=int, default=0, help="another seed gives other clips")
    add("--side", type=int, default=192, help="height and width of the clips in pixels")
    add("--timed-clips", type=int, default=100, help="number of clips to time")
    return parser.parse_args()


def build_sampler(args: argparse.Namespace, frames: int) -> ClipSampler:
    """Build the sampler of one epoch with at least as many clips as the contact sheet shows."""
    sets = training_sets(args.root, [args.trainset], [1], not args.no_distractors)
    settings = ClipSettings(
        size=(args.side, args.side),
        max_skip=(args.max_skip,),
        sampled_frames=frames,
        samples_per_video=-(-CLIPS // len(sets[0].videos)),
        seed=args.seed,
        crop=Crop() if args.framing == "crop" else None,
        paste=open_paster(args.root, args.paste),
    )
    return ClipSampler(sets, settings)


def contact_sheet(sampler: ClipSampler) -> np.ndarray:
    """Show two clips a row: the first frame, then all frames with their masks.

    Returns: (8 H, 10 W, 3) uint8 RGB.
    """
    strips = [_strip(sampler[i]) for i in range(CLIPS)]
    return np.concatenate([np.concatenate(strips[i : i + 2], axis=1) for i in range(0, CLIPS, 2)])


def _strip(clip: Clip) -> np.ndarray:
    """Show one clip. Returns: (H, 5 W, 3) uint8 RGB."""
    images = denormalise(clip.frames)
    overlays = [overlay(image, labels) for image, labels in zip(images, clip.labels.numpy())]
    return np.concatenate([images[0], *overlays], axis=1)


def milliseconds(sampler: ClipSampler, count: int = 100) -> float:
    """Measure the processor time of one clip, as the mean over `count` clips."""
    start = time.process_time()
    for i in range(count):
        sampler[i % len(sampler)]
    return 1000 * (time.process_time() - start) / count


if __name__ == "__main__":
    run_with_error_messages(main)
