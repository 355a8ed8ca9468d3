"""Masks that are wrong, and unusual ones that are right: test.py on a folder of videos."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import fake_datasets
from tests.helpers.damage import cut
from tests.helpers.small_network import segment_folder


def labels(*ids: int) -> np.ndarray:
    return fake_datasets.scene(list(ids))[1]


def ramp() -> Image.Image:
    return Image.fromarray(
        np.linspace(0, 255, fake_datasets.SIZE[0] * fake_datasets.SIZE[1])
        .astype(np.uint8)
        .reshape(fake_datasets.SIZE)
    )


BAD_MASKS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "none": (lambda p: p.unlink(), ["Annotations/mine", "mask"]),
    "another size": (
        lambda p: fake_datasets.save_mask(p, fake_datasets.scene([1], size=(40, 40))[1]),
        ["00000.png", "40x40"],
    ),
    "no object": (lambda p: fake_datasets.save_mask(p, labels() * 0), ["00000.png", "at least one object"]),
    "smoothed": (lambda p: ramp().save(p), ["00000.png", "anti-aliased"]),
    "smoothed colours": (lambda p: ramp().convert("RGB").save(p), ["00000.png", "anti-aliased"]),
    "16 bits": (lambda p: cv2.imwrite(str(p), labels(1).astype(np.uint16)), ["00000.png", "8 bits"]),
    "truncated": (cut, ["00000.png"]),
    "text": (lambda p: p.write_text("no mask"), ["00000.png"]),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_mask_that_cannot_be_used(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path)
    make, words = BAD_MASKS[name]
    make(masks / "00000.png")
    end = segment_folder(tmp_path, weights)
    end.check_error("1 of 2 videos failed", "mine")
    told = next(line for line in end.err.splitlines() if line.startswith("warning: video 'mine' "))
    assert all(word in told for word in words)
    assert len(list((tmp_path / "output/FOLDER/other").glob("*.png"))) == 4


GOOD_MASKS: dict[str, tuple[Callable[[Path], object], set[int]]] = {
    "colours": (lambda p: fake_datasets.save_mask(p, labels(1, 2), "RGB"), {1, 2}),
    "0 and 255": (lambda p: fake_datasets.save_mask(p, labels(255), "L"), {1}),
    "255 as void": (lambda p: fake_datasets.save_mask(p, labels(1, 255), "P"), {1}),
    "gaps": (lambda p: fake_datasets.save_mask(p, labels(3, 9), "P"), {3, 9}),
    "id 254": (lambda p: fake_datasets.save_mask(p, labels(254, 7), "P"), {7, 254}),
    "twelve objects": (lambda p: fake_datasets.save_mask(p, labels(*range(1, 13)), "P"), set(range(1, 13))),
}


@pytest.mark.parametrize("name", GOOD_MASKS)
def test_masks_of_another_kind(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path)
    make, ids = GOOD_MASKS[name]
    make(masks / "00000.png")
    segment_folder(tmp_path, weights).check_success()
    assert set(np.unique(np.array(Image.open(tmp_path / "output/FOLDER/mine/00000.png")))) - {0} == ids


LATER = {
    "vanishes for ever": {2: labels(1)},
    "leaves and returns": {1: labels(1), 2: labels(1, 2)},
    "brings nothing new": {2: labels(1, 2)},
    "is empty": {2: labels() * 0},
}


@pytest.mark.parametrize("name", LATER)
def test_later_masks(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path, frames=5)
    for t, mask in LATER[name].items():
        fake_datasets.save_mask(masks / f"{t:05d}.png", mask)
    segment_folder(tmp_path, weights, loop=1, save_freq=2).check_success()
    assert len(list((tmp_path / "output/FOLDER/mine").glob("*.png"))) == 5
