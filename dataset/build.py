"""From names in the config to training sets, loaders and test videos."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from dataset import registry
from dataset.clips import ClipLoader, TrainingSet
from dataset.framing import Crop
from dataset.loader import PilLoader
from dataset.paste import Paster
from dataset.video import open_video
from libs.core.errors import InputError, UnreadableError
from libs.core.structures import Video


def training_sets(
    root: Path, names: list[str], freqs: list[int], distractors: bool = True
) -> list[TrainingSet]:
    """Index the training part of each set, or get ready to make it (with or without distractors).

    Raises: InputError where a set has no video with at least two annotated frames.
    """
    return [
        TrainingSet(
            name, registry.training_videos(root, name, distractors), freq, registry.find(name).skip_step
        )
        for name, freq in zip(names, freqs)
    ]


def test_videos(root: Path, name: str, split: str) -> list[Video]:
    """The videos of a set to segment; their given masks are read."""
    return [open_video(index) for index in registry.recorded_videos(root, name, split)]


def readable_videos(root: Path, name: str, split: str) -> tuple[list[Video], list[str]]:
    """The same without those whose given masks cannot be read, which are warned of; and the names of these."""
    videos, failed = [], []
    for index in registry.recorded_videos(root, name, split):
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
    size: tuple[int, int],
    sampled_frames: int,
    samples_per_video: int,
    max_skip: list[int],
    train_batch: int,
    workers: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    scales: Sequence[float] = (1.0,),
    coarse_epochs: int = 0,
    clip_objects: str = "first_frame",
    augmentation: str = "paper",
    crop: Crop | None = None,
    paste: Paster | None = None,
) -> ClipLoader:
    """The loader of the back end that the config names, with ClipLoader's arguments; DALI decodes on `device`.

    Raises: InputError where DALI is not installed, or where keys exclude each other.
    """
    if augmentation == "dali" and (crop or paste):
        key = "framing" if crop else "paste"
        raise InputError(f"key '{key}': augmentation dali fits frames in its own way; use augmentation paper")
    arguments = (
        sets,
        size,
        sampled_frames,
        samples_per_video,
        list(max_skip),
        train_batch,
        workers,
        seed,
        rank,
        world_size,
        tuple(scales),
        coarse_epochs,
        clip_objects,
        augmentation,
        crop,
        paste,
    )
    if backend == "DALI":
        from dataset.dali import DaliLoader  # an extra package, which most users do without

        return DaliLoader(*arguments, device=device)
    return PilLoader(*arguments)
