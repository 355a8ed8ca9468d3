"""Making one training clip: draw its frames, read or generate them, augment them, choose its objects.

A clip is a function of (seed, epoch, position in the epoch) alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch.utils.data import Dataset

from dataset.annotations import Annotations
from dataset.framing import cut, scale
from dataset.masks.style import VideoStyle
from dataset.released import distort, to_tensors
from dataset.sampling import (
    ClipSettings,
    TrainingSet,
    choose_objects,
    close_label_gaps,
    epoch_order,
    sample_frames,
    sample_times,
)
from dataset.synthetic.clips import SyntheticVideo
from dataset.transforms import augment, to_input, to_landscape
from libs.core.errors import InputError
from libs.core.image_io import image_size, read_image
from libs.core.masks import Letterbox, object_ids
from libs.core.structures import Clip

MAX_DRAWS = 100  # of one clip, until its first frame shows an object
ENLARGED = 1.35  # largest factor of augmentation 'paper': crop of 10 % on both sides, then scale 1.05


@dataclass(frozen=True)
class Draw:
    """What was drawn for one training clip.

    source: the masks of a recorded video, whose `index` lists its frames; or a synthetic video.
    positions: of the clip's frames in a recorded video; times in a synthetic one.
    size: (H, W) of the clip.
    rng: next used to generate or augment the clip, then to choose its objects, in this order.
    attempt: how many draws before this one were rejected because their first frame showed no object.
    """

    name: str
    source: Annotations | SyntheticVideo
    positions: list[int]
    size: tuple[int, int]
    rng: np.random.Generator
    attempt: int = 0


class ClipSampler(Dataset):
    """The clips of one epoch in their order; item n is the n-th clip."""

    def __init__(
        self, sets: Sequence[TrainingSet], settings: ClipSettings, epoch: int = 0, world_size: int = 1
    ):
        """Shuffle the epoch.

        Args:
            sets: at least one.
            world_size: number of training processes; the clips of one step of all processes share one scale.
        """
        self.sets = sets
        self.settings = settings
        self.epoch = epoch
        self.order = epoch_order(sets, settings, epoch)
        self._clips_per_step = settings.train_batch * world_size
        self._styles: dict[tuple[int, int], VideoStyle] = {}  # of the masks of a video, kept for later clips

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Clip:
        """Make the clip at this position of the epoch.

        Raises: InputError naming a file that cannot be read, or a video without usable clips.
        """
        draw = self.draw(position)
        images, labels = self._make(draw)
        while not self.accepts(labels):  # augmentation has moved the objects out of the first frame
            draw = self.draw(position, draw.attempt + 1)
            images, labels = self._make(draw)
        labels, num_objects = choose_objects(labels, draw.rng, self.settings.clip_objects)
        if self.settings.augmentation == "dali":
            return Clip(draw.name, *to_tensors(images, labels), num_objects)
        return Clip(draw.name, *to_input(images, labels, draw.size), num_objects)

    def draw(self, position: int, attempt: int = 0) -> Draw:
        """Draw the frames of the clip at this position of the epoch.

        As in the original, a clip is drawn again if its first frame shows no object: it would teach nothing.

        Args:
            attempt: the first one to try; each attempt has random numbers of its own.
        Raises: InputError naming the video if no attempt succeeds, or a mask that cannot be read.
        """
        which, number = self.order[position]
        video, max_skip = self.sets[which].videos[number], self.settings.max_skip[which]
        name, size = f"{self.sets[which].name}/{video.name}", self._size_at(position)
        count = self.settings.sampled_frames
        for retry in range(attempt, MAX_DRAWS):
            # The first attempt's seed has no retry number, so that clips are those of earlier versions.
            rng = np.random.default_rng([self.settings.seed, self.epoch, position] + [2, retry] * (retry > 0))
            if isinstance(video, SyntheticVideo):
                return Draw(name, video, sample_times(count, max_skip, rng), size, rng, retry)
            annotated = sorted(video.masks)  # only frames with a mask can be trained on
            positions = [annotated[i] for i in sample_frames(len(annotated), count, max_skip, rng)]
            style = self._styles.setdefault((which, number), VideoStyle(video))
            annotations = Annotations(video, positions, style, warn=None)  # `check_masks` has warned
            if self.accepts([annotations.read(positions[0])]):
                return Draw(name, annotations, positions, size, rng, retry)
        raise InputError(
            f"video '{name}': expected an object in the first frame of a training clip, found none in "
            f"{MAX_DRAWS} draws; remove the video, or set clip_objects all_frames"
        )

    def accepts(self, labels: list[np.ndarray]) -> bool:
        """Whether a clip with these label maps can be trained on: its first frame shows an object."""
        return self.settings.clip_objects == "all_frames" or bool(object_ids(labels[0]))

    def _size_at(self, position: int) -> tuple[int, int]:
        """(H, W) of a clip: the same for all clips of a step, in every process."""
        settings = self.settings
        factor = settings.scales[0]
        if len(settings.scales) > 1:
            step = position // self._clips_per_step
            factor = np.random.default_rng([settings.seed, self.epoch, step, 1]).choice(settings.scales)
        height, width = settings.size
        return round(height * factor), round(width * factor)

    def _make(self, draw: Draw) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Images and label maps of a clip, augmented."""
        if isinstance(draw.source, SyntheticVideo):
            images, labels = draw.source.make(draw.rng, draw.positions, draw.size)
            return list(images), list(labels)
        if self.settings.augmentation == "dali":
            return distort(draw.name, *_read_full(draw.source, draw.positions), draw.size, draw.rng)
        return self._make_recorded(draw, draw.source)

    def _make_recorded(
        self, draw: Draw, annotations: Annotations
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Images and label maps of a recorded clip, augmented; `to_input` letterboxes those not cropped."""
        crop, paste = self.settings.crop, self.settings.paste
        if crop:
            target = crop.draw_target(draw.rng, draw.size[0] / self.settings.size[0])
            images, labels = _read_reduced(annotations, draw.positions, target)
            scale(images, labels, target)
            augment(images, labels, draw.rng)
            cut(images, labels, draw.size, draw.rng)
        else:
            images, labels = _read_reduced(annotations, draw.positions, draw.size)
            augment(images, labels, draw.rng)
        if paste:
            scale(images, labels, draw.size)  # before the letterbox: nothing is pasted over its borders
            paste.apply(images, labels, draw.positions, draw.rng)
        if crop or paste:
            labels = close_label_gaps(labels)
        return images, labels


def _read_reduced(
    annotations: Annotations, positions: list[int], target: tuple[int, int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read frames and label maps in landscape format, decoded at a fraction of their size if that is enough.

    Args:
        target: (H, W) into which the frames will be letterboxed.
    Returns: T images (Hs, Ws, 3) and T label maps (Hs, Ws), uint8.
    """
    images, labels = [], []
    for position in positions:
        path = annotations.index.frames[position]
        height, width = image_size(path)
        label = annotations.read(position, (height, width))
        letterbox = Letterbox((min(height, width), max(height, width)), target)
        needed_height, needed_width = (math.ceil(ENLARGED * side) for side in letterbox.size)
        portrait = height > width
        image = read_image(path, (needed_width, needed_height) if portrait else (needed_height, needed_width))
        if image.shape[:2] != (height, width):
            label = cv2.resize(label, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        images.append(to_landscape(image))
        labels.append(to_landscape(label))
    return images, labels


def _read_full(annotations: Annotations, positions: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read frames (Hs, Ws, 3) and label maps (Hs, Ws), uint8, neither reduced nor transposed."""
    images = [read_image(annotations.index.frames[t]) for t in positions]
    labels = [annotations.read(t, image.shape[:2]) for t, image in zip(positions, images)]
    return images, labels
