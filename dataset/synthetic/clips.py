"""PROCEDURAL, STATIC, INSTANCES: training clips made when they are asked for, each from its generator alone."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dataset.sampling import SyntheticVideo
from dataset.synthetic.cutouts import index_instances
from dataset.synthetic.export import VAL_SEEDS
from dataset.synthetic.instances import draw_instances
from dataset.synthetic.photos import index_pictures, open_album
from dataset.synthetic.scene import draw_clip
from dataset.synthetic.textures import Drawn, Paints

IN_EPOCH = 100  # clips of PROCEDURAL, which has no end, times datafreq and samples_per_video
CLOSENESS = (0.7, 2.2)  # training clips are like crops of a larger picture, near and far
JOLT = 0.35  # see draw_clip


def procedural(root: Path, distractors: bool = True) -> list[SyntheticVideo]:
    """Clips that are drawn altogether; `root` is not read."""
    return [SyntheticVideo(f"{i:03d}", partial(_make, Drawn, distractors)) for i in range(IN_EPOCH)]


def static(root: Path, distractors: bool = True) -> list[SyntheticVideo]:
    """A clip from each picture of `root`/STATIC, with parts of another one."""
    pictures = index_pictures(root)
    return [
        SyntheticVideo(index.name, partial(_make, partial(open_album, pictures, i), distractors))
        for i, index in enumerate(pictures)
    ]


def instances(root: Path, distractors: bool = True) -> list[SyntheticVideo]:
    """A clip from each photograph of `root`/INSTANCES, with objects of another one."""
    pictures = index_instances(root)
    makers = (partial(draw_instances, pictures, i, distractors) for i in range(len(pictures)))
    return [SyntheticVideo(index.name, make) for index, make in zip(pictures, makers)]


def _make(
    open_paints: Callable[[np.random.Generator], Paints],
    distractors: bool,
    rng: np.random.Generator,
    times: Sequence[int],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """A clip of one of the seeds below VAL_SEEDS, which are for training."""
    seed, index = int(rng.integers(VAL_SEEDS)), int(rng.integers(1 << 32))
    return draw_clip(seed, index, times, size, CLOSENESS, open_paints, JOLT, distractors)
