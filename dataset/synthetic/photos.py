"""STATIC: textures taken from single annotated images (stage one of the STM paper, section 3.5).

The objects of a clip are cut out of two images and move about. Or they belong to the backdrop, and move with
it or leave it.
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import Annotations
from dataset.listing import list_images, refuse_duplicates, warn_of_unused
from dataset.synthetic.textures import GeneratedTextures
from libs.core.errors import InputError, counted, named
from libs.core.image_io import read_image
from libs.core.masks import VOID
from libs.core.structures import VideoIndex

GENERATED = 0.25  # fraction of surfaces and outlines that are generated instead of taken from an image
MARKED = 0.7  # fraction of backdrops in which an object is marked
# Diameter of that object, as a fraction of the backdrop's side, about half of which is seen.
MARKED_DIAMETER = 0.12, 0.4
MIN_AREA, MAX_AREA = 0.01, 0.5  # fraction of its image that an object covers
OBJECT_DRAWS = 6  # of an object of an image, until one has a useful size


def index_images(
    root: Path, name: str = "STATIC", hint: str = "set root, see DATASET.md", binary: bool | None = None
) -> list[VideoIndex]:
    """List the images in `root`/`name`/images with their masks of the same name in `root`/`name`/masks.

    Every label of a mask is an object. 0 is background.

    Warns of images without a mask, and of files that are not used.

    Args:
        binary: see VideoIndex. None: 255 is void, or the object if there is no other label, as in saliency
            data sets.
    Raises: InputError if there are no images (the message ends with `hint`), or if none has a mask.
    """
    images, masks = root / name / "images", root / name / "masks"
    mask_files, found = list_images(masks), list_images(images)
    if not found:
        raise InputError(f"{images}: expected images, found none; {hint}")
    refuse_duplicates(masks, (path.stem for path in mask_files))
    by_stem = {path.stem: path for path in mask_files}
    missing = [path.name for path in found if path.stem not in by_stem]
    if len(missing) == len(found):
        raise InputError(f"{masks}: expected a mask for each image, found none for {named(missing)}")
    indices = [
        VideoIndex(p.stem, (p,), {0: by_stem[p.stem]}, binary=binary) for p in found if p.stem in by_stem
    ]
    if missing:
        warnings.warn(
            f"{masks}: {counted(len(missing), 'image')} of {len(found)} left out, without a mask of that "
            f"name: {named(missing)}",
            stacklevel=2,
        )
    warn_of_unused(root / name, indices)
    return indices


@dataclass(frozen=True)
class AnnotatedImage:
    """An image whose labels are its objects."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray  # (H, W) uint8; 0: background


