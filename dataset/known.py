"""How many videos, frames and objects the data sets have, and how many of them are there."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset.listing import Incomplete
from dataset.registry import find, recorded_videos, training_videos
from dataset.synthetic.clips import SyntheticVideo
from dataset.video import is_video_file
from libs.core.errors import InputError
from libs.core.structures import VideoIndex


@dataclass(frozen=True)
class Known:
    """The size of one split of a data set; 0: not known.

    release: which one it is. likely: the numbers that are likely, not certain: their source is weak.
    """

    release: str
    videos: int
    frames: int = 0
    objects: int = 0
    likely: tuple[str, ...] = ()


ALL = ("videos", "frames", "objects")
# (data set, split) -> its releases; see DATASET.md for what is certain.
KNOWN: dict[tuple[str, str], tuple[Known, ...]] = {
    ("DAVIS16", "train"): (Known("2016", 30, 2079, 30),),
    ("DAVIS16", "val"): (Known("2016", 20, 1376, 20),),
    ("DAVIS17", "train"): (Known("2017", 60, 4209, 144, ("objects",)),),
    ("DAVIS17", "val"): (Known("2017", 30, 1999, 61),),
    ("DAVIS17", "test-dev"): (Known("2017", 30, 2086, 89, ("objects",)),),
    ("DAVIS17", "test-challenge"): (Known("2017", 30, 2180, 90, ALL),),
    ("VOS", "train"): (Known("2019", 3471, objects=6459), Known("2018", 3471, objects=5945)),
    ("VOS", "val"): (Known("2019", 507, objects=1063), Known("2018", 474, objects=894)),
    ("VOS", "test"): (Known("2019", 541, objects=1092), Known("2018", 508, objects=915)),
    ("MOSE", "train"): (Known("version 1", 1507, likely=ALL), Known("version 2", 3666, likely=ALL)),
    ("MOSE", "val"): (Known("version 1", 311, likely=ALL), Known("version 2", 433, likely=ALL)),
    ("MOSE", "test"): (Known("version 1", 331, likely=ALL), Known("version 2", 614, likely=ALL)),
    ("LVOS", "train"): (Known("version 2", 420), Known("version 1", 120)),
    ("LVOS", "val"): (Known("version 2", 140), Known("version 1", 50)),
    ("LVOS", "test"): (Known("version 2", 160), Known("version 1", 50)),
    ("VOST", "train"): (Known("2023", 572, likely=ALL),),
    ("VOST", "val"): (Known("2023", 70, likely=ALL),),
    ("VOST", "test"): (Known("2023", 71, likely=ALL),),
    ("DUTS", "train"): (Known("DUTS-TR", 10553, likely=ALL),),
}


@dataclass(frozen=True)
class Found:
    """What is there of a split; of a set of photographs, a video is a photograph."""

    videos: Sequence[VideoIndex]
    incomplete: Sequence[Incomplete] = ()

    @property
    def frames(self) -> int:
        """Frames of the complete videos; a video file counts as one."""
        return sum(len(video.frames) for video in self.videos)

    @property
    def masks(self) -> int:
        """Annotated frames."""
        return sum(len(video.masks) for video in self.videos)

    @property
    def files(self) -> int:
        """Video files, whose frames are not counted."""
        return sum(is_video_file(video) for video in self.videos)


def find_split(root: Path, name: str, split: str, resolution: str = "480p") -> Found:
    """List the videos of a split, without a warning.

    Args:
        name: in dataset/registry.py, or DUTS, which is read as STATIC.
    Raises: InputError if it is not there, or if all videos are incomplete.
    """
    registered = index_name(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if find(registered).make:
            made = training_videos(root, registered)
            return Found([video.photo for video in made if isinstance(video, SyntheticVideo) and video.photo])
        return Found(*recorded_videos(root, registered, split, resolution))


def index_name(name: str) -> str:
    """The name under which a data set is read."""
    return "STATIC" if name == "DUTS" else name


def known_size(name: str, split: str, videos: int, objects: int = 0) -> Known | None:
    """The release that a split with so many videos and objects is of; None if no numbers are known.

    If none fits, the smallest one that has as many videos or more, which is then incomplete; or else the
    largest one, of which there are then too many.
    """
    releases = KNOWN.get((name, split), ())
    exact = [one for one in releases if one.videos == videos]
    if exact:
        return min(exact, key=lambda one: abs(one.objects - objects) if objects else 0)
    by_size = sorted(releases, key=lambda one: one.videos)
    return next((one for one in by_size if one.videos > videos), by_size[-1] if by_size else None)


def is_complete(root: Path, name: str, splits: Sequence[str]) -> bool:
    """Whether all splits have exactly the known numbers of videos and frames. Opens no image.

    False for splits of which nothing is known.
    """
    return bool(splits) and all(matching_releases(root, name, split) for split in splits)


def matching_releases(root: Path, name: str, split: str) -> list[Known]:
    """The releases with the numbers of videos and frames of a split. Opens no image.

    If a list names the objects, and their number fits some of these releases, the others are left out.
    """
    try:
        found = find_split(root, name, split)
    except InputError:
        return []
    fit = [
        one
        for one in KNOWN.get((name, split), ())
        if one.videos == len(found.videos) and one.frames in (0, found.frames) and not found.incomplete
    ]
    objects = sum(len(video.objects) for video in found.videos)
    return [one for one in fit if one.objects == objects] or fit
