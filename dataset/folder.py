"""FOLDER, the data set of your own videos, and the functions with which every data set lists its files.

`folder` is also the template of a new data set: write such a function and name it in dataset/registry.py.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from libs.core.errors import InputError
from libs.core.image_io import IMAGES
from libs.core.structures import VideoIndex

# Suffixes of video files, in containers that OpenCV opens.
VIDEOS: tuple[str, ...] = (
    ".mp4",
    ".m4v",
    ".mov",
    ".3gp",
    ".avi",
    ".mkv",
    ".webm",
    ".ogv",
    ".flv",
    ".wmv",
    ".asf",
)
VIDEOS += (".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob")
LISTED = 10  # incomplete videos, or entries that are left out, that a message names
T = TypeVar("T")


def folder(root: Path, split: str) -> list[VideoIndex]:
    """Index the videos of a FOLDER; it has the same ones in every split.

    A video is a folder `root`/JPEGImages/<video>/ or a file such as `root`/JPEGImages/<video>.mp4, with the
    masks in `root`/Annotations/<video>/.

    A mask has the name of its frame, or the frame's number if the video is a file. Each object is given to
    the network in the first mask that shows it, and scored in later ones. Masks may have any of the forms
    that dataset/annotations.py lists.

    Raises: InputError naming the folder if a part of this layout is missing.
    """
    images, masks = root / "JPEGImages", root / "Annotations"
    if not images.is_dir():
        raise InputError(
            f"{images} does not exist; FOLDER expects JPEGImages/<video> and Annotations/<video> below root"
        )
    entries = [entry for entry in sorted(images.iterdir()) if _is_video(entry)]
    _warn_of_others(images, entries)
    videos = [_with_masks(entry, masks / (entry.name if entry.is_dir() else entry.stem)) for entry in entries]
    if not videos:
        raise InputError(f"{images}: expected a folder of frames or a video file for each video, found none")
    _refuse_duplicates(images, (video.name for video in videos))
    return videos


def single_video(video: Path, mask: Path) -> VideoIndex:
    """Index one video, a folder of frames or a video file.

    Args:
        mask: a mask, or a folder of masks. They have the names of their frames, or the frames' numbers if the
            video is a file. A single mask with another name is that of the first frame.
    Raises: InputError if either is missing.
    """
    video = Path(os.path.abspath(video))  # '.' has no name
    if video.is_dir():
        frames = list_images(video)
    else:
        frames = [video] if video.suffix.lower() in VIDEOS and video.exists() else []
    if not frames:
        raise InputError(
            f"{video}: expected a folder of frames or a video file ({', '.join(VIDEOS)}); set video_path"
        )
    if mask.is_dir():
        return _with_masks(video, mask)
    if not mask.is_file():
        raise InputError(f"{mask} does not exist; set mask_path to the mask of the first frame")
    _refuse_duplicates(video, (path.stem for path in frames))
    name, position = (video.name if video.is_dir() else video.stem), _position(mask, video, frames)
    return VideoIndex(name, tuple(frames), {position: mask}, given=(position,), binary=None)


def _position(mask: Path, video: Path, frames: list[Path]) -> int:
    """Position of the frame after which a mask is named; 0 if it has another name."""
    if video.is_file():
        return int(mask.stem) if mask.stem.isdecimal() else 0
    return next((i for i, frame in enumerate(frames) if frame.stem == mask.stem), 0)


def _warn_of_others(images: Path, videos: list[Path]) -> None:
    """Name the entries of a folder of videos that are no videos; hidden ones are not counted."""
    others = sorted(e.name for e in images.iterdir() if not e.name.startswith(".") and e not in videos)
    if others:
        names = ", ".join(others[:LISTED]) + (" ..." if len(others) > LISTED else "")
        warnings.warn(
            f"{images}: {len(others)} entries are left out, because they are neither folders of frames nor "
            f"video files ({', '.join(VIDEOS)}): {names}",
            stacklevel=3,
        )


def _is_video(entry: Path) -> bool:
    return not entry.name.startswith(".") and (entry.is_dir() or entry.suffix.lower() in VIDEOS)


def _with_masks(video: Path, masks: Path) -> VideoIndex:
    """Index a folder of frames or a video file, and the folder of its masks."""
    if not video.is_file():
        return index_video(video.name, video, masks, binary=None)
    found = {int(path.stem): path for path in list_images(masks) if path.stem.isdecimal()}
    if not found:
        raise InputError(f"{masks}: expected the mask of frame 0 of {video.name} as 00000.png, found none")
    return VideoIndex(video.stem, (video,), found, given=(min(found),), binary=None)


def index_video(name: str, images: Path, masks: Path, binary: bool | None = False) -> VideoIndex:
    """List the frames of one video in the folder `images` and match masks to them by file name.

    Args:
        binary: True if 255 in the masks is the object, False if it is void; None: the masks decide.
    Raises: InputError if the name would leave its folder, if there are no frames, or if no frame has a mask.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(
            f"video name '{name}' would leave the folder {images.parent}; correct the list of the data set"
        )
    frames = list_images(images)
    if not frames:
        raise InputError(
            f"{images}: expected the frames of video '{name}', found no image; complete the data set"
        )
    _refuse_duplicates(images, (path.stem for path in frames))
    by_stem = {path.stem: path for path in list_images(masks)}
    found = {i: by_stem[frame.stem] for i, frame in enumerate(frames) if frame.stem in by_stem}
    if not found:
        raise InputError(
            f"{masks}: expected a mask for '{frames[0].stem}', found none for any frame; "
            "complete the data set"
        )
    others = sorted(by_stem.keys() - {path.stem for path in frames})
    if others:
        warnings.warn(
            f"{masks}: {len(others)} masks have no frame, the first of them is '{others[0]}'", stacklevel=2
        )
    return VideoIndex(name, tuple(frames), found, given=(min(found),), binary=binary)


