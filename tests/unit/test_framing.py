"""Crops of recorded clips: the scale of the test, the chosen object in view, image and labels alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataset import clips as clips_module
from dataset.build import build_loader, training_sets
from dataset.clips import ClipSampler
from dataset.framing import ENOUGH, Crop, cut, scale
from dataset.loader import PilLoader
from dataset.sampling import ClipSettings, close_label_gaps
from libs.app.config import load_config
from libs.core.errors import InputError
from libs.core.masks import object_ids
from tests.helpers import fake_datasets as trees

WINDOW = (64, 64)


def frames(count: int = 3, size: tuple[int, int] = (480, 854)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Grey frames with a disc of 100 pixels' diameter, label 2, near the right border."""
    y, x = np.ogrid[: size[0], : size[1]]
    label = np.where((y - 200) ** 2 + (x - size[1] + 80) ** 2 <= 50**2, np.uint8(2), np.uint8(0))
    return [trees.colour(label) for _ in range(count)], [label.copy() for _ in range(count)]


def test_objects_are_as_large_as_in_the_test_times_the_zoom() -> None:
    for zoom in (0.5, 1.0, 1.4):
        images, labels = frames()
        target = Crop((240, 427), (zoom, zoom)).draw_target(np.random.default_rng(0))
        scale(images, labels, target)
        cut(images, labels, (192, 192), np.random.default_rng(1))
        areas = [(label == 2).sum() for label in labels]
        assert areas[0] == pytest.approx(np.pi * (50 * zoom / 2) ** 2, rel=0.03)  # 480 rows become 240
        assert areas[1] == pytest.approx(areas[0], rel=0.1) and not np.array_equal(
            labels[0], labels[1]
        )  # it shakes
        assert all(image.shape == (192, 192, 3) for image in images)


def test_the_zoom_is_log_uniform_and_follows_smaller_windows_only() -> None:
    heights = np.array([Crop().draw_target(np.random.default_rng(i))[0] for i in range(400)]) / 240
    assert 0.8 <= heights.min() < 0.83 and 1.36 < heights.max() <= 1.4
    assert np.log(heights).mean() == pytest.approx(np.log([0.8, 1.4]).mean(), abs=0.03)
    for shrink, factor in ((2 / 3, 2 / 3), (1.0, 1.0), (4 / 3, 1.0)):
        assert Crop(zoom=(1.0, 1.0)).draw_target(np.random.default_rng(0), shrink)[0] == round(240 * factor)


def test_the_object_is_in_view_and_its_mask_lies_on_it() -> None:
    corners = set()
    for seed in range(60):
        images, labels = frames(2, (240, 427))
        cut(images, labels, WINDOW, np.random.default_rng(seed))
        assert object_ids(labels[0]) == [2] and (labels[0] == 2).sum() >= ENOUGH * labels[0].size
        assert np.array_equal(
            trees.decode(images[0], [2]), labels[0]
        )  # whole pixels: nothing is interpolated
        agree = trees.iou(trees.decode(images[1], [2]) == 2, labels[1] == 2)
        assert agree > 0.93
        corners.add(labels[0].tobytes())
    assert len(corners) > 20


def test_scattered_pixels_of_an_object_are_not_what_is_framed() -> None:
    """Half of its pixels lie alone, too far apart for one window."""
    y, x = np.ogrid[:1200, :1200]
    label = ((y - 610) ** 2 + (x - 610) ** 2 <= 64).astype(np.uint8)
    label[40::84, 40::84] = 1
    well = 0
    for seed in range(40):
        labels = [label]
        cut([trees.colour(label)], labels, WINDOW, np.random.default_rng(seed))
        well += labels[0].sum() >= ENOUGH * labels[0].size
    assert well > 37


def test_every_object_may_be_the_chosen_one_and_void_never_is() -> None:
    seen = {3: 0, 7: 0, 255: 0}
    for seed in range(60):
        label = np.zeros((100, 600), np.uint8)
        label[40:60, 20:40], label[40:60, 560:580], label[40:60, 300:320] = 3, 7, 255
        labels = [label]
        cut([trees.colour(label)], labels, WINDOW, np.random.default_rng(seed))
        for found in object_ids(labels[0]):
            seen[found] += 1
        seen[255] += bool((labels[0] == 255).any())
    assert seen[3] + seen[7] == 60 and min(seen[3], seen[7]) > 15 and seen[255] == 0


