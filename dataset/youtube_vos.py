"""YouTube-VOS: index of the videos, frames and masks on disk; objects may first appear mid-video."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataset.folder import index_video
from dataset.listing import Incomplete, index_all, read_annotation_text, warn_of_others
from dataset.protocol import YOUTUBE_VOS
from libs.core.errors import InputError, named
from libs.core.file_list import stems
from libs.core.structures import VideoIndex

# Video -> object id -> names of the frames in which it is listed, in order.
Meta = dict[str, dict[int, list[str]]]


def youtube_vos(root: Path, split: str) -> list[VideoIndex | Incomplete]:
    """The set in which objects may first appear mid-video. `split` is 'train' or 'val' (folder valid).

    Raises: InputError if meta.json is missing or does not match the files.
    """
    folder = root / "Youtube-VOS" / ("valid" if split == "val" else split)
    meta = folder / "meta.json"
    if not meta.is_file():
        others = sorted(path.parent.name for path in folder.parent.glob("*/meta.json"))
        advice = f"there is one in {named(others)}; check val_split" if others else "see DATASET.md"
        raise InputError(f"{meta} does not exist; set root to the folder that holds Youtube-VOS, {advice}")
    videos = read_meta(meta)
    warn_of_others(folder / "JPEGImages", folder / "Annotations", videos, "not in meta.json")
    return index_all(sorted(videos), lambda name: _index(name, videos[name], folder))


def read_meta(meta: Path) -> Meta:
    """Read the data set's meta.json.

    Raises: InputError naming the file, and the video, if the content is not as expected.
    """
    videos = read_annotation_text(meta, json.loads)
    videos = videos.get("videos") if isinstance(videos, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise InputError(
            f"{meta}: expected {{'videos': {{<id>: {{'objects': ...}}}}}}; download the data set's file again"
        )
    return {name: _objects(name, entry, meta) for name, entry in videos.items()}


def _objects(name: str, entry: Any, meta: Path) -> dict[int, list[str]]:
    """Object id -> its frames, from the unchecked entry of one video."""
    try:
        objects = {int(i): sorted(o["frames"]) for i, o in entry["objects"].items()}
        complete = all(frames and all(isinstance(f, str) for f in frames) for frames in objects.values())
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{meta}: video '{name}': expected 'objects' with a list 'frames' each") from error
    if not objects or not complete:
        raise InputError(
            f"{meta}: video '{name}': expected at least one object, and a frame for each; "
            "download the file again"
        )
    return objects


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
