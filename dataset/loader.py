"""The PIL back end: clips for training, loaded by worker processes. The DALI back end has the same interface."""

from collections.abc import Iterator
from pathlib import Path

import cv2
from torch.utils.data import DataLoader

from dataset import registry
from dataset.clips import ClipSampler, TrainingSet, grow
from dataset.video import is_video_file, open_video
from libs.structures import Clip, InputError, Video


class PilLoader:
    """Batches of clips, a function of the seed and the epoch alone, whatever the number of workers.

    Args:
        sets: training sets; max_skip: starting bound of the gaps, one a set; the others as the config's keys.
    """

    def __init__(
        self, sets: list[TrainingSet], size: tuple[int, int], sampled_frames: int, samples_per_video: int,
        max_skip: list[int], train_batch: int, workers: int, seed: int,
    ):
        self.sets, self.size, self.sampled_frames, self.samples_per_video = sets, size, sampled_frames, samples_per_video
        self.max_skip, self.train_batch, self.workers, self.seed = list(max_skip), train_batch, workers, seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._clips(0)) // self.train_batch)

    def batches(self, epoch: int) -> Iterator[list[Clip]]:
        """The epoch's batches of up to `train_batch` clips, which may differ in length and number of objects."""
        try:
            yield from DataLoader(
                self._clips(epoch), batch_size=self.train_batch, num_workers=self.workers, collate_fn=list,
                worker_init_fn=_one_thread,
            )
        except InputError as fault:  # a worker's has its traceback in its text, and holds on to the workers
            line = str(fault).strip().split("\n")[-1].removeprefix("libs.structures.InputError: ")
            raise InputError(line) from fault.with_traceback(None)

    def grow_max_skip(self) -> None:
        """One increment of the curriculum."""
        self.max_skip = [grow(skip, data.skip_step) for skip, data in zip(self.max_skip, self.sets)]

    def _clips(self, epoch: int) -> ClipSampler:
        return ClipSampler(self.sets, self.size, self.sampled_frames, self.samples_per_video, self.max_skip, self.seed, epoch)


def build_loader(
    backend: str, sets: list[TrainingSet], size: tuple[int, int], sampled_frames: int, samples_per_video: int,
    max_skip: list[int], train_batch: int, workers: int, seed: int,
) -> PilLoader:
    """The loader of the back end that the config names, with PilLoader's arguments.

    Raises: InputError for DALI, which is not there yet.
    """
    if backend == "DALI":
        raise InputError("key 'data_backend': DALI is not supported yet; use PIL")
    return PilLoader(sets, size, sampled_frames, samples_per_video, max_skip, train_batch, workers, seed)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism


def training_sets(root: Path, names: list[str], freqs: list[int]) -> list[TrainingSet]:
    """Index the training part of each set.

    Raises: InputError where a set has no video with at least two annotated frames.
    """
    sets = []
    for name, freq in zip(names, freqs):
        data = registry.find(name)
        videos = [video for video in data.index(root, "train") if len(video.masks) > 1 and not is_video_file(video)]
        if not videos:
            raise InputError(f"training set '{name}' below {root}: no video has two annotated frames to train on")
        sets.append(TrainingSet(name, videos, freq, data.skip_step))
    return sets


def test_videos(root: Path, name: str, split: str) -> list[Video]:
    """The videos of a set to segment."""
    return [open_video(index) for index in registry.find(name).index(root, split)]
