"""From names in the config to training sets, loaders and test videos."""

import warnings
from pathlib import Path

import torch

from dataset import registry
from dataset.davis import RESOLUTIONS
from dataset.loader import ClipLoader, PilLoader
from dataset.sampling import ClipSettings, TrainingSet
from dataset.video import open_video
from libs.core.errors import InputError, UnreadableError
from libs.core.structures import Video


def training_sets(
    root: Path, names: list[str], freqs: list[int], distractors: bool = True, resolution: str = RESOLUTIONS[0]
) -> list[TrainingSet]:
    """Index the training split of each set, or prepare to generate it (with or without distractors).

    Args:
        resolution: the subfolder of frames and masks in a DAVIS set.

    Raises: InputError if a set has no video with at least two annotated frames.
    """
    return [
        TrainingSet(
            name,
            registry.training_videos(root, name, distractors, resolution),
            freq,
            registry.find(name).skip_step,
        )
        for name, freq in zip(names, freqs)
    ]


def test_videos(root: Path, name: str, split: str, resolution: str = RESOLUTIONS[0]) -> list[Video]:
    """Open the videos of a set to segment; reads their given masks. Incomplete ones are left out.

    Raises: InputError naming a mask that cannot be read.
    """
    videos, _ = registry.recorded_videos(root, name, split, resolution)
    return [open_video(index) for index in videos]


def readable_videos(
    root: Path, name: str, split: str, resolution: str = RESOLUTIONS[0]
) -> tuple[list[Video], list[str]]:
    """Open the videos of a set to segment; warn of each one that is incomplete or has unreadable masks.

    Returns: the readable videos; the names of the others.
    """
    indices, incomplete = registry.recorded_videos(root, name, split, resolution)
    videos, failed = [], [video.name for video in incomplete]
    for index in indices:
        try:
            videos.append(open_video(index))
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
