"""The training sets PROCEDURAL, STATIC and INSTANCES, whose clips are generated on demand.

A clip depends only on the random generator that it is given and on the images of its data set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dataset.synthetic.cutouts import index_instances
from dataset.synthetic.export import VAL_SEEDS
from dataset.synthetic.instances import generate_instances_clip
from dataset.synthetic.photos import index_images, open_photo_textures
from dataset.synthetic.scene import generate_clip
from dataset.synthetic.textures import GeneratedTextures, Textures
from libs.core.structures import VideoIndex

CLIPS_PER_EPOCH = 100  # of PROCEDURAL, which is endless; times datafreq and samples_per_video
OBJECT_SCALE = (0.7, 2.2)  # training clips are like crops of a larger image, far away and close up
JOLT = 0.35  # see generate_clip


@dataclass(frozen=True)
class SyntheticVideo:
    """A synthetic video whose clips are generated on demand.

    make: (generator, T rising times from 0 on, (H, W)) ->
        T images (H, W, 3) uint8 RGB, T label maps (H, W) uint8.
    photo: the annotated image that the clips show; None if they need no image.
    """

    name: str
    make: Callable[[np.random.Generator, Sequence[int], tuple[int, int]], tuple[np.ndarray, np.ndarray]]
    photo: VideoIndex | None = None


def procedural(root: Path, distractors: bool = True) -> list[SyntheticVideo]:
    """Return videos that need no images; `root` is not read."""
    make = partial(_generate, GeneratedTextures, distractors)
    return [SyntheticVideo(f"{i:03d}", make) for i in range(CLIPS_PER_EPOCH)]


def static(root: Path, distractors: bool = True) -> list[SyntheticVideo]:
    """Return a video for each image of `root`/STATIC. Each clip also uses a second, random image."""
    images = index_images(root)
    return [
        SyntheticVideo(
            index.name, partial(_generate, partial(open_photo_textures, images, i), distractors), index
        )
        for i, index in enumerate(images)
    ]


def instances(root: Path, distractors: bool = True) -> list[SyntheticVideo]:
    """Return a video for each photograph of `root`/INSTANCES. Pasted objects may come from a second one."""
    photos = index_instances(root)
    return [
        SyntheticVideo(index.name, partial(generate_instances_clip, photos, i, distractors), index)
        for i, index in enumerate(photos)
    ]


def _generate(
    open_textures: Callable[[np.random.Generator], Textures],
    distractors: bool,
    rng: np.random.Generator,
    times: Sequence[int],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Generate a clip with a random seed below VAL_SEEDS: those from there on are for validation."""
    seed, index = int(rng.integers(VAL_SEEDS)), int(rng.integers(1 << 32))
    return generate_clip(seed, index, times, size, OBJECT_SCALE, open_textures, JOLT, distractors)