@dataclass(frozen=True)
class PhotoTextures:
    """Textures of one clip, taken from two annotated images. The first one is the backdrop."""

    first: AnnotatedImage
    second: AnnotatedImage
    generated: GeneratedTextures = GeneratedTextures()

    def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Cut a square out of the first image, mostly with one of its objects marked near the middle.

        Returns: (side, side, 3) uint8 RGB, or (side, side, 4) uint8 RGBA with the object marked in alpha. The
            image is mirrored beyond its borders.
        """
        image, labels = self.first.image, self.first.labels
        marked = _choose_object(rng, labels) if rng.random() < MARKED else None
        min_scale = side / min(labels.shape)
        if marked is None:
            scale = min_scale * math.exp(rng.uniform(0, 0.5))
            return _square(image, side, scale, rng.uniform(0.3, 0.7, 2) * labels.shape[::-1])
        x, y, width, height = cv2.boundingRect(marked)
        diameter = side * rng.uniform(*MARKED_DIAMETER)
        scale = np.clip(diameter / math.sqrt((marked > 0).sum()), 0.7 * min_scale, 2.5 * min_scale)
        centre = (x, y) + rng.uniform(0.2, 0.8, 2) * (width, height)
        return np.dstack([_square(image, side, scale, centre), _square(marked, side, scale, centre)])

    def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Cut a random square out of either image, or generate a surface."""
        if rng.random() < GENERATED:
            return self.generated.surface(rng, side)
        image = self._either(rng).image
        most = min(image.shape[:2])
        width = int(rng.uniform(min(most, 0.5 * side), most))
        y, x = (int(rng.integers(0, length - width + 1)) for length in image.shape[:2])
        return cv2.resize(image[y : y + width, x : x + width], (side, side), interpolation=cv2.INTER_AREA)

    def cutout(self, rng: np.random.Generator, side: int) -> np.ndarray | None:
        """Cut a random object out of either image; None: generate an outline."""
        photo = self._either(rng)
        alpha = None if rng.random() < GENERATED else _choose_object(rng, photo.labels)
        if alpha is None:
            return None
        x, y, width, height = cv2.boundingRect(alpha)
        cut = np.dstack([photo.image, alpha])[y : y + height, x : x + width]
        # A transparent margin lets the outline fade when it is warped.
        scale = 0.96 * side / max(width, height)
        width, height = max(2, int(width * scale)), max(2, int(height * scale))
        cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
        square = np.zeros((side, side, 4), np.uint8)
        y, x = (side - height) // 2, (side - width) // 2
        square[y : y + height, x : x + width] = cut
        return np.ascontiguousarray(square[:, ::-1]) if rng.random() < 0.5 else square

    def _either(self, rng: np.random.Generator) -> AnnotatedImage:
        """Choose one of the two images, the second more often: the first is in the backdrop already."""
        return self.second if rng.random() < 0.6 else self.first


def open_photo_textures(images: list[VideoIndex], first: int, rng: np.random.Generator) -> PhotoTextures:
    """Read image number `first` and a random second one.

    Raises: InputError naming a file that cannot be read.
    """
    second = int(rng.integers(len(images)))
    return PhotoTextures(_read(images[first]), _read(images[second]))


def _read(index: VideoIndex) -> AnnotatedImage:
    """Read an image and its labels.

    Raises: InputError naming the file that cannot be read, or a mask of another size than its image.
    """
    image = read_image(index.frames[0])
    labels = Annotations(index, warn=None).read(0, image.shape[:2])
    return AnnotatedImage(image, np.where(labels == VOID, 0, labels).astype(np.uint8))


def _choose_object(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray | None:
    """Choose a label, or up to three that touch; None if no draw had a useful size.

    Large objects come more often than small ones, and objects that the image border cuts off more rarely.

    Returns: (H, W) uint8, opacity from 0 to 255.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    for _ in range(OBJECT_DRAWS if areas.any() else 0):
        chosen = labels == rng.choice(len(areas), p=np.sqrt(areas) / np.sqrt(areas).sum())
        # Regions may be parts of an object, as in BSDS500: join neighbours.
        for _ in range(int(rng.choice([0, 1, 2], p=(0.5, 0.3, 0.2)))):
            grown = cv2.dilate(chosen.view(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            neighbours = labels[grown & ~chosen & (labels > 0)]
            if neighbours.size:
                chosen |= labels == rng.choice(neighbours)
        useful = MIN_AREA <= chosen.mean() <= MAX_AREA
        if useful and (not is_cut_off(chosen) or rng.random() < 0.2):
            return cv2.GaussianBlur(chosen.astype(np.uint8) * 255, (3, 3), 0)
    return None


def is_cut_off(mask: np.ndarray) -> bool:
    """Tell whether much of the outline of an object (H, W) bool lies on the image border."""
    on_border = sum(int(edge.sum()) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    return on_border > 0.3 * math.sqrt(mask.sum())


def _square(image: np.ndarray, side: int, scale: float, centre: np.ndarray) -> np.ndarray:
    """Cut a square of `side` pixels around `centre` (x, y in the image) out of the scaled image."""
    to_square = np.array([[scale, 0, side / 2 - scale * centre[0]], [0, scale, side / 2 - scale * centre[1]]])
    return cv2.warpAffine(image, to_square, (side, side), borderMode=cv2.BORDER_REFLECT_101)
