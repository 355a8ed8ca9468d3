"""Boxes, strokes and the brush of the page, on drawn discs and on a frame of the bundled clip."""

import cv2
import numpy as np
import pytest

from demo.web.library import bundled_clip
from demo.web.outline import Outline, brush
from libs.core.errors import InputError
from libs.core.image_io import read_image

SIZE = (120, 160)
NOBODY = np.zeros(SIZE, bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def scene(*discs: tuple[np.ndarray, tuple[int, int, int]]) -> np.ndarray:
    """Discs of their colours on noisy grey."""
    image = np.random.default_rng(0).integers(90, 110, (*SIZE, 3)).astype(np.uint8)
    for mask, colour in discs:
        image[mask] = colour
    return image


def test_a_box_around_a_disc_gives_the_disc() -> None:
    mask = disc(70, 50, 20)
    outline = Outline(scene((mask, (200, 30, 30))), NOBODY)
    outline.start_from_box((94.5, 73.0, 45.0, 26.0))  # any two opposite corners
    assert iou(outline.solve(), mask) > 0.97


def test_strokes_tell_a_disc_from_its_neighbour() -> None:
    """Both lie in the box and have one colour. A stroke excludes one, another brings it back."""
    left, right = disc(50, 60, 18), disc(95, 60, 18)
    outline = Outline(scene((left | right, (200, 30, 30))), NOBODY)
    outline.start_from_box((28, 38, 117, 82))
    assert iou(outline.solve(), left | right) > 0.95
    outline.stroke([(90, 60), (100, 60)], 11, inside=False)
    assert iou(outline.solve(), left) > 0.9
    outline.stroke([(90, 60), (100, 60)], 11, inside=True)
    assert iou(outline.solve(), left | right) > 0.9


def test_an_outline_may_start_from_a_mask_and_grow_beyond_it_by_a_stroke() -> None:
    left, right = disc(50, 60, 18), disc(130, 60, 18)
    outline = Outline(scene((left | right, (30, 200, 30))), NOBODY)
    outline.start_from_mask(disc(52, 61, 15))
    assert iou(outline.solve(), left) > 0.9
    outline.stroke([(120, 60), (140, 60)], 5, inside=True)
    assert iou(outline.solve(), left | right) > 0.9


def test_other_objects_are_left_out_of_a_box() -> None:
    left, right = disc(50, 60, 18), disc(95, 60, 18)
    outline = Outline(scene((left | right, (200, 30, 30))), right)
    outline.start_from_box((28, 38, 117, 82))
    found = outline.solve()
    assert not (found & right).any() and iou(found, left) > 0.9


def test_a_large_frame_is_outlined_at_its_own_size() -> None:
    mask = disc(70, 50, 20)
    image = cv2.resize(scene((mask, (200, 30, 30))), (1600, 1200), interpolation=cv2.INTER_NEAREST)
    outline = Outline(image, np.zeros((1200, 1600), bool))
    outline.start_from_box((450, 260, 945, 730))
    found = outline.solve()
    assert found.shape == (1200, 1600)
    assert (
        iou(found, cv2.resize(mask.astype(np.uint8), (1600, 1200), interpolation=cv2.INTER_NEAREST) > 0)
        > 0.95
    )


@pytest.mark.parametrize(
    "box, line",
    [
        ((10, 10, 12, 60), "the box is too small"),
        ((0, 0, 160, 120), "leave background around it"),
        ((20, 20, 40, 40), "draw where no other object is"),
    ],
)
def test_a_box_of_which_nothing_comes_is_told(box: tuple[float, ...], line: str) -> None:
    outline = Outline(scene(), NOBODY if box[2] == 160 else disc(30, 30, 29))
    with pytest.raises(InputError, match=line):
        outline.start_from_box(box)
        outline.solve()


def test_the_same_strokes_give_the_same_outline() -> None:
    """GrabCut draws random numbers."""
    image = read_image(bundled_clip() / "00000.jpg")
    found = []
    for _ in range(2):
        outline = Outline(image, np.zeros(image.shape[:2], bool))
        outline.start_from_box((176, 63, 231, 181))
        found.append(outline.solve())
        np.random.seed(1)
        cv2.setRNGSeed(7)
    assert np.array_equal(*found)


@pytest.mark.parametrize("points", [[(12, 10)], [(10, 12), (28, 20)], [(8, 8), (20, 8), (20, 30)], [(0, 39)]])
def test_a_brush_covers_the_pixels_within_its_radius(points: list[tuple[float, float]]) -> None:
    """Compared with the distance of each pixel to many points of the line."""
    along = [np.linspace(a, b, 200) for a, b in zip(points, points[1:])] or [np.array(points)]
    rows, columns = np.mgrid[:40, :40]
    near = np.zeros((40, 40), bool)
    for x, y in np.concatenate(along):
        near |= (columns - x) ** 2 + (rows - y) ** 2 <= 4**2 + 0.05
    assert iou(brush((40, 40), points, 4), near) > 0.95
