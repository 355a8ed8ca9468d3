"""From names in the config to training sets, loaders and test videos."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dataset import registry
from dataset.annotations import Annotations
from dataset.davis import RESOLUTIONS
from dataset.listing import Incomplete
from dataset.loader import ClipLoader, PilLoader
from dataset.masks.style import VideoStyle
from dataset.sampling import ClipSettings, TrainingSet
from dataset.synthetic.clips import SyntheticVideo
from dataset.video import is_video_file, open_video
from libs.core.errors import InputError, UnreadableError
from libs.core.image_io import image_size
from libs.core.structures import Video, VideoIndex

Found = tuple[list[VideoIndex], list[Incomplete]]


def training_sets(
    root: Path,
    names: list[str],
    freqs: list[int],
    distractors: bool = True,
    resolution: str = RESOLUTIONS[0],
    cache: Path | None = None,
) -> list[TrainingSet]:
    """Index the training split of each set, or prepare to generate it (with or without distractors).

    Args:
        resolution, cache: see `recorded_videos` in dataset/registry.py.
    Raises: InputError if a set has no video with at least two annotated frames.
    """
    return [
        TrainingSet(
            name,
            registry.training_videos(root, name, distractors, resolution, cache),
            freq,
            registry.find(name).skip_step,
        )
        for name, freq in zip(names, freqs)
    ]


def check_masks(sets: Sequence[TrainingSet], settings: ClipSettings, count: int) -> None:
    """Read `count` masks of each training set, and of the photographs to paste, before training starts.

    They are spread evenly over the set. Warns with one line per set if masks are unusual.

    Raises: InputError with the first problem of a set, and how many masks have one.
    """
    for data in sets:
        photos = (v.photo if isinstance(v, SyntheticVideo) else v for v in data.videos)
        _check_set(data.name, [index for index in photos if index], count)
    if settings.paste:
        _check_set("INSTANCES (key 'paste')", settings.paste.photographs, count)


def _check_set(name: str, videos: Sequence[VideoIndex], count: int) -> None:
    """Read masks of one training set, see `check_masks`."""
    read = read_masks(videos, count)
    if len(read.problems) == 1:
        raise read.problems[0]
    if read.problems:
        raise InputError(
            f"training set '{name}': {len(read.problems)} of {read.count} checked masks are wrong, "
            f"the first: {read.problems[0]}"
        )
    if read.notes:
        warnings.warn(
            f"training set '{name}': {len(read.notes)} of {read.count} checked masks are unusual, "
            f"the first: {read.notes[0]}",
            stacklevel=3,
        )


@dataclass
class ReadMasks:
    """What came of reading `count` masks: what is wrong, and what is unusual, in words.

    of_frames: those of the problems that are unreadable frames, whose size is not known.
    """

    count: int
    problems: list[InputError] = field(default_factory=list)
    of_frames: list[InputError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_masks(
    videos: Sequence[VideoIndex], count: int, advance: Callable[[], object] = lambda: None
) -> ReadMasks:
    """Read `count` masks, spread evenly over the videos, and compare their sizes with those of the frames.

    Args:
        advance: called after each mask.
    """
    masks = [(video, position) for video in videos for position in sorted(video.masks)]
    read = ReadMasks(min(count, len(masks)))
    styles: dict[str, VideoStyle] = {}
    for i in spread(len(masks), read.count):
        video, position = masks[i]
        style = styles.setdefault(video.name, VideoStyle(video))
        size = None
        try:
            if not is_video_file(video):
                size = image_size(video.frames[position])
        except UnreadableError as error:
            read.problems.append(error)
            read.of_frames.append(error)
        else:
            try:
                Annotations(video, style=style, warn=read.notes.append).read(position, size)
            except UnreadableError as error:
                read.problems.append(error)
        advance()
    return read


def spread(length: int, count: int) -> list[int]:
    """`count` of the numbers 0 to `length` - 1, spread evenly, with the first and the last one."""
    return np.linspace(0, length - 1, count).round().astype(int).tolist()


def test_videos(
    root: Path,
    name: str,
    split: str,
    resolution: str = RESOLUTIONS[0],
    cache: Path | None = None,
    from_main: Callable[[Callable[[], Found]], Found] = lambda make: make(),
) -> list[Video]:
    """Open the videos of a set to segment; reads the first mask with an object of each.

    Incomplete ones are left out, with a warning.

    Args:
        resolution, cache: see `recorded_videos` in dataset/registry.py.
        from_main: calls a function in the main process of several, and returns its result in all.
    Raises: InputError naming a mask that cannot be read.
    """
    videos, _ = from_main(lambda: registry.recorded_videos(root, name, split, resolution, cache))
    return [open_video(index) for index in videos]


def readable_videos(
    root: Path,
    name: str,
    split: str,
    given_masks: str,
    announce: Callable[[str], None],
    resolution: str = RESOLUTIONS[0],
    cache: Path | None = None,
) -> tuple[list[Video], list[str]]:
    """Open the videos of a set to segment; warn of each incomplete one, or whose first mask is unreadable.

    Args: see `open_video`.
    Returns: the readable videos; the names of the others.
    """
    indices, incomplete = registry.recorded_videos(root, name, split, resolution, cache)
    videos, failed = [], [video.name for video in incomplete]
    for index in indices:
        try:
            videos.append(open_video(index, given_masks, announce))
        except UnreadableError as error:
            warnings.warn(f"video '{index.name}' failed: {error}", stacklevel=2)
            failed.append(index.name)
    return videos, failed


def build_loader(
    backend: str,
    device: torch.device,
    sets: list[TrainingSet],
    settings: ClipSettings,
    *,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> ClipLoader:
    """Build the loader of a back end, 'PIL' or 'DALI'.

    Args:
        device: on which DALI decodes; PIL decodes on the CPU.
        workers, rank, world_size: see `ClipLoader`.
    Raises: InputError if DALI is not installed, or if keys exclude each other.
    """
    if settings.augmentation == "dali" and (settings.crop or settings.paste):
        key = "framing" if settings.crop else "paste"
        raise InputError(f"key '{key}': augmentation dali fits frames in its own way; use augmentation paper")
    if backend == "DALI":
        from dataset.dali import DaliLoader  # an extra package, which most users do without

        return DaliLoader(sets, settings, workers=workers, rank=rank, world_size=world_size, device=device)
    return PilLoader(sets, settings, workers=workers, rank=rank, world_size=world_size)
