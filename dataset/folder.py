"""FOLDER, the data set of your own videos, and the functions that index one video of any data set.

`folder` is also the template of a new data set: write such a function and name it in dataset/registry.py.
"""

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dataset.listing import (
    Incomplete,
    entries,
    index_all,
    is_broken_link,
    is_folder,
    list_images,
    refuse_duplicates,
    warn_of_others,
    warn_of_unused,
)
from dataset.object_folders import Files, object_masks, warn_of_objects
from dataset.video_file import SUFFIXES
from libs.core.errors import InputError, counted, named
from libs.core.file_list import FileList, FileMap, stems
from libs.core.image_io import IMAGES
from libs.core.shards import File
from libs.core.structures import VideoIndex

A_VIDEO = "a folder of frames or a video file (.mp4, .mov, .avi, .mkv and others, see DATASET.md)"


def folder(root: Path, split: str) -> list[VideoIndex | Incomplete]:
    """Index the videos of a FOLDER; it has the same ones in every split.

    A video is a folder `root`/JPEGImages/<video>/ or a file such as `root`/JPEGImages/<video>.mp4, with the
    masks in `root`/Annotations/<video>/.

    A mask has the name of its frame, or the frame's number if the video is a file. Each object is given to
    the network in the first mask that shows it, and scored in later ones. Masks may have any of the forms
    that dataset/annotations.py lists.

    Raises: InputError naming the folder if a part of this layout is missing.
    """
    images, masks = root / "JPEGImages", root / "Annotations"
    if not is_folder(images):
        there = f" beside {_what_is_there(root)}" if root.is_dir() else ""
        raise InputError(
            f"{images} does not exist{there}; FOLDER expects JPEGImages/<video> and Annotations/<video> "
            "below root"
        )
    videos: dict[str, list[Path]] = {}
    for entry in entries(images):
        if _is_video(entry):
            videos.setdefault(entry.stem if _is_file(entry) else entry.name, []).append(entry)
    if not videos:
        raise InputError(
            f"{images}: expected {A_VIDEO} for each video, found {_what_is_there(images)}; "
            "frames belong into JPEGImages/<video>"
        )

    def index(name: str) -> VideoIndex:
        """Index one video, unless two entries have its name."""
        if len(videos[name]) > 1:
            both = " and ".join(entry.name for entry in videos[name])
            raise InputError(f"{images}: '{name}' is there twice, as {both}; rename or remove one")
        return _with_masks(videos[name][0], masks / name)

    warn_of_others(images, masks, [e.name for found in videos.values() for e in found], f"not {A_VIDEO}")
    return index_all(videos, index)


def single_video(video: Path, mask: Path) -> VideoIndex:
    """Index one video, a folder of frames or a video file.

    Args:
        mask: a mask, or a folder of masks. They have the names of their frames, or the frames' numbers if the
            video is a file. A single mask with another name is that of the first frame.
    Raises: InputError if either is missing.
    """
    video = Path(os.path.abspath(video))  # '.' has no name
    if not video.is_dir() and not (video.suffix.lower() in SUFFIXES and video.exists()):
        raise InputError(f"{video}: expected {A_VIDEO}; set video_path")
    if mask.is_dir():
        index = _with_masks(video, mask)
        warn_of_unused(video.parent, [index])
        warn_of_objects(mask, [index])
        return index
    frames = list_frames(video.name, video) if video.is_dir() else (video,)
    if not mask.is_file():
        raise InputError(f"{mask} does not exist; set mask_path to the mask of the first frame")
    name, position = (video.name if video.is_dir() else video.stem), _position(mask, video, frames)
    index = VideoIndex(name, frames, {position: mask}, binary=None)
    if position == 0 and _last_number(mask.stem) > 0 and (video.is_file() or mask.stem != frames[0].stem):
        what = "is no frame's number" if video.is_file() else "is no frame's name"
        warnings.warn(
            f"{mask}: '{mask.stem}' {what}, so it is taken for the first frame's mask", stacklevel=2
        )
    warn_of_unused(video.parent, [index], with_masks=False)
    return index


def _position(mask: Path, video: Path, frames: Sequence[File]) -> int:
    """Position of the frame after which a mask is named; 0 if it has another name."""
    if video.is_file():
        return _frame_number(mask.stem) or 0
    return next((i for i, frame in enumerate(frames) if frame.stem == mask.stem), 0)


def _is_file(entry: Path) -> bool:
    """Whether an entry would be a video file; also if it is a broken link of such a name."""
    return not is_folder(entry) and entry.suffix.lower() in SUFFIXES


def _is_video(entry: Path) -> bool:
    return is_folder(entry) or _is_file(entry) or is_broken_link(entry)


