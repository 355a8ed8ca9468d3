"""Sampling training clips: which frames, which objects; every clip is a function of (seed, epoch, position)."""

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from dataset.annotations import check_size, find_style, read_labels
from dataset.transforms import augment, to_input, upright
from dataset.video import read_image
from libs.masks import object_ids, select_objects
from libs.structures import Clip, VideoIndex

MAX_OBJECTS = 5  # per clip
MAX_SKIP = 100


@dataclass(frozen=True)
class TrainingSet:
    """Videos of one set, how often they come in an epoch, and how the curriculum widens their gaps."""

    name: str
    videos: list[VideoIndex]
    freq: int
    skip_step: int


def sample_frames(length: int, count: int, max_skip: int, rng: np.random.Generator) -> list[int]:
    """Rising positions of n = min(count, length) frames, with gaps of at most `max_skip` (STM, section 4).

    The first is uniform in 0..length - n, each next in last + 1..min(last + max_skip, length - n + i).
    """
    n = min(count, length)
    positions = [int(rng.integers(0, length - n + 1))]
    for i in range(1, n):
        last = positions[-1]
        positions.append(int(rng.integers(last + 1, min(last + max_skip, length - n + i) + 1)))
    return positions


def grow(max_skip: int, step: int) -> int:
    """One increment of the curriculum; never past 100, and never back where it started above."""
    return max(max_skip, min(max_skip + step, MAX_SKIP))


class ClipSampler(Dataset):
    """The clips of one epoch, shuffled: sum of freq * videos * samples_per_video over the sets.

    Args:
        sets: at least one; size: (H, W) of the network's input; count: frames of a clip; max_skip: one a set.
    """

    def __init__(
        self, sets: list[TrainingSet], size: tuple[int, int], count: int, samples_per_video: int,
        max_skip: list[int], seed: int, epoch: int,
    ):
        self.sets, self.size, self.count, self.max_skip = sets, size, count, list(max_skip)
        self.seed, self.epoch = seed, epoch
        entries = [(s, v) for s, data in enumerate(sets) for v in range(len(data.videos)) for _ in range(data.freq * samples_per_video)]
        order = np.random.default_rng([seed, epoch]).permutation(len(entries))
        self.entries = [entries[i] for i in order]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, position: int) -> Clip:
        which, video = self.entries[position]
        rng = np.random.default_rng([self.seed, self.epoch, position])
        index = self.sets[which].videos[video]
        annotated = sorted(index.masks)
        chosen = sample_frames(len(annotated), self.count, self.max_skip[which], rng)
        images, labels = _read(index, [annotated[i] for i in chosen])
        augment(images, labels, rng)
        labels, num_objects = choose_objects(labels, rng)
        return Clip(f"{self.sets[which].name}/{index.name}", *to_input(images, labels, self.size), num_objects)


def choose_objects(labels: list[np.ndarray], rng: np.random.Generator) -> tuple[list[np.ndarray], int]:
    """Keep at most 5 objects of a clip, drawn at random, as 1..O; a clip without any has one that is nowhere."""
    ids = sorted({i for label in labels for i in object_ids(label)})
    if len(ids) > MAX_OBJECTS:
        ids = sorted(rng.choice(ids, MAX_OBJECTS, replace=False).tolist())
    return [select_objects(label, ids) for label in labels], max(len(ids), 1)


def _read(index: VideoIndex, positions: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and label maps at these positions, upright."""
    style, images, labels = find_style(index, positions), [], []
    for position in positions:
        image, label = read_image(index.frames[position]), read_labels(index.masks[position], style)
        check_size(index.masks[position], label, image)
        images.append(upright(image))
        labels.append(upright(label))
    return images, labels
