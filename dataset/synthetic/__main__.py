"""Draw a DAVIS-2017 tree: python3 -m dataset.synthetic --out DIR [--train 24] [--val 4] [--frames 24] [--size 240x432] [--seed 0] [--static ROOT]"""

import argparse
from pathlib import Path

from dataset.synthetic.export import write_tree
from dataset.synthetic.scene import Size
from libs.core.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """The command line; wrong arguments end it with code 2."""
    parser = argparse.ArgumentParser(
        prog="python3 -m dataset.synthetic", description="Draw a DAVIS-2017 tree."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to put DAVIS17 in")
    for name, default in (("train", 24), ("val", 4), ("frames", 24), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--size", type=_height_x_width, default=(240, 432), metavar="HxW", help="in pixels")
    parser.add_argument(
        "--static",
        type=Path,
        metavar="ROOT",
        help="make the clips of the pictures of ROOT/STATIC instead of drawing all",
    )
    try:
        print(write_tree(**vars(parser.parse_args(argv))))
    except (InputError, OSError) as error:
        parser.error(str(error))


def _height_x_width(text: str) -> Size:
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW such as 240x432, found '{text}'") from None
    return height, width


if __name__ == "__main__":
    main()
