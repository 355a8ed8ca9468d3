"""Pack a data set into tar shards, because shared file systems are slow with millions of small files.

python3 -m dataset.shards ROOT/DAVIS17 OUT/DAVIS17 [--size 1000]

The first folder holds JPEGImages and Annotations (or images and masks), for example ROOT/Youtube-VOS/train.
Frames and masks go into the shards, lists such as meta.json are copied beside them. With `root OUT`, training
and testing read the shards as they read the folder.
"""

import argparse
import math
import os
import shutil
import sys
import tarfile
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from dataset.catalogue import SHARD
from dataset.listing import entries
from libs.core.errors import InputError, counted, named
from libs.core.files import atomic_write
from libs.core.image_io import IMAGES

PACKED = ("JPEGImages", "Annotations", "images", "masks")  # folders of frames and masks
LISTS = (".txt", ".json", ".yaml", ".yml", ".csv")
MEGABYTES = 1000  # of a shard, after which the next one begins


def write_shards(source: Path, out: Path, megabytes: float = MEGABYTES) -> list[Path]:
    """Pack the frames and masks of a data set, and copy its lists.

    Warns of files that are neither.

    Args:
        source: the folder that holds `JPEGImages` or another one of PACKED.
        out: a new or empty folder.
    Returns: the shards.
    Raises: InputError if there is nothing to pack, if `out` is not empty or cannot be written, or if
        `megabytes` is not above 0.
    """
    if not 0 < megabytes < math.inf:
        raise InputError(f"--size: expected a number of megabytes above 0, found {megabytes:g}")
    if not any((source / name).is_dir() for name in PACKED):
        inner = [path for path in sorted(source.glob("*/")) if any((path / name).is_dir() for name in PACKED)]
        advice = f"give {named(inner, 3)}" if inner else "give the folder of a data set's split"
        raise InputError(f"{source}: expected {named(PACKED)} in it, found none of them; {advice}")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; give a new folder")
    packed: list[Path] = []
    lists: list[Path] = []
    others: list[Path] = []
    for path in _files(source):
        inside, suffix = path.relative_to(source), path.suffix.lower()
        is_packed = inside.parts[0] in PACKED and suffix in IMAGES
        (packed if is_packed else lists if suffix in LISTS else others).append(path)
    if others:
        names = named(path.relative_to(source) for path in others)
        warnings.warn(
            f"{source}: {counted(len(others), 'file')} left out, neither an image in {named(PACKED)} nor a "
            f"list ({', '.join(LISTS)}): {names}",
            stacklevel=2,
        )
    for path in lists:
        target = out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return list(_pack(source, packed, out, int(megabytes * 1e6)))


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, without hidden ones."""
    for entry in entries(folder):
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def _pack(source: Path, files: Iterable[Path], out: Path, limit: int) -> Iterator[Path]:
    """Write files into shards of about `limit` bytes, those of a video together, and yield the shards."""

    def order(path: Path) -> tuple[tuple[str, ...], Path]:
        """Sort key: frames and masks of a video differ in the first folder."""
        return path.relative_to(source).parts[1:-1], path

    waiting = deque(sorted(files, key=order))
    number = 0
    while waiting:
        path = out / f"{number:05d}{SHARD}"
        with atomic_write(path) as temporary, tarfile.open(temporary, "w") as shard:
            while waiting and (not shard.offset or shard.offset < limit):  # at least one file in each
                _add(shard, waiting.popleft(), source)
        yield path
        number += 1


def _add(shard: tarfile.TarFile, path: Path, source: Path) -> None:
    """Add a file as a regular member, also if it is a link."""
    member = tarfile.TarInfo(path.relative_to(source).as_posix())
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        member.size, member.mtime = found.st_size, int(found.st_mtime)
        shard.addfile(member, file)


def main() -> None:
    """Run the command line; exit code 2 if a folder or file is not as expected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder that holds JPEGImages and Annotations")
    parser.add_argument("out", type=Path, help="a new folder for the shards and lists")
    help_text = f"megabytes of a shard (default: {MEGABYTES})"
    parser.add_argument("--size", type=float, default=MEGABYTES, help=help_text)
    args = parser.parse_args()
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        shards = write_shards(args.folder, args.out, args.size)
    except (InputError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{counted(len(shards), 'shard')} in {args.out}")


if __name__ == "__main__":
    main()
