"""Sampling training clips: which frames, which objects; every clip is a function of (seed, epoch, position)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch.utils.data import Dataset

from dataset.annotations import check_size, find_style, read_labels
from dataset.framing import Crop, cut, scale
from dataset.paste import Paster
from dataset.transforms import augment, to_input, upright
from dataset.picture import image_size, read_image
from libs.masks import Letterbox, object_ids, select_objects
from libs.structures import Clip, VideoIndex

MAX_OBJECTS = 5  # per clip
MAX_SKIP = 100
ENLARGED = 1.35  # most by which augmentation enlarges: crop of 10 % on both sides, then scale 1.05


@dataclass(frozen=True)
class MadeVideo:
    """A video that exists nowhere: each clip of it is made when it is asked for.

    make: (generator, T rising times from 0 on, (H, W)) -> T images (H, W, 3) uint8 RGB and T label maps (H, W) uint8.
    """

    name: str
    make: Callable[[np.random.Generator, Sequence[int], tuple[int, int]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TrainingSet:
    """Videos of one set, how often they come in an epoch, and how the curriculum widens their gaps."""

    name: str
    videos: Sequence[VideoIndex | MadeVideo]
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


@dataclass(frozen=True)
class Draw:
    """One training clip before anything of it is read."""

    name: str
    video: VideoIndex | MadeVideo
    positions: list[int]  # of its frames in the video
    size: tuple[int, int]  # (H, W) that it is brought to
    rng: np.random.Generator  # for its making or augmentation and its objects, in this order


class ClipSampler(Dataset):
    """The clips of one epoch, shuffled: sum of freq * videos * samples_per_video over the sets.

    Args:
        sets: at least one; size: (H, W) of the network's input; count: frames of a clip; max_skip: one a set.
        scales: of the size, one of them for each step of `together` clips.
        crop: how recorded clips are cropped; None: they are letterboxed. paste: what is pasted over them.
    """

    def __init__(
        self, sets: list[TrainingSet], size: tuple[int, int], count: int, samples_per_video: int,
        max_skip: list[int], seed: int, epoch: int, scales: Sequence[float] = (1.0,), together: int = 1,
        crop: Crop | None = None, paste: Paster | None = None,
    ):
        self.sets, self.size, self.count, self.max_skip = sets, size, count, list(max_skip)
        self.seed, self.epoch, self.scales, self.together = seed, epoch, scales, together
        self.crop, self.paste = crop, paste
        entries = [(s, v) for s, data in enumerate(sets) for v in range(len(data.videos)) for _ in range(data.freq * samples_per_video)]
        order = np.random.default_rng([seed, epoch]).permutation(len(entries))
        self.entries = [entries[i] for i in order]

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, position: int) -> Draw:
        """Which frames of which video the clip at this position of the epoch holds."""
        which, video = self.entries[position]
        rng = np.random.default_rng([self.seed, self.epoch, position])
        chosen = self.sets[which].videos[video]
        if isinstance(chosen, MadeVideo):
            gaps = rng.integers(1, self.max_skip[which] + 1, self.count - 1)
            positions = [0, *np.cumsum(gaps).tolist()]
        else:
            annotated = sorted(chosen.masks)
            positions = [annotated[i] for i in sample_frames(len(annotated), self.count, self.max_skip[which], rng)]
        return Draw(f"{self.sets[which].name}/{chosen.name}", chosen, positions, self._size(position), rng)

    def _size(self, position: int) -> tuple[int, int]:
        """One for all clips of a step, in whichever process."""
        if len(self.scales) == 1:
            scale = self.scales[0]
        else:
            scale = np.random.default_rng([self.seed, self.epoch, position // self.together, 1]).choice(self.scales)
        return tuple(round(side * scale) for side in self.size)

    def __getitem__(self, position: int) -> Clip:
        draw = self.draw(position)
        if isinstance(draw.video, MadeVideo):
            images, labels = map(list, draw.video.make(draw.rng, draw.positions, draw.size))
        else:
            images, labels = self._recorded(draw)
        labels, num_objects = choose_objects(labels, draw.rng)
        return Clip(draw.name, *to_input(images, labels, draw.size), num_objects)

    def _recorded(self, draw: Draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Frames and label maps of a clip on disk, augmented; cropped, or perhaps yet to be letterboxed."""
        target = draw.size
        if self.crop:
            target = self.crop.draw_target(draw.rng, draw.size[0] / self.size[0])
        images, labels = _read(draw.video, draw.positions, target)
        if self.crop:
            scale(images, labels, target)
        augment(images, labels, draw.rng)
        if self.crop:
            cut(images, labels, draw.size, draw.rng)
        elif self.paste:
            scale(images, labels, draw.size)  # what is pasted must not lie on the letterbox's borders
        if self.paste:
            self.paste.apply(images, labels, draw.positions, draw.rng)
        return images, labels


