"""Name in the config -> data set.

To add a data set, write an index function (`folder` in dataset/folder.py is the template) and add a line to
REGISTRY. DATASET.md shows both steps.
"""

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset.davis import davis16, davis17
from dataset.folder import LISTED, folder
from dataset.synthetic.clips import SyntheticVideo, instances, procedural, static
from dataset.video import is_video_file
from dataset.youtube_vos import youtube_vos
from libs.core.errors import InputError
from libs.core.structures import VideoIndex


@dataclass(frozen=True)
class DataSet:
    """A data set that the config can name.

    index: (root, split) -> its videos on disk; None for a synthetic set.
    skip_step: how much max_skip grows at each increment of the curriculum.
    make: (root, distractors) -> the training videos of a synthetic set; None for a set on disk.
    """

    index: Callable[[Path, str], list[VideoIndex]] | None
    skip_step: int
    make: Callable[[Path, bool], list[SyntheticVideo]] | None = None


REGISTRY = {
    "DAVIS16": DataSet(davis16, skip_step=5),
    "DAVIS17": DataSet(davis17, skip_step=5),
    "VOS": DataSet(youtube_vos, skip_step=1),
    "FOLDER": DataSet(folder, skip_step=5),
    "PROCEDURAL": DataSet(None, skip_step=1, make=procedural),
    "STATIC": DataSet(None, skip_step=1, make=static),
    "INSTANCES": DataSet(None, skip_step=1, make=instances),
}


def find(name: str) -> DataSet:
    """Look up a data set.

    Raises: InputError suggesting the nearest name.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0)[0]
        raise InputError(
            f"there is no data set '{name}'; the nearest is '{near}', known are {', '.join(REGISTRY)}"
        )
    return REGISTRY[name]


def training_videos(root: Path, name: str, distractors: bool = True) -> Sequence[VideoIndex | SyntheticVideo]:
    """The videos of a set to train on.

    Args:
        distractors: whether synthetic clips show distractors and objects without a label.
    Raises: InputError if no video has two annotated frames.
    """
    data = find(name)
    if data.make:
        return data.make(root, distractors)
    # Training needs two annotated frames per clip, and does not seek in video files.
    recorded = recorded_videos(root, name, "train")
    videos = [video for video in recorded if len(video.masks) > 1 and not is_video_file(video)]
    if not videos:
        raise InputError(f"training set '{name}' below {root}: no video has two annotated frames to train on")
    others = [video.name for video in recorded if video not in videos]
    if others:
        names = ", ".join(others[:LISTED]) + (" ..." if len(others) > LISTED else "")
        warnings.warn(
            f"training set '{name}': {len(others)} of {len(recorded)} videos are left out: training needs "
            f"two masks, and frames in a folder instead of a video file: {names}",
            stacklevel=2,
        )
    return videos


def recorded_videos(root: Path, name: str, split: str) -> list[VideoIndex]:
    """The videos of a set on disk.

    Raises: InputError if the set is synthetic and only serves training.
    """
    data = find(name)
    if not data.index:
        raise InputError(
            f"key 'valset': {name} is synthetic, for training only, and has no videos on disk; "
            "`python3 -m dataset.synthetic --out DIR` writes some as DIR/DAVIS17"
        )
    return data.index(root, split)
