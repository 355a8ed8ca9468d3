"""Which videos an epoch holds, which frames a clip (the `max_skip` curriculum), and which objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataset.framing import Crop
from dataset.paste import Paster
from dataset.synthetic.clips import SyntheticVideo
from libs.core.masks import object_ids, select_objects
from libs.core.structures import VideoIndex

MAX_OBJECTS = 5  # per clip
MAX_SKIP = 100  # the curriculum never grows a gap beyond this


@dataclass(frozen=True)
class TrainingSet:
    """The training videos of one data set.

    freq: how often each video is repeated in an epoch (key `datafreq`).
    skip_step: how much `max_skip` grows at each increment of the curriculum.
    """

    name: str
    videos: Sequence[VideoIndex | SyntheticVideo]
    freq: int
    skip_step: int


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How training clips are sampled and augmented; both data back ends take the same settings.

    clip_objects: 'first_frame' or 'all_frames', see `choose_objects`.
    augmentation: 'paper', or 'dali': the original's DALI pipeline, which also takes one set after the other.
    """

    size: tuple[int, int]  # (H, W) of the network's input
    max_skip: Sequence[int]  # largest gap between two sampled frames, one entry per training set
    sampled_frames: int = 3  # per clip
    samples_per_video: int = 1  # clips per video, epoch and `freq`
    train_batch: int = 1  # clips per step of one process
    seed: int = 0
    scales: Sequence[float] = (1.0,)  # factors on `size`; one is drawn per step
    coarse_epochs: int = 0  # the first epochs, all at the smallest scale
    clip_objects: str = "first_frame"
    augmentation: str = "paper"
    crop: Crop | None = None  # of recorded clips; None: they are letterboxed
    paste: Paster | None = None  # pastes objects over recorded clips


# ---- the order of an epoch ----


def epoch_order(sets: Sequence[TrainingSet], settings: ClipSettings, epoch: int) -> list[tuple[int, int]]:
    """Shuffle the clips of one epoch: freq * videos * samples_per_video of each set.

    Returns: a pair (number of the set, number of the video in it) per clip.
    """
    pairs = [
        (number, video)
        for number, data in enumerate(sets)
        for video in range(len(data.videos))
        for _ in range(data.freq * settings.samples_per_video)
    ]
    rng = np.random.default_rng([settings.seed, epoch])
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    if settings.augmentation == "dali":
        # The original's DALI loaders took one set after the other, the sets in random order.
        rank = rng.permutation(1 + max(number for number, _ in pairs))
        shuffled.sort(key=lambda pair: rank[pair[0]])  # a stable sort: each set stays shuffled
    return shuffled


# ---- the frames of a clip ----


def sample_frames(length: int, count: int, max_skip: int, rng: np.random.Generator) -> list[int]:
    """Sample rising positions of n = min(count, length) frames with gaps of at most `max_skip`.

    This is the rule of the STM paper, section 4. The first position is uniform in 0..length - n, each next in
    last + 1..min(last + max_skip, length - n + i).
    """
    n = min(count, length)
    positions = [int(rng.integers(0, length - n + 1))]
    for i in range(1, n):
        last = positions[-1]
        positions.append(int(rng.integers(last + 1, min(last + max_skip, length - n + i) + 1)))
    return positions


def sample_times(count: int, max_skip: int, rng: np.random.Generator) -> list[int]:
    """Sample `count` rising times of a synthetic clip: 0, then gaps uniform in 1..max_skip."""
    gaps = rng.integers(1, max_skip + 1, count - 1)
    return [0, *np.cumsum(gaps).tolist()]


def increase_max_skip(max_skip: int, step: int) -> int:
    """One increment of the curriculum: never past 100, and no decrease if `max_skip` started above 100."""
    return max(max_skip, min(max_skip + step, MAX_SKIP))


# ---- the objects of a clip ----


def choose_objects(
    labels: list[np.ndarray], rng: np.random.Generator, rule: str = "first_frame"
) -> tuple[list[np.ndarray], int]:
    """Renumber the objects of a clip to 1..O; all other labels become background.

    If there are more than 5 objects, 5 are drawn; rule 'first_frame' draws again until the first frame shows
    one of them.

    Args:
        labels: T of (H, W) uint8.
        rule: 'first_frame' takes 1..n, n the highest label of the first frame (the original's rule: a label
            below n that this frame does not show is an object with an empty mask). 'all_frames' takes the
            labels that any frame shows.
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
        # Five labels that the first frame does not show would leave nothing to learn.
        while rule == "first_frame" and not set(ids) & set(shown):
            ids = sorted(rng.choice(candidates, MAX_OBJECTS, replace=False).tolist())
    return [select_objects(label, ids) for label in labels], max(len(ids), 1)


def close_label_gaps(labels: list[np.ndarray]) -> list[np.ndarray]:
    """Renumber the objects of a clip to 1..n without gaps, those of its first frame first.

    Crops and pasted objects hide some objects; without this, `choose_objects` would count them as empty
    masks.

    Args:
        labels: T of (H, W) uint8.
    Returns: T of (H, W) uint8.
    """
    shown = object_ids(labels[0])
    later = sorted({i for label in labels for i in object_ids(label)} - set(shown))
    return [select_objects(label, shown + later) for label in labels]
