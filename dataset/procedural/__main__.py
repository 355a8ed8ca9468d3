"""Draw a DAVIS-2017 tree, or look at what training would see:

    python3 -m dataset.procedural --out DIR [--train 24] [--val 4] [--frames 24] [--size 240x432] [--seed 0]
    python3 -m dataset.procedural --sheet FILE.png [--static ROOT] [--seed 0]
"""

import argparse
from pathlib import Path

import numpy as np

from dataset import made
from dataset.clips import MadeVideo
from dataset.procedural.film import Size
from dataset.procedural.tree import write_tree
from libs.structures import InputError
from libs.visualize import overlay, write_picture

SHEET_CLIPS, SHEET_TIMES, SHEET_SIZE = 16, (0, 3, 6, 12), (192, 192)


def main(argv: list[str] | None = None) -> None:
    """The command line; wrong arguments end it with code 2."""
    parser = argparse.ArgumentParser(prog="python3 -m dataset.procedural", description="Draw a DAVIS-2017 tree, or a contact sheet.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="folder to put DAVIS17 in")
    what.add_argument("--sheet", type=Path, help="picture of training clips to write instead")
    parser.add_argument("--static", type=Path, metavar="ROOT", help="for the sheet: clips of ROOT/STATIC")
    for name, default in (("train", 24), ("val", 4), ("frames", 24), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--size", type=_height_x_width, default=(240, 432), metavar="HxW", help="in pixels")
    args = parser.parse_args(argv)
    try:
        if args.sheet:
            write_picture(args.sheet, contact_sheet(made.static(args.static) if args.static else made.procedural(Path()), args.seed))
            print(args.sheet)
        else:
            print(write_tree(args.out, args.train, args.val, args.frames, args.size, args.seed))
    except (InputError, OSError) as error:
        parser.error(str(error))


def contact_sheet(videos: list[MadeVideo], seed: int) -> np.ndarray:
    """Two clips a row, each as its first frame and then all frames with their masks: (8 H, 10 W, 3) uint8 RGB."""
    strips = []
    for i in range(SHEET_CLIPS):
        images, labels = videos[i % len(videos)].make(np.random.default_rng([seed, i]), SHEET_TIMES, SHEET_SIZE)
        strips.append(np.concatenate([images[0], *(overlay(image, label) for image, label in zip(images, labels))], axis=1))
    return np.concatenate([np.concatenate(strips[i : i + 2], axis=1) for i in range(0, SHEET_CLIPS, 2)])


def _height_x_width(text: str) -> Size:
    height, width = (int(side) for side in text.split("x"))
    return height, width


if __name__ == "__main__":
    main()
