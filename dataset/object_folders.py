"""Masks in a folder for each object: <video>/<object>/00000.png shows one object and nothing else.

The name of the folder is the object's label. `merge` makes one label map of the files of a frame.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from dataset.listing import entries, in_numeric_order, is_folder, list_images
from libs.core.errors import InputError, UnreadableError, counted, named
from libs.core.file_list import FileList
from libs.core.masks import VOID
from libs.core.shards import File
from libs.core.structures import VideoIndex

Files = dict[int, File]  # label of an object -> its mask in one frame


def object_masks(folder: Path, match: Callable[[FileList], Mapping[int, File]]) -> dict[int, Files]:
    """Find the masks of a video's objects: position of a frame -> label -> file; empty if there are none.

    Args:
        match: image files -> position of a frame -> file.
    Raises: InputError if there are more than 254 objects.
    """
    if not is_folder(folder):
        return {}
    matched = {path: match(list_images(path)) for path in entries(folder) if is_folder(path)}
    labels = _labels(folder, [path for path, found in matched.items() if found])
    by_frame: dict[int, Files] = {}
    for path, label in labels.items():
        for position, file in matched[path].items():
            by_frame.setdefault(position, {})[label] = file
    return dict(sorted(by_frame.items()))


def _labels(video: Path, folders: list[Path]) -> dict[Path, int]:
    """Label of each object's folder, in rising order: its number if all have one, else its place by name."""
    folders = [video / name for name in in_numeric_order([path.name for path in folders])]
    if len(folders) >= VOID:
        raise InputError(f"{video}: expected at most {VOID - 1} folders of objects, found {len(folders)}")
    numbers = [_number(path) for path in folders]
    if len(set(numbers)) < len(numbers) or not all(0 < number < VOID for number in numbers):
        numbers = list(range(1, len(folders) + 1))
    return dict(sorted(zip(folders, numbers), key=lambda pair: pair[1]))


def _number(folder: Path) -> int:
    """The number that is the folder's name; 0 if it is none."""
    return int(folder.name) if folder.name.isdecimal() else 0


def warn_of_objects(root: Path, videos: Iterable[VideoIndex]) -> None:
    """Warn of objects whose label is not their folder's name, and of objects that lack masks."""
    renamed, gaps = [], []
    for video in videos:
        times = Counter(label for files in video.object_masks.values() for label in files)
        folders = {
            label: file.parents[0] for files in video.object_masks.values() for label, file in files.items()
        }
        for label, folder in sorted(folders.items()):
            name = os.path.relpath(folder, root)
            if _number(folder) != label:
                renamed.append(f"{name} is {label}")
            if times[label] < len(video.object_masks):
                gaps.append(f"{name} ({times[label]} of {len(video.object_masks)})")
    if renamed:
        warnings.warn(
            f"{root}: expected folders of objects that are named 1 to {VOID - 1}; they are numbered in the "
            f"order of their names: {named(renamed)}",
            stacklevel=2,
        )
    if gaps:
        warnings.warn(
            f"{root}: {counted(len(gaps), 'object')} without a mask in some annotated frames, absent there: "
            f"{named(gaps)}",
            stacklevel=2,
        )


def merge(files: Files, read: Callable[[File], np.ndarray], warn: Callable[[str], object]) -> np.ndarray:
    """Merge the masks of one frame; where objects overlap, the one with the highest label is on top.

    Args:
        read: file -> where it shows its object, (Hs, Ws) bool.
        warn: called with a line if objects overlap.
    Returns: label map (Hs, Ws) uint8.
    Raises: UnreadableError naming a file that cannot be read, or that is not as large as the others.
    """
    merged: np.ndarray | None = None
    overlap = 0
    for label, path in sorted(files.items()):
        shown = read(path)
        if merged is None:
            merged = np.zeros(shown.shape, np.uint8)
        if shown.shape != merged.shape:
            raise UnreadableError(
                f"{path}: expected the size of other objects' masks, {merged.shape[1]}x{merged.shape[0]}, "
                f"found {shown.shape[1]}x{shown.shape[0]}"
            )
        overlap += np.count_nonzero(merged[shown])
        merged[shown] = label
    assert merged is not None  # a frame without files has no mask
    if overlap:
        warn(
            f"{path.parents[1]}: masks of objects overlap, first in {path.name} "
            f"({counted(overlap, 'pixel')}); the object with the higher label is on top"
        )
    return merged
