"""The PIL back end: clips for training, loaded by worker processes. The DALI back end has the same interface."""

import re
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader, get_worker_info

from dataset import registry
from dataset.clips import ClipLoader, ClipSampler, TrainingSet
from dataset.framing import Crop
from dataset.paste import Paster
from dataset.video import open_video
from libs.structures import LOADER_DIED, Clip, InputError, UnreadableError, Video


class PilLoader(ClipLoader):
    """Clips loaded by `workers` processes; 0 loads in this one."""

    def _load(self, sampler: ClipSampler, shares: list[list[int]]) -> Iterator[list[Clip]]:
        try:
            yield from DataLoader(
                sampler,
                batch_sampler=shares,
                num_workers=self.workers,
                collate_fn=_hand_over,
                worker_init_fn=_start_worker,
            )
        except (
            InputError,
            OSError,
            EOFError,
        ) as fault:  # a worker's has its traceback in its text, and holds on to the workers
            line = (
                LOADER_DIED
                if self.workers and _gone(fault)
                else re.sub(r"^libs\.structures\.\w+: ", "", str(fault).strip().split("\n")[-1])
            )
            raise InputError(line) from fault.with_traceback(None)


def _gone(fault: Exception) -> bool:
    """Whether it arose on the way to a process that is no more; what a worker hands over of its own has no number."""
    return (
        isinstance(fault, EOFError)
        or isinstance(fault, (ConnectionError, FileNotFoundError))
        and fault.errno is not None
    )


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
    world: int = 1,
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
        world,
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


def _hand_over(clips: list[Clip]) -> list[Clip]:
    """Into shared memory where it is a worker that made them: here, as later nobody would hear of it that there was no room."""
    if get_worker_info():
        for clip in clips:
            clip.frames.share_memory_()
            clip.labels.share_memory_()
    return clips


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # what reaches the whole group, as Ctrl-C does; it is the script that ends them
        signal.signal(number, signal.SIG_IGN)


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
        except UnreadableError as fault:
            warnings.warn(f"video '{index.name}' failed: {fault}", stacklevel=2)
            failed.append(index.name)
    return videos, failed
