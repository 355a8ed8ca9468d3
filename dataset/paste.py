"""Objects of photographs pasted over recorded training clips, for the salient object to compete with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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

TWO = 0.4  # of the clips with pasted objects, have two
OWN = 0.2  # of them, show a look-alike of an object of the clip itself
LABELLED = 0.5  # of the pasted objects, may be targets
ALONE = 1 / 3  # of the clips with a labelled pasted object, lose their own objects to the background
HIDES = 0.4  # of the pasted objects that are background, pass in front of an object of the clip
BRISK = 0.05, 0.15, 0.4  # most of its own diameter that one travels between two frames of the clip
SHAKE = 0.015  # most by which a later frame's view is moved (sqrt(H * W) is 1), turned (radians) and zoomed
KEPT = 0.6  # fraction of an object in the first frame that must stay in sight
TRIES = 10


@dataclass(frozen=True)
class Paster:
    """Pastes objects of `pictures` over a fraction `share` of the recorded clips."""

    share: float
    pictures: Sequence[VideoIndex]

    def apply(
        self,
        images: list[np.ndarray],
        labels: list[np.ndarray],
        positions: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        """Paste, or leave the clip as it is, in place of the lists' entries.

        A pasted object is background or has a label of its own. Objects of the first frame stay in
        sight or all become background.

        Args:
            images: T of (H, W, 3) uint8; labels: T of (H, W) uint8.
            positions: T rising ones, of the frames in the video.
        Raises: InputError naming a photograph that cannot be read.
        """
        if rng.random() >= self.share:
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
            shot = _shoot(images[0], base[0], actors, _view(rng, base[0].shape, 0.0), 0)
            if _in_sight(base[0], shot[1], [number for number in numbers if number]):
                break
        else:
            return
        for t, time in enumerate(times):
            view = _view(rng, base[t].shape, SHAKE if t else 0.0)
            images[t], labels[t] = _shoot(images[t], base[t], actors, view, time)

    def _draw_figures(self, rng: np.random.Generator, image: np.ndarray, labels: np.ndarray) -> list[Figure]:
        """One or two, some of them look-alikes; none where no object is large enough."""
        unit = math.sqrt(labels.size)
        photo = read_photo(self.pictures[int(rng.integers(len(self.pictures)))], int(1.5 * max(labels.shape)))
        clip = Photo(image, np.where(labels == VOID, 0, labels))
        own = cut_object(rng, clip, unit) if rng.random() < OWN else None
        figures = [tinted_copy(rng, own) if own else cut_object(rng, photo, unit)]
        if rng.random() < TWO:
            alike = figures[0] and not own and rng.random() < COPIES
            figures.append(tinted_copy(rng, figures[0]) if alike else cut_object(rng, photo, unit))
        return [figure for figure in figures if figure]


def open_paster(root: Path, share: float) -> Paster | None:
    """What the key `paste` asks for; None: nothing.

    Raises: InputError where `root`/INSTANCES has no photographs.
    """
    if not share:
        return None
    return Paster(
        share,
        index_instances(root, "key 'paste' takes objects from there; set root, see DATASET.md, or paste 0"),
    )


def _move(
    rng: np.random.Generator, figure: Figure, label: int, labels: list[np.ndarray], times: Sequence[int]
) -> Actor:
    """A figure on its path: past an object of the clip that it hides for a while, or anywhere."""
    height, width = labels[0].shape
    unit, gap = math.sqrt(height * width), times[-1] / max(1, len(times) - 1)
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
    """(3, 3), from the scene to pixels, shaken at random."""
    x, y, angle, zoom = shake * rng.uniform(-1, 1, 4)
    unit = math.sqrt(math.prod(size))
    return np.diag([unit, unit, 1.0]) @ affine((x, y), angle, math.exp(zoom))


def _shoot(
    image: np.ndarray, labels: np.ndarray, actors: list[Actor], view: np.ndarray, time: int
) -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) uint8 and its labels (H, W) uint8 with the actors in front."""
    picture, labels = image.astype(np.float32), labels.copy()
    for actor in actors:
        composite(picture, labels, actor, view, time)
    return np.clip(picture, 0, 255).astype(np.uint8), labels


def _in_sight(before: np.ndarray, after: np.ndarray, pasted: list[int]) -> bool:
    """Whether the objects of a first frame (H, W) and the pasted ones are in sight after pasting."""
    shown, old = np.bincount(after.ravel(), minlength=256), np.bincount(before.ravel(), minlength=256)
    kept = all(shown[i] >= KEPT * old[i] for i in object_ids(before))
    return kept and all(shown[i] >= MIN_AREA * after.size for i in pasted)
