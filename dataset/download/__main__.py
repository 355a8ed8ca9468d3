"""Download a data set into the layout that this project reads: python3 -m dataset.download NAME --root data

A download that breaks off is resumed by the same command. DATASET.md lists the sets and their parts.
"""

import argparse
from pathlib import Path

from dataset.command import run_command
from dataset.download.addresses import SOURCES, find_source
from dataset.download.sets import download_set


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    download_set(args.root, args.name, args.parts, args.keep, args.again)
    print(f"check it: python3 -m dataset.check {find_source(args.name).index} --root {args.root}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    lines = [f"  {name:8} {' '.join(source.parts)}" for name, source in SOURCES.items()]
    parser = argparse.ArgumentParser(
        prog="python3 -m dataset.download",
        description=__doc__,
        epilog="\n".join(("data sets and their parts:", *lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help=f"data set: {', '.join(SOURCES)}")
    add("parts", nargs="*", metavar="PART", help="parts of the set (default: those that most users need)")
    add("--root", type=Path, default=Path("data"), metavar="DIR", help="holds all data sets (default: data)")
    add("--keep", action="store_true", help="keep the archives in DIR/downloads after they are unpacked")
    add("--again", action="store_true", help="download parts that are there, too; and their archives anew")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
