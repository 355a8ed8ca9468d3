"""STATIC: single annotated pictures as the stuff that clips are made of (stage one of the STM paper, section 3.5).

Objects are cut out of two pictures and move about, or are things of the one that is the backdrop, which move with it or
leave it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import check_size, read_labels
from dataset.folder import list_images
from dataset.synthetic.textures import Drawn
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import VOID, object_ids
from libs.core.structures import VideoIndex

DRAWN_SHARE = 0.25  # of the surfaces and outlines
NATIVE_SHARE = 0.7  # of the backdrops, in which a thing is an object
NATIVE_DIAMETER = 0.12, 0.4  # of such a thing, as a share of the backdrop's side, about half of which is seen
SMALLEST, LARGEST = 0.01, 0.5  # share of the picture that a thing covers


def index_pictures(
    root: Path, name: str = "STATIC", hint: str = "set root, see DATASET.md"
) -> list[VideoIndex]:
    """The pictures of `root`/`name`/images and their masks of the same name in `root`/`name`/masks.

    A mask divides its picture into things: every label is one (0 is none; 255 alone, as in saliency sets, one thing).
    `hint` says what to do where there are none.

    Raises: InputError where a picture has no mask.
    """
    pictures, masks = root / name / "images", root / name / "masks"
    by_stem = {path.stem: path for path in list_images(masks)}
    found = list_images(pictures)
    if not found:
        raise InputError(f"{pictures}: expected pictures, found none; {hint}")
    missing = [path.name for path in found if path.stem not in by_stem]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise InputError(
            f"{masks}: expected a mask for each picture, found none for {', '.join(missing[:10])}{more}"
        )
    return [VideoIndex(path.stem, (path,), {0: by_stem[path.stem]}) for path in found]


@dataclass(frozen=True)
class Album:
    """The two pictures that one clip is made of, each with its things: (H, W, 3) uint8 RGB and (H, W) uint8 labels."""

    pictures: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    drawn: Drawn = Drawn()

    def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A square of the first picture, mirrored beyond its borders, mostly with one of its things marked near the middle."""
        image, labels = self.pictures[0]
        thing = _thing(rng, labels) if rng.random() < NATIVE_SHARE else None
        least = side / min(labels.shape)
        if thing is None:
            return _square(
                image,
                side,
                least * math.exp(rng.uniform(0, 0.5)),
                rng.uniform(0.3, 0.7, 2) * labels.shape[::-1],
            )
        x, y, width, height = cv2.boundingRect(thing)
        diameter = side * rng.uniform(*NATIVE_DIAMETER)
        scale = np.clip(diameter / math.sqrt((thing > 0).sum()), 0.7 * least, 2.5 * least)
        centre = (x, y) + rng.uniform(0.2, 0.8, 2) * (width, height)
        return np.dstack([_square(image, side, scale, centre), _square(thing, side, scale, centre)])

    def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A square somewhere in a picture."""
        if rng.random() < DRAWN_SHARE:
            return self.drawn.surface(rng, side)
        image = self._any(rng)[0]
        most = min(image.shape[:2])
        width = int(rng.uniform(min(most, 0.5 * side), most))
        y, x = (int(rng.integers(0, length - width + 1)) for length in image.shape[:2])
        return cv2.resize(image[y : y + width, x : x + width], (side, side), interpolation=cv2.INTER_AREA)

    def cutout(self, rng: np.random.Generator, side: int) -> np.ndarray | None:
        """A thing of either picture."""
        image, labels = self._any(rng)
        thing = None if rng.random() < DRAWN_SHARE else _thing(rng, labels)
        if thing is None:
            return None
        x, y, width, height = cv2.boundingRect(thing)
        cut = np.dstack([image, thing])[y : y + height, x : x + width]
        scale = 0.96 * side / max(width, height)
        cut = cv2.resize(
            cut, (max(2, int(width * scale)), max(2, int(height * scale))), interpolation=cv2.INTER_AREA
        )
        square, (height, width) = np.zeros((side, side, 4), np.uint8), cut.shape[:2]
        y, x = (side - height) // 2, (side - width) // 2
        square[y : y + height, x : x + width] = cut
        return _mirrored(rng, square)

    def _any(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self.pictures[int(rng.random() < 0.6)]


def open_album(pictures: list[VideoIndex], first: int, rng: np.random.Generator) -> Album:
    """Paints of the first-th picture and another one.

    Raises: InputError naming a file that cannot be read.
    """
    other = int(rng.integers(len(pictures)))
    return Album((_read(pictures[first]), _read(pictures[other])))


def _read(index: VideoIndex) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels, of which 255 alone is a thing and beside others void.

    Raises: InputError naming the file.
    """
    image, labels = read_image(index.frames[0]), read_labels(index.masks[0])
    check_size(index.masks[0], labels, image.shape[:2])
    ids = object_ids(labels)
    return image, np.where(labels == VOID, 0 if ids else 1, labels).astype(np.uint8)


def _thing(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray | None:
    """The pixels of a label, or of up to three that touch: (H, W) uint8 of 0 and 255; None where no try had a fitting size.

    Large ones come more often than small ones, and those that the picture's border cuts off more rarely.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    for _ in range(6 if areas.any() else 0):
        thing = labels == rng.choice(len(areas), p=np.sqrt(areas) / np.sqrt(areas).sum())
        for _ in range(int(rng.choice([0, 1, 2], p=(0.5, 0.3, 0.2)))):
            around = (
                cv2.dilate(thing.view(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
                & ~thing
                & (labels > 0)
            )
            if around.any():
                thing |= labels == rng.choice(labels[around])
        if SMALLEST <= thing.mean() <= LARGEST and (not is_cut_off(thing) or rng.random() < 0.2):
            return cv2.GaussianBlur(thing.astype(np.uint8) * 255, (3, 3), 0)
    return None


def is_cut_off(thing: np.ndarray) -> bool:
    """Whether much of the outline of a thing (H, W) bool is the picture's border."""
    return sum(
        int(edge.sum()) for edge in (thing[0], thing[-1], thing[:, 0], thing[:, -1])
    ) > 0.3 * math.sqrt(thing.sum())


def _square(picture: np.ndarray, side: int, scale: float, centre: np.ndarray) -> np.ndarray:
    """A square of `side` pixels around `centre` (x, y) of the enlarged picture."""
    onto = np.array([[scale, 0, side / 2 - scale * centre[0]], [0, scale, side / 2 - scale * centre[1]]])
    return cv2.warpAffine(picture, onto, (side, side), borderMode=cv2.BORDER_REFLECT_101)


def _mirrored(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1]) if rng.random() < 0.5 else picture
