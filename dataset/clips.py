"""Sampling training clips: which frames, which objects; every clip is a function of (seed, epoch, position)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch.utils.data import Dataset

from dataset.annotations import MaskStyle, check_size, find_style, read_labels
from dataset.framing import Crop, cut, scale
from dataset.paste import Paster
from dataset.released import distort, to_tensors
from dataset.transforms import augment, to_input, upright
from libs.core.errors import InputError
from libs.core.image_io import image_size, read_image
from libs.core.masks import Letterbox, object_ids, select_objects
from libs.core.structures import Clip, VideoIndex

MAX_OBJECTS = 5  # per clip
MAX_SKIP = 100
MAX_DRAWS = 100  # of one clip, until its first frame shows an object
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
    """Which frames one training clip holds, and what was read to decide that.

    attempt: how many draws before this one were rejected, because their first frame showed no object.
    style, first: how the masks of a recorded video are read, and the labels (Hs, Ws) uint8 of the clip's first frame.
    """

    name: str
    video: VideoIndex | MadeVideo
    positions: list[int]  # of its frames in the video
    size: tuple[int, int]  # (H, W) that it is brought to
    rng: np.random.Generator  # for its making or augmentation and its objects, in this order
    attempt: int = 0
    style: MaskStyle = MaskStyle()
    first: np.ndarray | None = None

    def read_labels(self, frame: int) -> np.ndarray:
        """Labels (Hs, Ws) uint8 of one frame of the clip; those of the first are read already."""
        known = self.first if frame == 0 else None
        return read_labels(self.video.masks[self.positions[frame]], self.style) if known is None else known


def shuffle_entries(
    entries: list[tuple[int, int]], rng: np.random.Generator, by_set: bool
) -> list[tuple[int, int]]:
    """(set, video) pairs in random order; `by_set`: one set after the other, the sets in random order too."""
    shuffled = [entries[i] for i in rng.permutation(len(entries))]
    if by_set:
        place = rng.permutation(1 + max(which for which, _ in entries))
        shuffled.sort(key=lambda entry: place[entry[0]])  # stable, so each set stays shuffled
    return shuffled


class ClipSampler(Dataset):
    """The clips of one epoch in their order: sum of freq * videos * samples_per_video over the sets.

    Args:
        sets: at least one; size: (H, W) of the network's input; count: frames of a clip; max_skip: one a set.
        scales: of the size, one of them for each step of `together` clips.
        clip_objects: which labels of a clip are its objects, see `choose_objects`.
        augmentation: 'paper' or 'dali' (see the config's key); 'dali' also takes one set after the other.
        crop: how recorded clips are cropped; None: they are letterboxed. paste: what is pasted over them.
    """

    def __init__(
        self,
        sets: list[TrainingSet],
        size: tuple[int, int],
        count: int,
        samples_per_video: int,
        max_skip: list[int],
        seed: int,
        epoch: int,
        scales: Sequence[float] = (1.0,),
        together: int = 1,
        clip_objects: str = "first_frame",
        augmentation: str = "paper",
        crop: Crop | None = None,
        paste: Paster | None = None,
    ):
        self.sets, self.size, self.count, self.max_skip = sets, size, count, list(max_skip)
        self.seed, self.epoch, self.scales, self.together = seed, epoch, scales, together
        self.clip_objects, self.augmentation, self.crop, self.paste = clip_objects, augmentation, crop, paste
        entries = [
            (s, v)
            for s, data in enumerate(sets)
            for v in range(len(data.videos))
            for _ in range(data.freq * samples_per_video)
        ]
        self.entries = shuffle_entries(entries, np.random.default_rng([seed, epoch]), augmentation == "dali")

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, position: int, attempt: int = 0) -> Draw:
        """Draw the frames of the clip at this position of the epoch.

        As in the original, a clip whose first frame shows no object is drawn again: nothing could be learned from it.

        Args:
            attempt: the first one to try; each attempt has random numbers of its own.
        Raises: InputError naming the video where no attempt succeeds, or a mask that cannot be read.
        """
        which, video = self.entries[position]
        chosen = self.sets[which].videos[video]
        name, size = f"{self.sets[which].name}/{chosen.name}", self._size(position)
        for number in range(attempt, MAX_DRAWS):
            rng = np.random.default_rng([self.seed, self.epoch, position] + [2, number] * (number > 0))
            if isinstance(chosen, MadeVideo):
                gaps = rng.integers(1, self.max_skip[which] + 1, self.count - 1)
                return Draw(name, chosen, [0, *np.cumsum(gaps).tolist()], size, rng, number)
            annotated = sorted(chosen.masks)
            positions = [
                annotated[i] for i in sample_frames(len(annotated), self.count, self.max_skip[which], rng)
            ]
            style = find_style(chosen, {*chosen.given, *positions})
            first = read_labels(chosen.masks[positions[0]], style)
            if self.clip_objects == "all_frames" or object_ids(first):
                return Draw(name, chosen, positions, size, rng, number, style, first)
        raise InputError(
            f"video '{name}': expected an object in the first frame of a training clip, found none in {MAX_DRAWS} draws; "
            "remove the video, or set clip_objects all_frames"
        )

    def _size(self, position: int) -> tuple[int, int]:
        """One for all clips of a step, in whichever process."""
        if len(self.scales) == 1:
            scale = self.scales[0]
        else:
            scale = np.random.default_rng([self.seed, self.epoch, position // self.together, 1]).choice(
                self.scales
            )
        return tuple(round(side * scale) for side in self.size)

    def __getitem__(self, position: int) -> Clip:
        draw = self.draw(position)
        while True:
            images, labels = self._make(draw)
            if self.accepts(labels):
                break
            draw = self.draw(position, draw.attempt + 1)  # augmentation has moved the object out of the image
        labels, num_objects = choose_objects(labels, draw.rng, self.clip_objects)
        if self.augmentation == "dali":
            return Clip(draw.name, *to_tensors(images, labels), num_objects)
        return Clip(draw.name, *to_input(images, labels, draw.size), num_objects)

    def _make(self, draw: Draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Images and label maps of a clip, augmented."""
        if isinstance(draw.video, MadeVideo):
            images, labels = map(list, draw.video.make(draw.rng, draw.positions, draw.size))
        elif self.augmentation == "dali":
            images, labels = distort(draw.name, *_read_whole(draw), draw.size, draw.rng)
        else:
            images, labels = self._recorded(draw)
        return images, labels

    def accepts(self, labels: list[np.ndarray]) -> bool:
        """Whether a clip with these label maps can be trained on: its first frame shows an object."""
        return self.clip_objects == "all_frames" or bool(object_ids(labels[0]))

    def _recorded(self, draw: Draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Frames and label maps of a clip on disk, augmented; cropped, or perhaps yet to be letterboxed."""
        if self.crop:
            target = self.crop.draw_target(draw.rng, draw.size[0] / self.size[0])
            images, labels = _read(replace(draw, size=target))
            scale(images, labels, target)
            augment(images, labels, draw.rng)
            cut(images, labels, draw.size, draw.rng)
        else:
            images, labels = _read(draw)
            augment(images, labels, draw.rng)
        if self.paste:
            scale(images, labels, draw.size)  # what is pasted must not lie on the letterbox's borders
            self.paste.apply(images, labels, draw.positions, draw.rng)
        if self.crop or self.paste:
            labels = number_as_seen(labels)
        return images, labels


@dataclass
class ClipLoader:
    """What the back ends share: which clips come when. Clips are functions of seed, epoch and position alone.

    Whatever the number of workers or processes, step n of an epoch holds the same clips: `world_size` processes take
    `train_batch` of them each.

    Args:
        sets: training sets; size: (H, W) of the network's input; max_skip: starting bound of the gaps, one a set;
        rank, world_size: which of how many training processes; the others as the config's keys.
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
    world_size: int = 1
    scales: tuple[float, ...] = (1.0,)
    coarse_epochs: int = 0
    clip_objects: str = "first_frame"
    augmentation: str = "paper"
    crop: Crop | None = None
    paste: Paster | None = None

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-self.clips_in_epoch // (self.train_batch * self.world_size))

    @property
    def clips_in_epoch(self) -> int:
        """Of all processes together."""
        return self.samples_per_video * sum(data.freq * len(data.videos) for data in self.sets)

    def clips_in_step(self, step: int) -> int:
        """Clips of the step-th step of all processes together; the last one may have fewer."""
        together = self.train_batch * self.world_size
        return min(together, self.clips_in_epoch - step * together)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        """This process's clips of each step from the start-th on; they may differ in length and number of objects.

        Raises: InputError naming a file that cannot be read.
        """
        sampler = self._sampler(epoch)
        shares = []
        for first in range(
            start * self.train_batch * self.world_size, len(sampler), self.train_batch * self.world_size
        ):
            own = first + self.rank * self.train_batch
            shares.append(
                [position for position in range(own, own + self.train_batch) if position < len(sampler)]
            )
        yield from self._load(sampler, shares)

    def grow_max_skip(self) -> None:
        """One increment of the curriculum."""
        self.max_skip = [grow(skip, data.skip_step) for skip, data in zip(self.max_skip, self.sets)]

    def _load(self, sampler: ClipSampler, shares: list[list[int]]) -> Iterator[list[Clip]]:
        raise NotImplementedError

    def _sampler(self, epoch: int) -> ClipSampler:
        scales = (min(self.scales),) if epoch < self.coarse_epochs else self.scales
        return ClipSampler(
            self.sets,
            self.size,
            self.sampled_frames,
            self.samples_per_video,
            self.max_skip,
            self.seed,
            epoch,
            scales,
            self.train_batch * self.world_size,
            self.clip_objects,
            self.augmentation,
            self.crop,
            self.paste,
        )


def number_as_seen(labels: list[np.ndarray]) -> list[np.ndarray]:
    """Renumber the objects of a clip, those that its first frame shows first, without gaps: crops leave some out.

    Args and returns: T of (H, W) uint8.
    """
    shown = object_ids(labels[0])
    later = sorted({i for label in labels for i in object_ids(label)} - set(shown))
    return [select_objects(label, shown + later) for label in labels]


def choose_objects(
    labels: list[np.ndarray], rng: np.random.Generator, rule: str = "first_frame"
) -> tuple[list[np.ndarray], int]:
    """Renumber the objects of a clip to 1..O; all other labels become background.

    Args:
        labels: T of (H, W) uint8.
        rule: 'first_frame' takes 1..n, n the highest label of the first frame (the original's rule: labels in between
            that the frame does not show count as objects with an empty mask); 'all_frames' takes the labels that any
            frame shows. If there are more than 5 objects, 5 are drawn, and drawn again while the first frame shows none.
    Returns: T of (H, W) uint8 with 0..O; O, which is 1 for a clip without any object.
    """
    shown = object_ids(labels[0])
    if rule == "first_frame":
        ids = list(range(1, max(shown, default=0) + 1))
    else:
        ids = sorted({i for label in labels for i in object_ids(label)})
    if len(ids) > MAX_OBJECTS:
        candidates = ids
        ids = sorted(rng.choice(candidates, MAX_OBJECTS, replace=False).tolist())
        while rule == "first_frame" and not set(ids) & set(shown):
            ids = sorted(rng.choice(candidates, MAX_OBJECTS, replace=False).tolist())
    return [select_objects(label, ids) for label in labels], max(len(ids), 1)


def _read(draw: Draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and label maps of a clip, upright, at a reduced size where the network's input needs no more."""
    index, images, labels = draw.video, [], []
    for frame, position in enumerate(draw.positions):
        size = image_size(index.frames[position])
        label = draw.read_labels(frame)
        check_size(index.masks[position], label, size)
        landscape = tuple(
            math.ceil(ENLARGED * side) for side in Letterbox((min(size), max(size)), draw.size).size
        )
        image = read_image(index.frames[position], landscape if size[0] <= size[1] else landscape[::-1])
        if image.shape[:2] != size:
            label = cv2.resize(label, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        images.append(upright(image))
        labels.append(upright(label))
    return images, labels


def _read_whole(draw: Draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and label maps of a clip, neither reduced nor transposed."""
    images = [read_image(draw.video.frames[position]) for position in draw.positions]
    labels = [draw.read_labels(frame) for frame in range(len(images))]
    for position, image, label in zip(draw.positions, images, labels):
        check_size(draw.video.masks[position], label, image.shape[:2])
    return images, labels
