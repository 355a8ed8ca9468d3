"""LVOS: index of the videos, frames and masks on disk; long videos, of which each fifth frame has a mask."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataset.folder import index_video
from dataset.layout import split_folder
from dataset.listing import Incomplete, index_all, read_annotation_text, warn_of_others
from dataset.protocol import LVOS
from dataset.youtube_vos import has_ground_truth, read_meta_objects
from libs.core.errors import InputError, counted, named
from libs.core.structures import VideoIndex

STEP = 5  # numbers between two scored frames
UNSEEN = "unseen_videos.txt"
MOST = 10**6  # frames of a video; the numbers of a damaged file must not fill the memory


def lvos(root: Path, split: str) -> list[VideoIndex | Incomplete]:
    """The set of long videos, version 1 or 2. `split` is 'train', 'val' (also as folder valid) or 'test'.

    Warns of frames that the meta file names and that have no mask, and if `UNSEEN` is missing.

    Raises: InputError if the split or its meta file is not there, or the file is not as expected.
    """
    folder = split_folder(root, "LVOS", split)
    meta = meta_file(folder)
    scored = read_meta_objects(meta, _scored)
    warn_of_others(folder / "JPEGImages", folder / "Annotations", scored, f"not in {meta.name}")
    unseen = _unseen_videos(folder) if split != "train" else None
    missing: list[str] = []  # frames to score without a mask

    def index(name: str) -> VideoIndex:
        """Index one video."""
        video = _index(name, folder, scored[name], missing)
        ids = video.objects if unseen is not None and name in unseen else ()
        return replace(video, unseen=None if unseen is None else ids)

    videos = index_all(sorted(scored), index)
    if missing:
        warnings.warn(
            f"{folder}: {counted(len(missing), 'frame')} that {meta.name} names for scoring left out, as the "
            f"frame or its mask is missing: {named(missing)}",
            stacklevel=2,
        )
    annotated = any(isinstance(video, VideoIndex) and has_ground_truth(video) for video in videos)
    if unseen is None and split != "train" and annotated:
        warnings.warn(
            f"{folder.parent / UNSEEN} does not exist, so that seen and unseen categories are not scored "
            "apart and there is no G; the data set's evaluation tool holds this file",
            stacklevel=2,
        )
    return videos


def meta_file(folder: Path) -> Path:
    """The list of a split's objects, such as val/val_meta.json.

    Raises: InputError naming the usual one if there is none.
    """
    names = [f"{folder.name}_meta.json", "val_meta.json", "valid_meta.json", "meta.json"]
    names = names if folder.name.startswith("val") else [names[0], names[-1]]
    found = [place / name for name in names for place in (folder, folder.parent) if (place / name).is_file()]
    if not found:
        raise InputError(
            f"{folder / names[0]} does not exist; it is a download of its own, see DATASET.md: put it there"
        )
    return found[0]


def _scored(entry: Any) -> range:
    """The numbers of the frames in which one object is scored: each fifth after its first one, below its end.

    The official evaluation also leaves out the last one of `frame_nums`.
    """
    frames = entry["frame_range"]
    start, end = int(frames["start"]), int(frames["end"])
    if not 0 <= end - start <= MOST:
        raise ValueError(f"expected an end up to {MOST} after the start, found {start} and {end}")
    if "frame_nums" in frames:
        end = min(end, start + STEP * (int(frames["frame_nums"]) - 1))
    return range(start + STEP, end, STEP)


def _unseen_videos(folder: Path) -> set[str] | None:
    """Names of the videos whose objects are of unseen categories; None if there is no list."""
    for path in (folder / UNSEEN, folder.parent / UNSEEN):
        if path.is_file():
            return {line.strip() for line in read_annotation_text(path, str.splitlines)} - {""}
    return None


def _index(name: str, folder: Path, objects: dict[int, range], missing: list[str]) -> VideoIndex:
    """Index one video, and add to `missing` the frames in which objects cannot be scored."""
    index = index_video(name, folder / "JPEGImages" / name, folder / "Annotations" / name)
    position = {int(frame.stem): i for i, frame in enumerate(index.frames) if frame.stem.isdecimal()}
    masked = {number: i for number, i in position.items() if i in index.masks}
    index = replace(index, protocol=LVOS, objects=tuple(sorted(objects)), scored={})
    if not has_ground_truth(index):  # as in the test split, whose masks show new objects only
        return index
    scored = {i: tuple(masked[n] for n in numbers if n in masked) for i, numbers in objects.items()}
    absent = sorted({n for numbers in objects.values() for n in numbers} - masked.keys())
    missing += [f"{name}/{number:08d}" for number in absent]
    return replace(index, scored=scored)