def test_a_window_stays_inside_the_frame_and_a_small_frame_inside_the_window() -> None:
    for seed in range(20):
        label = np.ones((300, 40), np.uint8)
        images, labels = [np.full((300, 40, 3), 90, np.uint8)], [label]
        cut(images, labels, WINDOW, np.random.default_rng(seed))
        assert labels[0].sum() == 64 * 40 and np.array_equal(labels[0] > 0, images[0].any(-1))


def test_a_first_frame_without_objects_is_cut_all_the_same() -> None:
    images, labels = [np.full((100, 200, 3), 90, np.uint8)] * 2, [np.zeros((100, 200), np.uint8)] * 2
    cut(images, labels, WINDOW, np.random.default_rng(0))
    assert images[0].shape == (*WINDOW, 3) and (images[0] == 90).all() and not labels[0].any()


def cropped(**options: Any) -> ClipSettings:
    """Settings for cropped clips of one set; `options` are fields of ClipSettings."""
    return ClipSettings(**{"size": WINDOW, "max_skip": [2], "crop": Crop((48, 85), (1.0, 2.0)), **options})


def sampler(root: Path, **options: Any) -> ClipSampler:
    return ClipSampler(training_sets(root, ["DAVIS17"], [4]), cropped(**options))


def test_cropped_clips_are_functions_of_seed_epoch_and_position(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    one, again = sampler(tmp_path), sampler(tmp_path)
    for position in range(len(one)):
        clip = one[position]
        assert clip.frames.shape == (3, 3, *WINDOW) and clip.labels[0].any()
        assert torch.equal(clip.frames, again[position].frames) and torch.equal(
            clip.labels, again[position].labels
        )
    assert {sampler(tmp_path, scales=(0.5,))[0].frames.shape[-2:]} == {(32, 32)}


def test_enough_pixels_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 800 rows, 480 at zoom 2 need more than a half, which JPEG would decode to."""
    trees.write_video(tmp_path / "JPEGImages/v", tmp_path / "Annotations/v", {1: 0}, size=(800, 1424))
    sets, sizes = training_sets(tmp_path, ["FOLDER"], [1]), []
    unspied = clips_module.scale
    monkeypatch.setattr(
        clips_module,
        "scale",
        lambda images, *rest: (sizes.append(images[0].shape[0]), unspied(images, *rest)),
    )
    for zoom, rows in ((0.5, 200), (1.0, 400), (2.0, 800)):
        crop = Crop((240, 427), (zoom, zoom))
        ClipSampler(sets, cropped(size=(192, 192), sampled_frames=2, max_skip=[1], crop=crop))[0]
        assert sizes.pop() == rows


def test_dali_refuses_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.davis17(tmp_path)
    monkeypatch.setattr("dataset.dali.require_dali", lambda: None)
    with pytest.raises(InputError, match="'framing': DALI.*PIL"):
        build_loader(
            "DALI", torch.device("cpu"), training_sets(tmp_path, ["DAVIS17"], [1]), cropped(), workers=0
        )


def test_the_loader_hands_its_crop_to_its_clips(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    loader = PilLoader(training_sets(tmp_path, ["DAVIS17"], [4]), cropped(), workers=0)
    assert torch.equal(next(loader.batches(0))[0].frames, sampler(tmp_path)[0].frames)


@pytest.mark.parametrize(
    "key, value",
    [("framing", "cut"), ("crop_zoom", "(1.4, 0.8)"), ("crop_zoom", "1"), ("crop_test_size", "240")],
)
def test_wrong_keys_are_named(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "c.yaml").write_text("")
    with pytest.raises(InputError, match=key):
        load_config(tmp_path / "c.yaml", [key, value])


def test_objects_that_a_crop_leaves_out_leave_no_gap() -> None:
    labels = [np.array([[0, 4, 7, 255]], np.uint8), np.array([[2, 7, 4, 4]], np.uint8)]
    assert [label.tolist() for label in close_label_gaps(labels)] == [[[0, 1, 2, 0]], [[3, 2, 1, 1]]]


def test_the_released_augmentation_refuses_crops(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    sets = training_sets(tmp_path, ["DAVIS17"], [1])
    with pytest.raises(InputError, match="'framing': augmentation dali.*paper"):
        build_loader("PIL", torch.device("cpu"), sets, cropped(augmentation="dali"), workers=0)
