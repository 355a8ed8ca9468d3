"""One-hot masks, renumbered labels, the letterbox and its inverse, the palette."""

import math

import cv2
import numpy as np
import pytest
import torch

from libs.core.masks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VOID,
    Letterbox,
    denormalise,
    normalise,
    object_ids,
    one_hot,
    palette,
    select_objects,
)
from tests.helpers.fake_datasets import iou

SIZES = [  # source, target: height and width
    ((480, 854), (240, 427)),
    ((480, 910), (240, 427)),
    ((720, 1280), (240, 427)),
    ((854, 480), (240, 427)),
    ((101, 67), (240, 427)),
    ((240, 320), (240, 427)),
    ((37, 91), (48, 64)),
    ((91, 37), (48, 64)),
    ((48, 64), (96, 128)),
    ((47, 63), (33, 49)),
    ((100, 100), (64, 65)),
    ((65, 64), (100, 101)),
    ((240, 427), (240, 428)),
    ((99, 198), (16, 16)),
]
LONG = [
    ((99, 200), (16, 16)),
    ((1, 1000), (48, 64)),
    ((1000, 1), (48, 64)),
    ((3, 5000), (16, 16)),
    ((2, 2), (17, 31)),
]


def blobs(size: tuple[int, int]) -> np.ndarray:
    """Background and two objects, an ellipse and a box, (H, W) uint8."""
    height, width = size
    labels = np.zeros(size, np.uint8)
    cv2.ellipse(labels, (width // 3, height // 2), (width // 4, height // 3), 20, 0, 360, 1, -1)
    labels[height // 5 : height // 2, width // 2 : width - width // 8] = 2
    return labels


# ---- labels and masks ----------------------------------------------------------------------------


def test_one_hot_puts_background_first() -> None:
    masks = one_hot(torch.tensor([[0, 2], [1, 2]], dtype=torch.uint8), 4)
    assert masks.dtype == torch.float32
    assert masks.tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]


def test_one_hot_keeps_leading_dimensions_and_can_be_undone() -> None:
    labels = torch.randint(0, 5, (2, 3, 7, 9), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    masks = one_hot(labels, 6)
    assert masks.shape == (2, 3, 6, 7, 9)
    assert torch.equal(masks.sum(2), torch.ones(2, 3, 7, 9))
    assert torch.equal(masks.argmax(2), labels.long())


def test_select_objects_renumbers_in_order_and_drops_the_rest() -> None:
    labels = np.array([[0, 3, 7], [VOID, 12, 3]], np.uint8)
    assert select_objects(labels, [3, 7]).tolist() == [[0, 1, 2], [0, 0, 1]]
    assert select_objects(labels, [12, 3]).tolist() == [[0, 2, 0], [0, 1, 2]]
    assert select_objects(labels, []).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert select_objects(labels, [200]).max() == 0  # an object that this frame lacks
    assert select_objects(labels, [3]).dtype == np.uint8


def test_object_ids_are_neither_background_nor_void() -> None:
    assert object_ids(np.array([[7, 0], [VOID, 2]], np.uint8)) == [2, 7]
    assert object_ids(np.array([[0, VOID]], np.uint8)) == []


# ---- letterbox -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source, target", SIZES + LONG)
def test_the_box_is_inside_fills_one_side_and_is_centred(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    letterbox = Letterbox(source, target)
    size, box = letterbox.size, letterbox.box
    assert 1 <= size[0] <= target[0] and 1 <= size[1] <= target[1]
    assert size[0] == target[0] or size[1] == target[1]
    scale = min(target[0] / source[0], target[1] / source[1])
    for side in (0, 1):
        assert size[side] == max(
            1, math.floor(scale * source[side] + 1e-9)
        )  # the aspect is kept, rounded down
        before, after = box[side].start, target[side] - box[side].stop
        assert box[side].stop - box[side].start == size[side]
        assert 0 <= before <= after <= before + 1


def test_scaled_sides_are_rounded_down_as_in_the_original() -> None:
    """720p frames of YouTube-VOS at the paper's size: 426.67 columns become 426, in the middle of 427."""
    letterbox = Letterbox((720, 1280), (240, 427))
    assert letterbox.size == (240, 426) and letterbox.box == (slice(0, 240), slice(0, 426))
    assert Letterbox((1280, 720), (427, 240)).size == (426, 240)
    assert Letterbox((480, 854), (240, 427)).size == (240, 427)


@pytest.mark.parametrize("source, target", SIZES + LONG)
def test_pictures_and_labels_lie_in_the_box_with_zeros_around(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    letterbox = Letterbox(source, target)
    image = letterbox.image(np.full((*source, 3), 200, np.uint8))
    labels = letterbox.labels(np.full(source, 7, np.uint8))
    assert image.shape == (*target, 3) and labels.shape == target
    assert image.dtype == labels.dtype == np.uint8
    assert (image[letterbox.box] == 200).all() and (labels[letterbox.box] == 7).all()
    image[letterbox.box], labels[letterbox.box] = 0, 0
    assert not image.any() and not labels.any()


@pytest.mark.parametrize("source, target", SIZES)
def test_labels_stay_labels(source: tuple[int, int], target: tuple[int, int]) -> None:
    labels = blobs(source)
    labels[labels == 2] = 200  # between 1 and 200 lies much that interpolation would make
    assert set(np.unique(Letterbox(source, target).labels(labels))) == {0, 1, 200}


@pytest.mark.parametrize("source, target", SIZES)
def test_undoing_brings_a_mask_back(source: tuple[int, int], target: tuple[int, int]) -> None:
    letterbox, labels = Letterbox(source, target), blobs(source)
    small = letterbox.labels(labels)
    back = letterbox.undo(one_hot(torch.from_numpy(small), 3))
    assert back.shape == (3, *source)
    assert torch.allclose(back.sum(0), torch.ones(source), atol=1e-5)
    found = back.argmax(0).numpy()
    mild = min(letterbox.size[0] / source[0], letterbox.size[1] / source[1]) >= 0.5 and min(source) > 60
    for label in (0, 1, 2):
        assert iou(found == label, labels == label) > (0.97 if mild else 0.7)


def test_undoing_does_not_shift() -> None:
    """The centre of mass moves by less than 0.4 pixels; an error of one in the box moves it by one."""
    for source, target in SIZES[:6]:
        letterbox, labels = Letterbox(source, target), blobs(source)
        back = letterbox.undo(one_hot(torch.from_numpy(letterbox.labels(labels)), 3)).argmax(0).numpy()
        for label in (1, 2):
            found, true = (np.argwhere(m == label).mean(0) for m in (back, labels))
            assert np.abs(found - true).max() < 0.4 * source[0] / letterbox.size[0], (source, target)


def test_equal_sizes_change_nothing() -> None:
    rng = np.random.default_rng(0)
    letterbox = Letterbox((33, 47), (33, 47))
    image, labels = rng.integers(0, 256, (33, 47, 3), np.uint8), blobs((33, 47))
    probs = torch.rand(3, 33, 47)
    assert np.array_equal(letterbox.image(image), image) and np.array_equal(letterbox.labels(labels), labels)
    assert torch.allclose(letterbox.undo(probs), probs, atol=1e-6)


def test_same_scale_only_pads() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 40, 3), np.uint8)
    placed = Letterbox((20, 40), (25, 40)).image(image)
    assert np.array_equal(placed[2:22], image) and not placed[:2].any() and not placed[22:].any()


# ---- colours -------------------------------------------------------------------------------------


def test_the_palette_is_that_of_davis() -> None:
    colours = palette()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        5: (128, 0, 128),
        6: (0, 128, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        19: (128, 192, 0),
        VOID: (224, 224, 192),
    }
    assert {label: tuple(colours[label].tolist()) for label in known} == known
    assert len({tuple(colour) for colour in colours.tolist()}) == 256


def test_normalise_is_imagenets_and_can_be_undone() -> None:
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406) and IMAGENET_STD == (0.229, 0.224, 0.225)
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    found = normalise(image)
    assert found.shape == (2, 3, 5, 7) and found.dtype == torch.float32 and found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), ((image / 255 - mean) / std).transpose(0, 3, 1, 2), atol=1e-5)
    assert np.array_equal(denormalise(found), image) and np.array_equal(denormalise(found[0]), image[0])
    assert torch.equal(normalise(image[0, :, ::-1]), found[0].flip(-1))  # a view that runs backwards is fine
