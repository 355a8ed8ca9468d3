"""Name in the config -> data set.

To add a data set, write an index function (`folder` in dataset/folder.py is the template) and add a line to
REGISTRY. DATASET.md shows both steps.
"""

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset.catalogue import catalogued, list_file
from dataset.davis import RESOLUTIONS, davis16, davis17
from dataset.folder import folder
from dataset.listing import Incomplete, warn_of_incomplete, warn_of_unused
from dataset.lvos import lvos
from dataset.mose import mose
from dataset.object_folders import warn_of_objects
from dataset.synthetic.clips import SyntheticVideo, instances, procedural, static
from dataset.video import is_video_file
from dataset.vost import vost
from dataset.youtube_vos import youtube_vos
from libs.core.errors import LISTED, InputError, named
from libs.core.structures import VideoIndex


@dataclass(frozen=True)
class DataSet:
    """A data set that the config can name.

    index: (root, split) -> its videos on disk, also the incomplete ones; None for a synthetic set.
    skip_step: how much max_skip grows at each increment of the curriculum.
    make: (root, distractors) -> the training videos of a synthetic set; None for a set on disk.
    has_resolutions: whether `index` takes the resolution as a third argument.
    """

    index: Callable[..., Sequence[VideoIndex | Incomplete]] | None
    skip_step: int
    make: Callable[[Path, bool], list[SyntheticVideo]] | None = None
    has_resolutions: bool = False


REGISTRY = {
    "DAVIS16": DataSet(davis16, skip_step=5, has_resolutions=True),
    "DAVIS17": DataSet(davis17, skip_step=5, has_resolutions=True),
    "VOS": DataSet(youtube_vos, skip_step=1),
    "MOSE": DataSet(mose, skip_step=5),
    "LVOS": DataSet(lvos, skip_step=1),
    "VOST": DataSet(vost, skip_step=1),
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


def training_videos(
    root: Path,
    name: str,
    distractors: bool = True,
    resolution: str = RESOLUTIONS[0],
    cache: Path | None = None,
) -> Sequence[VideoIndex | SyntheticVideo]:
    """The videos of a set to train on. Warns of those that are left out.

    Args:
        distractors: whether synthetic clips show distractors and objects without a label.
        resolution: the subfolder of frames and masks in a DAVIS set.
        cache: folder in which the list of files of a large set is kept for later runs; None keeps none.
    Raises: InputError if no video is a folder of frames with two masks.
    """
    data = find(name)
    if data.make:
        with catalogued(list_file(cache, root, name)):
            return data.make(root, distractors)
    recorded, _ = recorded_videos(root, name, "train", resolution, cache)
    videos = [video for video in recorded if len(video.masks) > 1 and not is_video_file(video)]
    reasons = _unusable(recorded)
    if not videos:
        raise InputError(
            f"training set '{name}' below {root}: no video has two annotated frames to train on; "
            + "; ".join(reasons)
        )
    for reason in reasons:
        left_out = f"{len(recorded) - len(videos)} of {len(recorded)} videos are left out"
        warnings.warn(f"training set '{name}': {left_out}: {reason}", stacklevel=2)
    return videos


def _unusable(recorded: list[VideoIndex]) -> list[str]:
    """Why videos cannot be trained on, each reason with the names of its videos."""
    files = [Path(str(video.frames[0])) for video in recorded if is_video_file(video)]
    short = [video.name for video in recorded if len(video.masks) < 2 and not is_video_file(video)]
    reasons = []
    if short:
        reasons.append(f"training needs two masks, which these lack: {named(short)}")
    if files:
        frames = files[0].with_suffix("")
        reasons.append(
            f"training takes frames from folders, not from video files ({named(f.name for f in files)}); "
            f"extract them: `mkdir '{frames}'; ffmpeg -i '{files[0]}' -vsync 0 -start_number 0 "
            f"'{frames}/%05d.png'`, and move the file out of {frames.parent.name}"
        )
    return reasons


def recorded_videos(
    root: Path, name: str, split: str, resolution: str = RESOLUTIONS[0], cache: Path | None = None
) -> tuple[list[VideoIndex], list[Incomplete]]:
    """The videos of a set on disk; warns of the incomplete ones, and of files that are not used.

    Args:
        resolution: the subfolder of frames and masks in a DAVIS set.
        cache: folder in which the list of files of a large set is kept for later runs; None keeps none.
    Returns: the videos; those that are incomplete.
    Raises: InputError if the set is synthetic and only serves training, or if there is no complete video.
    """
    data = find(name)
    if not data.index:
        raise InputError(
            f"key 'valset': {name} is synthetic, for training only, and has no videos on disk; "
            "`python3 -m dataset.synthetic --out DIR` writes some as DIR/DAVIS17"
        )
    with catalogued(list_file(cache, root, name, split, resolution)):
        found = data.index(root, split, resolution) if data.has_resolutions else data.index(root, split)
        videos = [video for video in found if isinstance(video, VideoIndex)]
        incomplete = [video for video in found if isinstance(video, Incomplete)]
        if not found:
            raise InputError(f"{name} below {root}: found no video; check root and the split '{split}'")
        if not videos:
            several = f"{len(incomplete)} of {len(found)} videos are incomplete, the first of them: "
            reasons = "; ".join(video.reason for video in incomplete[:LISTED])
            raise InputError((several if len(incomplete) > 1 else "") + reasons)
        warn_of_incomplete(incomplete, len(found))
        warn_of_unused(root, videos)
        warn_of_objects(root, videos)
    return videos, incomplete