def _refuse_duplicates(where: Path, names: Iterable[str]) -> None:
    """Raises: InputError if a name occurs twice; results are saved under these names."""
    duplicates = [name for name, times in Counter(names).items() if times > 1]
    if duplicates:
        raise InputError(
            f"{where}: '{duplicates[0]}' is there twice, with different suffixes; rename or remove one"
        )


def index_all(names: Sequence[str], index: Callable[[str], VideoIndex]) -> list[VideoIndex]:
    """Index each video, and collect the errors of all of them.

    Raises: InputError with the errors of the first ten incomplete videos.
    """
    found, errors = [], []
    for name in names:
        try:
            found.append(index(name))
        except InputError as error:
            errors.append(str(error))
    if errors:
        several = f"{len(errors)} of {len(names)} videos are incomplete, the first of them: "
        raise InputError((several if len(errors) > 1 else "") + "; ".join(errors[:LISTED]))
    return found


def list_images(where: Path) -> list[Path]:
    """List the image files of a folder in the order of the numbers in their names, 9 before 10.

    Hidden files are left out. A folder that does not exist has none.
    """
    if not where.is_dir():
        return []
    images = (p for p in where.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith("."))
    return sorted(images, key=_numeric_order)


def _numeric_order(path: Path) -> tuple[list[str | int], str]:
    """Sort key: texts and numbers of the name alternate, so that each is compared with its own kind."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.stem))], path.name


def read_annotation_text(path: Path, parse: Callable[[str], T]) -> T:
    """Read and parse a text file of a data set.

    Raises: InputError naming the file if it cannot be read or parsed.
    """
    try:
        return parse(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except (OSError, ValueError, RecursionError) as error:
        # UnicodeDecodeError and JSONDecodeError are ValueErrors.
        raise InputError(
            f"{path} cannot be read: {' '.join(str(error).split())}; download the data set's file again"
        ) from error