def _with_masks(video: Path, masks: Path) -> VideoIndex:
    """Index a folder of frames or a video file, and the folder of its masks."""
    if not video.is_file():
        if _is_file(video) and not video.exists() and not is_broken_link(video):
            raise InputError(
                f"{video} lies in a tar shard, from which video files cannot be read; unpack the shard"
            )
        return index_video(video.name, video, masks, binary=None)
    found, objects = match_masks(masks, _frame_number, "00000.png")
    binary = False if objects else None
    return VideoIndex(video.stem, (video,), found, binary=binary, object_masks=objects)


def _frame_number(mask: str) -> int | None:
    """The frame of a video file to which a mask of this name belongs."""
    return int(mask) if mask.isdecimal() else None


def index_video(name: str, images: Path, masks: Path, binary: bool | None = False) -> VideoIndex:
    """List the frames of one video in the folder `images` and match masks to them by file name.

    `masks` holds a mask per frame, or a folder of them for each object.

    Args:
        binary: True if 255 in the masks is the object, False if it is void; None: the masks decide.
    Raises: InputError if the name would leave its folder, if there are no frames, or if no frame has a mask.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(
            f"video name '{name}' would leave the folder {images.parent}; correct the list of the data set"
        )
    frames = list_frames(name, images)
    positions = {stem: i for i, stem in enumerate(stems(frames))}
    found, objects = match_masks(masks, positions.get, f"{frames[0].stem}.png")
    _refuse_other_numbers(frames, masks, found)
    binary = False if objects else binary
    return VideoIndex(name, frames, found, binary=binary, object_masks=objects)


def _refuse_other_numbers(frames: FileList, masks: Path, found: Mapping[int, File]) -> None:
    """Refuse masks that are numbered from 0 on beside frames from 1 on, or the like.

    By name, each mask would belong to the frame before or after its own one.

    Raises: InputError if there are as many masks as frames, and all differ by the same number.
    """
    if len(found) == len(frames):  # saves listing the folder again
        return
    files = list_images(masks)
    if len(files) != len(frames):
        return
    apart = {_last_number(frame) - _last_number(mask) for frame, mask in zip(stems(frames), stems(files))}
    if len(apart) == 1 and apart != {0}:
        raise InputError(
            f"{masks}: expected masks with the names of their frames, found {len(files)} masks from "
            f"{files[0].name} on for as many frames from {frames[0].name} on; number both alike"
        )


def _last_number(name: str) -> int:
    """The last number in a name; -1 if there is none."""
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else -1


def list_frames(name: str, images: Path) -> FileList:
    """List the frames of the video `name`, in order.

    Raises: InputError saying what is in the folder if it holds no image, or two of a name.
    """
    frames = list_images(images)
    if not frames:
        found, advice = f"no image ({', '.join(IMAGES)})", "complete the data set"
        if not is_folder(images):
            found = "a link to nothing" if is_broken_link(images) else "no such folder"
        elif entries(images):
            found, advice = f"{found} but {_what_is_there(images)}", f"convert the files, or {advice}"
        raise InputError(f"{images}: expected the frames of video '{name}', found {found}; {advice}")
    refuse_duplicates(images, stems(frames))
    return frames


def match_masks(
    masks: Path, position_of: Callable[[str], int | None], example: str
) -> tuple[Mapping[int, File], dict[int, Files]]:
    """Match the masks of a video to its frames.

    Args:
        position_of: name of a mask, without suffix -> the frame to which it belongs; None if there is none.
        example: name of the first frame's mask, for the error message.
    Returns: position of a frame -> mask; position -> label -> mask if each object has a folder of its own.
    Raises: InputError saying what is in the folder if no frame has a mask, or if a frame has two.
    """

    def match(files: FileList) -> FileMap:
        """Position of a frame -> its mask, of the masks in one folder."""
        matched: dict[int, int] = {}
        for i, stem in enumerate(stems(files)):
            position = position_of(stem)
            if position in matched:
                first = files.names[matched[position]]
                raise InputError(
                    f"{files.folder}: {first} and {files.names[i]} are masks of the same frame; remove one"
                )
            if position is not None:
                matched[position] = i
        return FileMap.of(files, matched)

    found = match(list_images(masks))
    objects = {} if found else object_masks(masks, match)
    if objects:
        return {position: next(iter(files.values())) for position, files in objects.items()}, objects
    if found:
        return found, {}
    if not is_folder(masks):
        raise InputError(
            f"{masks} does not exist; expected masks in it, such as {example}; complete the data set"
        )
    has_other_files = not all(map(is_folder, entries(masks))) and not list_images(masks)
    raise InputError(
        f"{masks}: expected masks with the names of their frames, such as {example}, found "
        f"{_what_is_there(masks)}; {'convert them to PNG' if has_other_files else 'rename them'}, or "
        "complete the data set"
    )


def _what_is_there(folder: Path) -> str:
    """The entries of a folder, for an error message."""
    names = [entry.name for entry in entries(folder)]
    return f"{named(names, 3)} ({counted(len(names), 'entry')})" if names else "an empty folder"
