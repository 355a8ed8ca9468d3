"""YouTube-VOS: index of the videos, frames and masks on disk; objects may first appear mid-video."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dataset.folder import index_video
from dataset.layout import split_folder
from dataset.listing import Incomplete, index_all, read_annotation_text, warn_of_others
from dataset.protocol import YOUTUBE_VOS
from libs.core.errors import InputError, named
from libs.core.file_list import stems
from libs.core.structures import VideoIndex

# Video -> object id -> names of the frames in which it is listed, in order.
Meta = dict[str, dict[int, list[str]]]
T = TypeVar("T")


def youtube_vos(root: Path, split: str) -> list[VideoIndex | Incomplete]:
    """The set in which objects may first appear mid-video, of 2018 or 2019.

    Args:
        split: 'train', 'val' (folder valid) or 'test'.
    Raises: InputError if meta.json is missing or does not match the files.
    """
    folder = split_folder(root, "Youtube-VOS", split, "meta.json")
    meta = read_meta(folder / "meta.json")
    warn_of_others(folder / "JPEGImages", folder / "Annotations", meta, "not in meta.json")
    videos = index_all(sorted(meta), lambda name: _index(name, meta[name], folder))
    return videos if split == "train" else _with_unseen(videos, folder)


def read_meta(meta: Path) -> Meta:
    """Read the data set's meta.json.

    Raises: InputError naming the file, and the video, if the content is not as expected.
    """
    return read_meta_objects(meta, _frames)


def read_meta_objects(meta: Path, read: Callable[[Any], T]) -> dict[str, dict[int, T]]:
    """Read a list of the objects of each video.

    Args:
        read: what to take of an object's entry; may raise TypeError, KeyError, ValueError or AttributeError.
    Returns: video -> object -> what `read` returned.
    Raises: InputError naming the file, and the video, if the content is not as expected.
    """
    videos = read_annotation_text(meta, json.loads)
    videos = videos.get("videos") if isinstance(videos, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise InputError(
            f"{meta}: expected {{'videos': {{<id>: {{'objects': ...}}}}}}; download the data set's file again"
        )
    found = {}
    for name, entry in videos.items():
        try:
            found[name] = {int(i): read(each) for i, each in entry["objects"].items()}
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{meta}: video '{name}': an object is not as expected ({_reason(error)}); "
                "download the data set's file again"
            ) from error
        if not found[name]:
            raise InputError(f"{meta}: video '{name}': expected at least one object; download the file again")
    return found


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _category(entry: Any) -> str | None:
    """The category of one object; None if it is withheld."""
    category = entry.get("category")
    if category is not None and not isinstance(category, str):
        raise ValueError("expected a text 'category'")
    return category


def _frames(entry: Any) -> list[str]:
    """The frames of one object, in order."""
    frames = sorted(entry["frames"])
    if not frames or not all(isinstance(frame, str) for frame in frames):
        raise ValueError("expected a list 'frames' of names")
    return frames


def listed_frames(meta: Meta) -> dict[str, dict[str, set[int]]]:
    """Video -> frame of which the server expects a mask -> ids of the objects that have appeared by then."""
    return {
        name: {
            frame: {i for i, listed in objects.items() if listed[0] <= frame}
            for frames in objects.values()
            for frame in frames
        }
        for name, objects in meta.items()
    }


def _index(name: str, objects: dict[int, list[str]], folder: Path) -> VideoIndex:
    """Index one video; the frames in which an object first appears must have masks."""
    index = index_video(name, folder / "JPEGImages" / name, folder / "Annotations" / name)
    first = {frames[0] for frames in objects.values()}
    submitted = {frame for frames in objects.values() for frame in frames}
    positions = {stem: i for i, stem in enumerate(stems(index.frames))}
    given = tuple(sorted(positions[f] for f in first if f in positions and positions[f] in index.masks))
    if len(given) < len(first):
        missing = sorted(frame for frame in first if positions.get(frame) not in given)
        raise InputError(
            f"{folder}: video '{name}': frame or mask {', '.join(missing[:10])}, "
            "in which an object first appears, is missing; complete the data set"
        )
    absent = sorted(submitted - positions.keys())
    if absent:
        raise InputError(
            f"{folder}: video '{name}': {len(absent)} frames that meta.json lists are missing: "
            f"{', '.join(absent[:10])}; complete the data set"
        )
    listed = tuple(positions[frame] for frame in sorted(submitted))
    return replace(index, protocol=YOUTUBE_VOS, objects=tuple(sorted(objects)), submitted=listed)


def _with_unseen(videos: list[VideoIndex | Incomplete], folder: Path) -> list[VideoIndex | Incomplete]:
    """Add which objects are of unseen categories: those that the training split does not show.

    Leaves the videos as they are if this is not known, with a warning if there is ground truth to score.
    """
    lists = folder.parent / "train" / "meta.json", folder / "meta.json"
    if not any(isinstance(video, VideoIndex) and has_ground_truth(video) for video in videos):
        return videos
    cause = f"{lists[0]} does not exist"
    if lists[0].is_file():
        seen, own = (read_meta_objects(path, _category) for path in lists)
        categories = {category for objects in seen.values() for category in objects.values()} - {None}
        nameless = [f"{name}/{i}" for name, objects in own.items() for i, c in objects.items() if c is None]
        if categories and not nameless:
            unseen = {n: tuple(i for i, c in own[n].items() if c not in categories) for n in own}
            return [replace(v, unseen=unseen[v.name]) if isinstance(v, VideoIndex) else v for v in videos]
        cause = f"{lists[1] if categories else lists[0]} names no category"
        cause += f" of {named(nameless, 3)}" if categories else ""
    warnings.warn(
        f"{cause}, so that seen and unseen categories are not scored apart and there is no G; "
        "see DATASET.md, YouTube-VOS",
        stacklevel=3,
    )
    return videos


def has_ground_truth(index: VideoIndex) -> bool:
    """Whether there is ground truth, not only the masks in which objects first appear."""
    return len(index.masks) > len(index.objects)
