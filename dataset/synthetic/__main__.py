"""Write synthetic videos with exact masks to disk: python3 -m dataset.synthetic --out DIR (see --help)."""

import argparse
from pathlib import Path

from dataset.synthetic.export import write_tree
from dataset.synthetic.render import Size
from libs.core.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """Run the command line. Wrong arguments print one line and exit with code 2."""
    parser = argparse.ArgumentParser(
        prog="python3 -m dataset.synthetic",
        description="Write synthetic videos with exact masks to DIR/DAVIS17, in the layout of DAVIS 2017.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create DAVIS17 in")
    counts = (
        ("train", 24, "training videos"),
        ("val", 4, "validation videos"),
        ("frames", 24, "frames per video"),
    )
    for name, default, what in counts:
        help_text = f"number of {what} (default: {default})"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=help_text)
    help_text = "height and width of the images in pixels (default: 240x432)"
    parser.add_argument("--size", type=height_x_width, default=(240, 432), metavar="HxW", help=help_text)
    help_text = "start of the random numbers: another seed gives other videos (default: 0)"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=help_text)
    help_text = (
        "take backdrops and objects from the annotated images in ROOT/STATIC (default: generate all of them)"
    )
    parser.add_argument("--static", type=Path, metavar="ROOT", help=help_text)
    try:
        print(write_tree(**vars(parser.parse_args(argv))))
    except (InputError, OSError) as error:
        parser.error(str(error))


def height_x_width(text: str) -> Size:
    """Parse a size such as 240x432, for argparse."""
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW such as 240x432, found '{text}'") from None
    return height, width


if __name__ == "__main__":
    main()
