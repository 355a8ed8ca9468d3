"""Find the folder of a data set's split; if it is not there, say where it lies instead."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dataset.listing import is_folder
from libs.core.errors import InputError, named


def split_folder(root: Path, name: str, split: str, needed: str = "JPEGImages") -> Path:
    """The folder of a split, <root>/<name>/<split>, that holds `needed`. 'val' is also found as 'valid'.

    Raises: InputError saying where it lies instead, or which splits are there.
    """
    splits = ("valid", "val") if split == "val" else (split,)
    for folder in (root / name / each for each in splits):
        if is_folder(folder / needed) or (folder / needed).exists():
            return folder
    raise InputError(
        f"{root / name / splits[0] / needed} does not exist; {advise(root, name, splits, needed)}"
    )


def advise(root: Path, name: str, splits: Sequence[str], needed: str) -> str:
    """Say what to do if <root>/<name>/<split>/<needed> does not exist.

    Args:
        splits: names that the folder of the split may have, the usual one first; "" if there is none.
    """
    folder = root / name
    if root.name == name and any((root / split / needed).exists() for split in splits):
        return f"set root {root.parent}, the folder that holds {name}"
    if not folder.is_dir():
        similar = _similar(root, name)
        if similar:
            return f"found {similar}; rename it {name}, or link it under that name"
    elsewhere = next(_elsewhere(folder, splits, needed), None)
    if elsewhere:
        return "its files lie in {}; move them to {}".format(*elsewhere)
    if any((folder / split).is_dir() and any((folder / split).iterdir()) for split in splits):
        return "complete the data set, see DATASET.md"
    others = sorted({path.parent.name for path in folder.glob(f"*/{needed}")}) if splits[0] else []
    if others:
        return f"there is one in {named(others)}; check val_split, or complete the data set"
    return f"set root to the folder that holds {name}, see DATASET.md"


def _similar(root: Path, name: str) -> Path | None:
    """A folder that may be the data set under another name, such as DAVIS or MOSEv2."""
    found = [path for path in _folders(root) if _letters(path.name).startswith(_letters(name))]
    return found[0] if found else None


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _elsewhere(folder: Path, splits: Sequence[str], needed: str) -> Iterator[tuple[Path, Path]]:
    """Folders that hold `needed` one level too deep or too high, each with the place where it belongs."""
    for inner in _folders(folder):
        for split in splits:
            if inner.name != split and (inner / split / needed).exists():
                yield inner / split, folder / split
    for split in filter(None, splits):
        for inner in _folders(folder / split):
            if (inner / needed).exists():
                yield inner, folder / split
        if (folder / needed).exists():
            yield folder, folder / split


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
