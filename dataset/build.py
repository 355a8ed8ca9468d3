"""From names in the config to training sets, loaders and test videos."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from dataset import registry
from dataset.loader import ClipLoader, PilLoader
from dataset.sampling import ClipSettings, TrainingSet
from dataset.video import open_video
from libs.core.errors import InputError, UnreadableError
from libs.core.structures import Video


def training_sets(
    root: Path, names: list[str], freqs: list[int], distractors: bool = True
) -> list[TrainingSet]:
    """Index the training split of each set, or prepare to generate it (with or without distractors).

    Raises: InputError if a set has no video with at least two annotated frames.
    """
    return [
        TrainingSet(
            name, registry.training_videos(root, name, distractors), freq, registry.find(name).skip_step
        )
        for name, freq in zip(names, freqs)
    ]


def test_videos(root: Path, name: str, split: str) -> list[Video]:
    """Open the videos of a set to segment; reads the first mask with an object of each.

    Raises: InputError naming a mask that cannot be read.
    """
    return [open_video(index) for index in registry.recorded_videos(root, name, split)]


def readable_videos(
    root: Path, name: str, split: str, given_masks: str, announce: Callable[[str], None]
) -> tuple[list[Video], list[str]]:
    """Open the videos of a set to segment; warn of each one whose first mask cannot be read.

    Args: see `open_video`.
    Returns: the readable videos; the names of the others.
    """
    videos, failed = [], []
    for index in registry.recorded_videos(root, name, split):
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
