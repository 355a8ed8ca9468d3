"""Move what was unpacked to where this project reads it. A folder that is there already is completed."""

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

from dataset.download.addresses import Part
from libs.core.errors import InputError, counted, named
from libs.core.image_io import IMAGES

LISTS = (".txt", ".json", ".yaml", ".yml")


def arrange(tree: Path, part: Part, layout: Path) -> None:
    """Move the folders of a part, wherever the archive puts them, to where they belong below root.

    Args:
        tree: what was unpacked; layout: a new folder that stands for root.
    Raises: InputError if a folder is missing, or if it is not clear which one is meant.
    """
    holders = []
    for folder, inside, _ in os.walk(tree):
        if part.anchor in inside:
            holders.append(Path(folder))
            inside.clear()
    for name, target in part.targets.items():
        tops = [holder for holder in sorted(holders) if name in ("", holder.name)]
        if len(tops) != 1:
            there = named(holder.relative_to(tree).as_posix() for holder in tops or holders) or "none"
            raise InputError(
                f"{part.file.name}: expected one folder {name or 'of any name'} with {part.anchor} in the "
                f"archive, found {there}; the publisher has changed it, unpack it by hand, see DATASET.md"
            )
        (layout / target).parent.mkdir(parents=True, exist_ok=True)
        if not part.renamed:
            os.rename(tops[0], layout / target)
        for old, new in part.renamed.items():
            if not (tops[0] / old).is_dir():
                raise InputError(f"{part.file.name}: expected {old} beside {part.anchor} in the archive")
            (layout / target).mkdir(exist_ok=True)
            os.rename(tops[0] / old, layout / target / new)


def place(source: Path, target: Path) -> list[str]:
    """Move the entries of a folder into another one, which may be there.

    Lists come last, so that after an interruption no video is listed that is incomplete; call it again then.

    Returns: files that stay, because other files of their names are there.
    Raises: InputError naming an image or list that is there with other content; then nothing is moved.
    """
    pairs = [(source / name, target / name) for name in os.listdir(source)]
    pairs.sort(key=lambda pair: (pair[0].is_file() or pair[0].name in ("ImageSets", "data"), pair[0]))
    clashes = [there for pair in pairs for there in _clashes(*pair)]
    wrong = [path for path in clashes if path.suffix.lower() in (*IMAGES, *LISTS) or path.is_dir()]
    if wrong:
        raise InputError(
            f"{target}: {counted(len(wrong), 'file')} there with other content than in the download: "
            f"{named(path.relative_to(target) for path in wrong)}; nothing was moved, the download waits in "
            f"{source}; move {target} away, or give another root"
        )
    try:
        for old, new in pairs:
            _move(old, new)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror}; check space and permissions, and run this "
            "command again: it goes on"
        ) from error
    return [str(path.relative_to(target)) for path in clashes]


def _clashes(source: Path, target: Path) -> Iterator[Path]:
    """Files below `target` that differ from those of the same names below `source`."""
    if not os.path.lexists(target):
        return
    if source.is_dir() and target.is_dir():
        for name in sorted(os.listdir(source)):
            yield from _clashes(source / name, target / name)
    elif source.is_dir() or target.is_dir() or not filecmp.cmp(source, target, shallow=False):
        yield target


def _move(source: Path, target: Path) -> None:
    """Move a file or folder; what is there already stays."""
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
    elif source.is_dir():
        for name in sorted(os.listdir(source)):
            _move(source / name, target / name)
