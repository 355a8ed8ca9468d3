"""Objects of photographs pasted over recorded training clips (key `paste`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.catalogue import catalogued, list_file
from dataset.synthetic.cutouts import (
    Figure,
    Photo,
    crossing_motion,
    cut_object,
    index_instances,
    read_photo,
    tinted_copy,
    upright_motion,
)
from dataset.synthetic.motion import Actor, Motion, affine
from dataset.synthetic.render import MIN_AREA, composite
from dataset.synthetic.scene import COPIES
from libs.core.masks import VOID, object_ids
from libs.core.structures import VideoIndex

TWO = 0.4  # probability that a clip with pasted objects has two of them
OWN = 0.2  # probability that it shows a distractor made of an object of the clip itself
LABELLED = 0.5  # probability that a pasted object has a label and may be a target
ALONE = 1 / 3  # probability that the clip's own objects become background, if a pasted object has a label
HIDES = 0.4  # probability that a pasted object without a label passes in front of an object of the clip
BRISK = 0.05, 0.15, 0.4  # largest path between two frames of the clip, as fractions of the object's diameter
SHAKE = 0.015  # largest shift (sqrt(H * W) is 1), rotation (radians) and zoom of a later frame's view
KEPT = 0.6  # fraction of an object in the first frame that must stay visible
TRIES = 10  # arrangements tried per clip


@dataclass(frozen=True)
class Paster:
    """Pastes objects of `photographs` over a `fraction` of the recorded clips."""

    fraction: float
    photographs: Sequence[VideoIndex]

    def apply(
        self,
        images: list[np.ndarray],
        labels: list[np.ndarray],
        positions: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        """Paste objects, or leave the clip as it is, in place of the lists' entries.

        A pasted object is background or has a label of its own. The clip's own objects stay visible in the
        first frame, or all become background.

        Args:
            images: T of (H, W, 3) uint8; labels: T of (H, W) uint8.
            positions: of the T frames in the video, rising.
        Raises: InputError naming a photograph that cannot be read.
        """
        if rng.random() >= self.fraction:
            return
        figures = self._draw_figures(rng, images[0], labels[0])
        used = {i for label in labels for i in object_ids(label)}
        free = iter(i for i in range(1, VOID) if i not in used)
        numbers = [next(free, 0) if rng.random() < LABELLED else 0 for _ in figures]
        alone = any(numbers) and rng.random() < ALONE
        base = [np.zeros_like(label) for label in labels] if alone else labels
        times = [position - positions[0] for position in positions]
        for _ in range(TRIES):
            actors = [_move(rng, figure, number, base, times) for figure, number in zip(figures, numbers)]
            view = _view(rng, base[0].shape, 0.0)
            first = _render(images[0], base[0], actors, view, 0)[1]
            if _all_visible(base[0], first, [number for number in numbers if number]):
                break
        else:
            return  # no arrangement fits: the clip stays as it is
        for t, time in enumerate(times):
            view = _view(rng, base[t].shape, SHAKE if t else 0.0)
            images[t], labels[t] = _render(images[t], base[t], actors, view, time)

    def _draw_figures(self, rng: np.random.Generator, image: np.ndarray, labels: np.ndarray) -> list[Figure]:
        """Cut out one or two objects, some of them distractors; none if no object is large enough."""
        unit = math.sqrt(labels.size)
        chosen = self.photographs[int(rng.integers(len(self.photographs)))]
        photo = read_photo(chosen, int(1.5 * max(labels.shape)))
        clip = Photo(image, np.where(labels == VOID, 0, labels))
        own = cut_object(rng, clip, unit) if rng.random() < OWN else None
        first = tinted_copy(rng, own) if own else cut_object(rng, photo, unit)
        figures = [first]
        if rng.random() < TWO:
            if first and not own and rng.random() < COPIES:
                figures.append(tinted_copy(rng, first))
            else:
                figures.append(cut_object(rng, photo, unit))
        return [figure for figure in figures if figure]


def open_paster(root: Path, fraction: float, cache: Path | None = None) -> Paster | None:
    """Index the photographs for the key `paste`; None if `fraction` is 0.

    Args:
        cache: see `recorded_videos` in dataset/registry.py.
    Raises: InputError if `root`/INSTANCES has no photographs.
    """
    if not fraction:
        return None
    hint = "key 'paste' takes objects from there; set root, see DATASET.md, or paste 0"
    with catalogued(list_file(cache, root, "INSTANCES")):
        return Paster(fraction, index_instances(root, hint))


def _move(
    rng: np.random.Generator, figure: Figure, label: int, labels: list[np.ndarray], times: Sequence[int]
) -> Actor:
    """A figure on its path: in front of an object of the clip, which it hides for a while, or anywhere."""
    height, width = labels[0].shape
    unit = math.sqrt(height * width)
    gap = times[-1] / max(1, len(times) - 1)  # mean time between two frames
    t = int(rng.integers(1, len(times)))
    ids = object_ids(labels[t])
    if label == 0 and ids and rng.random() < HIDES:
        rows, columns = np.nonzero(labels[t] == rng.choice(ids))
        goal = Motion(start=np.array([columns.mean(), rows.mean()]) / unit)
        reach = (figure.diameter + 2 * math.sqrt(len(rows) / math.pi) / unit) / 2
        return Actor(label, figure.parts, crossing_motion(rng, goal, reach, times[t]))
    motion = upright_motion(
        rng, np.array([width, height]) / unit, figure.diameter, rng.choice(BRISK) / max(1.0, gap)
    )
    return Actor(label, figure.parts, motion)


def _view(rng: np.random.Generator, size: tuple[int, int], shake: float) -> np.ndarray:
    """(3, 3) matrix from the scene to pixels, with a random shift, rotation and zoom of up to `shake`."""
    x, y, angle, zoom = shake * rng.uniform(-1, 1, 4)
    unit = math.sqrt(math.prod(size))
    return np.diag([unit, unit, 1.0]) @ affine((x, y), angle, math.exp(zoom))


def _render(
    image: np.ndarray, labels: np.ndarray, actors: list[Actor], view: np.ndarray, time: int
) -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) uint8 and its labels (H, W) uint8 with the actors in front."""
    canvas, labels = image.astype(np.float32), labels.copy()
    for actor in actors:
        composite(canvas, labels, actor, view, time)
    return np.clip(canvas, 0, 255).astype(np.uint8), labels


def _all_visible(before: np.ndarray, after: np.ndarray, pasted: list[int]) -> bool:
    """Whether the objects of a first frame's labels (H, W) and the pasted ones are visible after pasting."""
    shown = np.bincount(after.ravel(), minlength=256)
    old = np.bincount(before.ravel(), minlength=256)
    kept = all(shown[i] >= KEPT * old[i] for i in object_ids(before))
    return kept and all(shown[i] >= MIN_AREA * after.size for i in pasted)
