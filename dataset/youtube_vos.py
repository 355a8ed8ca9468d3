"""YouTube-VOS: which videos, frames and masks lie on disk, and where an object first appears."""

import json
from dataclasses import replace
from pathlib import Path

from dataset.folder import index_video, read_annotation_text
from libs.structures import InputError, VideoIndex


def youtube_vos(root: Path, split: str) -> list[VideoIndex]:
    """The multi-object set in which objects may first appear in mid-video. `split` is 'train' or 'val' (folder valid).

    Raises: InputError where meta.json is missing or does not fit the files.
    """
    folder = root / "Youtube-VOS" / ("valid" if split == "val" else split)
    meta = folder / "meta.json"
    if not meta.is_file():
        raise InputError(f"{meta} does not exist; set root to the folder that holds Youtube-VOS, see DATASET.md")
    videos = read_annotation_text(meta, json.loads)
    videos = videos.get("videos") if isinstance(videos, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise InputError(f"{meta}: expected {{'videos': {{<id>: {{'objects': ...}}}}}}; get the data set's file anew")
    return [_video(name, entry, folder, meta) for name, entry in sorted(videos.items())]


def _video(name: str, entry: object, folder: Path, meta: Path) -> VideoIndex:
    index = index_video(name, folder / "JPEGImages" / name, folder / "Annotations" / name)
    try:
        listed = [sorted(frames["frames"]) for frames in entry["objects"].values()]
        first, submitted = {frames[0] for frames in listed}, set().union(*listed)
    except (TypeError, KeyError, IndexError, AttributeError) as fault:
        raise InputError(f"{meta}: video '{name}': expected 'objects' with a list 'frames' each") from fault
    if not first:
        raise InputError(f"{meta}: video '{name}': expected at least one object")
    stems = {frame.stem: i for i, frame in enumerate(index.frames)}
    given = tuple(sorted(stems[stem] for stem in first if stem in stems and stems[stem] in index.masks))
    if len(given) < len(first):
        missing = sorted(str(stem) for stem in first if stems.get(stem) not in given)
        raise InputError(f"{folder}: video '{name}': frame or mask {', '.join(missing[:10])} is missing, where an object appears")
    return replace(index, given=given, submitted=tuple(stems[stem] for stem in sorted(submitted & stems.keys())))
