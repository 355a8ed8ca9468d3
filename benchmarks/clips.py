"""A contact sheet of made training clips, to look at, and how many of them one core makes in a second.

    python3 -m benchmarks.clips --out FILE.png [--static ROOT] [--seed 0] [--side 192]
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import processor
from dataset.clips import MadeVideo
from dataset.made import procedural, static
from libs.script import run_guarded
from libs.visualize import overlay, write_picture

CLIPS, TIMES = 16, (0, 3, 6, 12)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.clips", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    parser.add_argument("--static", type=Path, metavar="ROOT", help="clips of ROOT/STATIC instead of drawn ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=192, help="pixels")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    videos = static(args.static) if args.static else procedural(Path())
    write_picture(args.out, contact_sheet(videos, args.seed, (args.side, args.side)))
    print(f"{args.out}: {CLIPS} clips at the times {TIMES}")
    print(f"{speed(videos, args.seed, (args.side, args.side)):.1f} clips of 3 frames a second, {processor()}, one core")


def contact_sheet(videos: list[MadeVideo], seed: int, size: tuple[int, int]) -> np.ndarray:
    """Two clips a row, each as its first frame and then all frames with their masks: (8 H, 10 W, 3) uint8 RGB."""
    strips = []
    for i in range(CLIPS):
        images, labels = _make(videos, seed, i, TIMES, size)
        strips.append(np.concatenate([images[0], *(overlay(image, label) for image, label in zip(images, labels))], axis=1))
    return np.concatenate([np.concatenate(strips[i : i + 2], axis=1) for i in range(0, CLIPS, 2)])


def speed(videos: list[MadeVideo], seed: int, size: tuple[int, int], count: int = 60) -> float:
    """Clips of 3 frames a second."""
    start = time.process_time()
    for i in range(count):
        _make(videos, seed, i, (0, 3, 6), size)
    return count / (time.process_time() - start)


def _make(
    videos: list[MadeVideo], seed: int, i: int, times: tuple[int, ...], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, i])
    return videos[int(rng.integers(len(videos)))].make(rng, times, size)


if __name__ == "__main__":
    run_guarded(main)