@dataclass
class ClipLoader:
    """What the back ends share: which clips come when. Clips are functions of seed, epoch and position alone.

    Whatever the number of workers or processes, step n of an epoch holds the same clips: `world` processes take
    `train_batch` of them each.

    Args:
        sets: training sets; size: (H, W) of the network's input; max_skip: starting bound of the gaps, one a set;
        rank, world: which of how many training processes; the others as the config's keys.
        scales: of `size`, one drawn for each step; coarse_epochs: so many epochs come first at the smallest of them.
        crop: how recorded clips are cropped; None: they are letterboxed. paste: what is pasted over them.
    """

    sets: list[TrainingSet]
    size: tuple[int, int]
    sampled_frames: int
    samples_per_video: int
    max_skip: list[int]
    train_batch: int
    workers: int
    seed: int
    rank: int = 0
    world: int = 1
    scales: tuple[float, ...] = (1.0,)
    coarse_epochs: int = 0
    crop: Crop | None = None
    paste: Paster | None = None

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-self.clips_in_epoch // (self.train_batch * self.world))

    @property
    def clips_in_epoch(self) -> int:
        """Of all processes together."""
        return self.samples_per_video * sum(data.freq * len(data.videos) for data in self.sets)

    def clips_in_step(self, step: int) -> int:
        """Clips of the step-th step of all processes together; the last one may have fewer."""
        together = self.train_batch * self.world
        return min(together, self.clips_in_epoch - step * together)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        """This process's clips of each step from the start-th on; they may differ in length and number of objects.

        Raises: InputError naming a file that cannot be read.
        """
        sampler = self._sampler(epoch)
        shares = []
        for first in range(start * self.train_batch * self.world, len(sampler), self.train_batch * self.world):
            own = first + self.rank * self.train_batch
            shares.append([position for position in range(own, own + self.train_batch) if position < len(sampler)])
        yield from self._load(sampler, shares)

    def grow_max_skip(self) -> None:
        """One increment of the curriculum."""
        self.max_skip = [grow(skip, data.skip_step) for skip, data in zip(self.max_skip, self.sets)]

    def _load(self, sampler: ClipSampler, shares: list[list[int]]) -> Iterator[list[Clip]]:
        raise NotImplementedError

    def _sampler(self, epoch: int) -> ClipSampler:
        scales = (min(self.scales),) if epoch < self.coarse_epochs else self.scales
        return ClipSampler(
            self.sets, self.size, self.sampled_frames, self.samples_per_video, self.max_skip, self.seed, epoch, scales,
            self.train_batch * self.world, self.crop, self.paste,
        )


def choose_objects(labels: list[np.ndarray], rng: np.random.Generator) -> tuple[list[np.ndarray], int]:
    """Keep at most 5 objects of a clip, drawn at random, as 1..O; a clip without any has one that is nowhere."""
    ids = sorted({i for label in labels for i in object_ids(label)})
    if len(ids) > MAX_OBJECTS:
        ids = sorted(rng.choice(ids, MAX_OBJECTS, replace=False).tolist())
    return [select_objects(label, ids) for label in labels], max(len(ids), 1)


def _read(index: VideoIndex, positions: list[int], target: tuple[int, int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and label maps at these positions, upright, at a reduced size where `target` (H, W) needs no more."""
    style, images, labels = find_style(index, {*index.given, *positions}), [], []
    for position in positions:
        size = image_size(index.frames[position])
        label = read_labels(index.masks[position], style)
        check_size(index.masks[position], label, size)
        landscape = tuple(math.ceil(ENLARGED * side) for side in Letterbox((min(size), max(size)), target).size)
        image = read_image(index.frames[position], landscape if size[0] <= size[1] else landscape[::-1])
        if image.shape[:2] != size:
            label = cv2.resize(label, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        images.append(upright(image))
        labels.append(upright(label))
    return images, labels
