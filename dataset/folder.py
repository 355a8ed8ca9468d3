"""A folder of one's own videos, and the pieces with which every data set lists its files.

FOLDER is also the template for a new set: write such a function, name it in dataset/registry.py.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from libs.core.errors import InputError
from libs.core.image_io import IMAGES
from libs.core.structures import VideoIndex

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
LISTED = 10  # incomplete videos that are told of
T = TypeVar("T")


def folder(root: Path, split: str) -> list[VideoIndex]:
    """`root`/JPEGImages/<video>/ or <video>.mp4, and `root`/Annotations/<video>/; every split has all of them.

    A mask carries the name of its frame, in a video file its number. Where every frame has a mask, the first is given
    to the network and the results are scored; else all masks that are there are given. Masks hold label numbers, 255
    for one object, or a colour for each object (dataset/annotations.py).
    """
    pictures, masks = root / "JPEGImages", root / "Annotations"
    if not pictures.is_dir():
        raise InputError(
            f"{pictures} does not exist; FOLDER expects JPEGImages/<video> and Annotations/<video> below root"
        )
    entries = [entry for entry in sorted(pictures.iterdir()) if _is_video(entry)]
    videos = [_with_masks(entry, masks / (entry.name if entry.is_dir() else entry.stem)) for entry in entries]
    if not videos:
        raise InputError(
            f"{pictures}: expected a folder of frames or a video file for each video, found none"
        )
    _refuse_twins(pictures, (video.name for video in videos))
    return videos


def _is_video(entry: Path) -> bool:
    return not entry.name.startswith(".") and (entry.is_dir() or entry.suffix.lower() in VIDEOS)


def _with_masks(pictures: Path, masks: Path) -> VideoIndex:
    """A folder of frames or a video file, and the folder of its masks."""
    if not pictures.is_file():
        index = index_video(pictures.name, pictures, masks, binary=None)
        return index if index.annotated else replace(index, given=tuple(sorted(index.masks)))
    found = {int(path.stem): path for path in list_images(masks) if path.stem.isdecimal()}
    if not found:
        raise InputError(f"{masks}: expected the mask of frame 0 of {pictures.name} as 00000.png, found none")
    return VideoIndex(pictures.stem, (pictures,), found, given=tuple(sorted(found)), binary=None)


def index_video(name: str, pictures: Path, masks: Path, binary: bool | None = False) -> VideoIndex:
    """List the frames of one video and match masks to them by file name.

    Raises: InputError where the name would leave its folder, where frames or the first mask are missing.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(
            f"video name '{name}' would leave the folder {pictures.parent}; correct the list of the data set"
        )
    frames = list_images(pictures)
    if not frames:
        raise InputError(
            f"{pictures}: expected the frames of video '{name}', found no image; complete the data set"
        )
    _refuse_twins(pictures, (path.stem for path in frames))
    by_stem = {path.stem: path for path in list_images(masks)}
    found = {i: by_stem[frame.stem] for i, frame in enumerate(frames) if frame.stem in by_stem}
    if not found:
        raise InputError(
            f"{masks}: expected a mask for '{frames[0].stem}', found none for any frame; complete the data set"
        )
    others = sorted(by_stem.keys() - {path.stem for path in frames})
    if others:
        warnings.warn(
            f"{masks}: {len(others)} masks have no frame, the first of them is '{others[0]}'", stacklevel=2
        )
    return VideoIndex(name, tuple(frames), found, given=(min(found),), binary=binary)


def _refuse_twins(where: Path, names: Iterable[str]) -> None:
    """Results carry these names, so each must be there once."""
    twins = [name for name, times in Counter(names).items() if times > 1]
    if twins:
        raise InputError(
            f"{where}: '{twins[0]}' is there twice, with different suffixes; rename or remove one"
        )


def index_all(names: Sequence[str], index: Callable[[str], VideoIndex]) -> list[VideoIndex]:
    """Index each video.

    Raises: InputError with what is wrong with the first ten of those that are incomplete.
    """
    found, errors = [], []
    for name in names:
        try:
            found.append(index(name))
        except InputError as error:
            errors.append(str(error))
    if errors:
        head = (
            f"{len(errors)} of {len(names)} videos are incomplete, the first of them: "
            if len(errors) > 1
            else ""
        )
        raise InputError(head + "; ".join(errors[:LISTED]))
    return found


def list_images(where: Path) -> list[Path]:
    """Image files of a folder, numbers in their names counted as such (9 comes before 10); hidden files left out.

    A folder that is not there has none.
    """
    if not where.is_dir():
        return []
    return sorted(
        (p for p in where.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith(".")),
        key=_in_time,
    )


def _in_time(path: Path) -> tuple[list[str | int], str]:
    """Texts and numbers alternate, so that like is compared with like."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.stem))], path.name


def read_annotation_text(path: Path, parse: Callable[[str], T]) -> T:
    """Read and parse a text file of a data set.

    Raises: InputError naming the file where it cannot be read or parsed.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InputError(
            f"{path} cannot be read: {' '.join(str(error).split())}; get the data set's file anew"
        ) from error


def single_video(video: Path, mask: Path) -> VideoIndex:
    """One video, a folder of frames or a video file, with the mask of its first frame, or a folder of masks.

    Masks in a folder carry the names of their frames, or their numbers where the video is a file. If each frame of a folder
    has one, the first is given and the results are scored; else all are given.
    Raises: InputError where either is missing.
    """
    video = Path(os.path.abspath(video))  # '.' has no name
    frames = (
        list_images(video)
        if video.is_dir()
        else [video]
        if video.suffix.lower() in VIDEOS and video.exists()
        else []
    )
    if not frames:
        raise InputError(
            f"{video}: expected a folder of frames or a video file ({', '.join(VIDEOS)}); set video_path"
        )
    if mask.is_dir():
        return _with_masks(video, mask)
    if not mask.is_file():
        raise InputError(f"{mask} does not exist; set mask_path to the mask of the first frame")
    _refuse_twins(video, (path.stem for path in frames))
    return VideoIndex(video.name if video.is_dir() else video.stem, tuple(frames), {0: mask}, binary=None)
