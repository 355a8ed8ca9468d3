"""YouTube-VOS: which videos, frames and masks lie on disk, and where an object first appears."""

import json
from dataclasses import replace
from pathlib import Path

from dataset.folder import index_all, index_video, read_annotation_text
from libs.core.errors import InputError
from libs.core.structures import VideoIndex

Meta = dict[
    str, dict[int, list[str]]
]  # video -> object id -> names of the frames in which it is listed, in order


def youtube_vos(root: Path, split: str) -> list[VideoIndex]:
    """The multi-object set in which objects may first appear in mid-video. `split` is 'train' or 'val' (folder valid).

    Raises: InputError where meta.json is missing or does not fit the files.
    """
    folder = root / "Youtube-VOS" / ("valid" if split == "val" else split)
    meta = folder / "meta.json"
    if not meta.is_file():
        raise InputError(
            f"{meta} does not exist; set root to the folder that holds Youtube-VOS, see DATASET.md"
        )
    videos = read_meta(meta)
    return index_all(sorted(videos), lambda name: _video(name, videos[name], folder))


def read_meta(meta: Path) -> Meta:
    """The data set's meta.json.

    Raises: InputError naming the file, and the video, where it is not as expected.
    """
    videos = read_annotation_text(meta, json.loads)
    videos = videos.get("videos") if isinstance(videos, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise InputError(
            f"{meta}: expected {{'videos': {{<id>: {{'objects': ...}}}}}}; get the data set's file anew"
        )
    return {name: _objects(name, entry, meta) for name, entry in videos.items()}


def _objects(name: str, entry: object, meta: Path) -> dict[int, list[str]]:
    try:
        objects = {int(i): sorted(o["frames"]) for i, o in entry["objects"].items()}
        whole = all(frames and all(isinstance(f, str) for f in frames) for frames in objects.values())
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{meta}: video '{name}': expected 'objects' with a list 'frames' each") from error
    if not objects or not whole:
        raise InputError(
            f"{meta}: video '{name}': expected at least one object, and a frame for each; get the file anew"
        )
    return objects


def listed_frames(meta: Meta) -> dict[str, dict[str, set[int]]]:
    """Video -> frame that the server expects -> objects that have appeared by then."""
    return {
        name: {
            frame: {i for i, own in objects.items() if own[0] <= frame}
            for frames in objects.values()
            for frame in frames
        }
        for name, objects in meta.items()
    }


def _video(name: str, objects: dict[int, list[str]], folder: Path) -> VideoIndex:
    index = index_video(name, folder / "JPEGImages" / name, folder / "Annotations" / name)
    first, submitted = {frames[0] for frames in objects.values()}, set().union(*objects.values())
    stems = {frame.stem: i for i, frame in enumerate(index.frames)}
    given = tuple(sorted(stems[stem] for stem in first if stem in stems and stems[stem] in index.masks))
    if len(given) < len(first):
        missing = sorted(stem for stem in first if stems.get(stem) not in given)
        raise InputError(
            f"{folder}: video '{name}': frame or mask {', '.join(missing[:10])} is missing, where an object appears"
        )
    absent = sorted(submitted - stems.keys())
    if absent:
        raise InputError(
            f"{folder}: video '{name}': {len(absent)} frames that meta.json lists are missing: {', '.join(absent[:10])}"
        )
    return replace(index, given=given, submitted=tuple(stems[stem] for stem in sorted(submitted)))
