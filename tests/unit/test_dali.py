"""The DALI back end on the CPU makes the clips of the PIL loader. Skipped if DALI is not installed."""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import imgaug.augmenters as iaa
import numpy as np
import pytest
import torch
from PIL import Image

from dataset import clips as clips_module
from dataset import dali as dali_module
from dataset import transforms, warp
from dataset.build import build_loader, training_sets
from dataset.dali import AHEAD, DaliLoader, read_file
from dataset.folder import folder
from dataset.loader import ClipLoader, PilLoader
from dataset.sampling import TrainingSet
from dataset.transforms import BRIGHTNESS, CONTRAST, CROP, MIRROR, ROTATE, SCALE, SHEAR
from dataset.warp import Augmentation, draw_augmentation
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD, Letterbox
from libs.core.structures import Clip
from tests.helpers import fake_datasets as trees
from tests.unit.test_clips import figures, pixels_of, same, settings_for

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
INPUT = (32, 48)
CLOSE = 2.001  # of 255: cv2 rounds its weights to 11 bits, both round the result


def loaders(
    sets: list[TrainingSet],
    size: tuple[int, int] = INPUT,
    workers: int = 1,
    world_size: int = 1,
    rank: int = 0,
    **options: Any,
) -> tuple[ClipLoader, ClipLoader]:
    """The PIL and the DALI loader of the same clips; `options` are fields of ClipSettings."""
    pytest.importorskip("nvidia.dali")
    settings = settings_for(sets, size=size, **options)
    processes = {"rank": rank, "world_size": world_size}
    pil = PilLoader(sets, settings, workers=0, **processes)
    return pil, DaliLoader(sets, settings, workers=workers, **processes)


def epoch_of(loader: ClipLoader, epoch: int = 0) -> list[Clip]:
    return [clip for batch in loader.batches(epoch) for clip in batch]


def unnormalised(clip: Clip) -> np.ndarray:
    """(T, 3, H, W) in 0..255, not rounded."""
    return (
        255
        * (
            clip.frames * torch.tensor(IMAGENET_STD)[:, None, None]
            + torch.tensor(IMAGENET_MEAN)[:, None, None]
        )
    ).numpy()


def assert_alike(ours: list[Clip], theirs: list[Clip], tolerance: float = CLOSE, labels: float = 0) -> None:
    """Frames within `tolerance` of 255 everywhere; labels equal but for a fraction of the pixels."""
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs):
        assert (one.name, one.num_objects, one.frames.shape) == (
            other.name,
            other.num_objects,
            other.frames.shape,
        )
        assert (
            one.frames.dtype == torch.float32
            and one.labels.dtype == torch.uint8
            and one.labels.shape == other.labels.shape
        )
        assert np.abs(unnormalised(one) - unnormalised(other)).max() <= tolerance
        assert (one.labels != other.labels).float().mean() <= labels


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No augmentation, and PIL reads JPEG at its full resolution."""
    full_resolution(monkeypatch)
    monkeypatch.setattr(clips_module, "augment", lambda images, labels, rng: None)
    monkeypatch.setattr(warp, "draw_augmentation", lambda rng: Augmentation())


def full_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips_module, "read_image", lambda path, needed=None: read_image(path))


@pytest.fixture
def sets(tmp_path: Path) -> list[TrainingSet]:
    """DAVIS17 (2 videos) twice, YouTube-VOS (1 video) three times, one video of our own."""
    for write in (trees.davis17, trees.youtube_vos, trees.folder):
        write(tmp_path)
    return training_sets(tmp_path, ["DAVIS17", "VOS", "FOLDER"], [2, 3, 1])


def textured(labels: np.ndarray, seed: int = 0, sigma: float = 1.5) -> np.ndarray:
    """A image of smoothed noise with full contrast; (Hs, Ws, 3) uint8."""
    noise = np.random.default_rng(seed).normal(size=(*labels.shape, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
    return np.clip(128 + 55 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def write_still(
    root: Path, image: np.ndarray, labels: np.ndarray, name: str = "still", frames: int = 3
) -> list[TrainingSet]:
    """A video whose frames are all alike; the set of all videos below `root`."""
    for t in range(frames):
        trees.save_image(root / f"JPEGImages/{name}/{t:05d}.png", image)
        trees.save_mask(root / f"Annotations/{name}/{t:05d}.png", labels)
    return [TrainingSet("x", folder(root, "train"), 1, 5)]


# ---- without augmentation: PIL's clips ----


@pytest.mark.parametrize("size", [(24, 32), (32, 48), (48, 64), (50, 120), (120, 80)])
def test_the_same_clips_as_pil(plain: None, sets: list[TrainingSet], size: tuple[int, int]) -> None:
    """Frames, objects, names and order; smaller, equal and larger inputs, bars above or beside."""
    pil, dali = loaders(sets, size, train_batch=2)
    for epoch in (0, 1):
        assert_alike(epoch_of(dali, epoch), epoch_of(pil, epoch), labels=0.002)


@pytest.mark.parametrize("source", [(96, 128), (128, 96), (97, 131), (61, 41), (40, 40)])
@pytest.mark.parametrize("size", [(48, 64), (45, 77), (100, 130)])
def test_the_letterbox_is_that_of_pil(
    plain: None, tmp_path: Path, source: tuple[int, int], size: tuple[int, int]
) -> None:
    """Sharp images up to the border, landscape, portrait and square. Labels are those of the nearest pixel.

    If two are equally near, cv2 (steps of 16 bits) and DALI (float32) may choose differently.
    """
    labels = cv2.resize(figures()[1], source[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    labels[labels == 4] = 3
    pil, dali = loaders(write_still(tmp_path, textured(labels), labels), size)
    assert_alike(epoch_of(dali), epoch_of(pil), labels=0.02)
    upright = labels if source[0] <= source[1] else labels.T
    letterbox = Letterbox(upright.shape, size)
    found = epoch_of(dali)[0].labels[0, letterbox.box[0], letterbox.box[1]].numpy()
    nearest = []
    for tie in product((0, 1), (0, 1)):  # taken up or down
        rows, columns = (
            ((2 * np.arange(n) + 1) * side - t) // (2 * n)
            for n, side, t in zip(letterbox.size, upright.shape, tie)
        )
        nearest.append(upright[np.ix_(rows, columns)])
    assert np.any([found == one for one in nearest], 0).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real frames at ../shared/data are not here")
def test_the_same_clips_as_pil_from_real_frames(plain: None) -> None:
    """DAVIS 2016 at the input size of the paper."""
    pil, dali = loaders(training_sets(SHARED, ["DAVIS16"], [1]), (240, 427), train_batch=2)
    assert_alike(epoch_of(dali), epoch_of(pil))


def test_portrait_and_landscape_of_different_sizes_in_one_batch(plain: None, tmp_path: Path) -> None:
    for name, size in {"wide": (60, 100), "tall": (90, 50), "large": (120, 160)}.items():
        labels = cv2.resize(figures()[1], size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        sets = write_still(tmp_path, textured(labels), labels, name)
    pil, dali = loaders(sets, train_batch=3)
    assert [len(batch) for batch in dali.batches(0)] == [3]
    assert_alike(epoch_of(dali), epoch_of(pil), labels=0.02)


def test_short_clips_and_steps_without_clips(plain: None, tmp_path: Path) -> None:
    """Videos of 2 and 4 frames for clips of 3; the second of two processes has no clip in the last step."""
    trees.folder(tmp_path, frames=2, name="brief")
    trees.folder(tmp_path)
    sets = [TrainingSet("x", folder(tmp_path, "train"), 3, 5)]
    for rank, sizes in enumerate(([2, 2], [2, 0])):
        pil, dali = loaders(sets, train_batch=2, world_size=2, rank=rank)
        batches = list(dali.batches(0))
        assert [len(batch) for batch in batches] == sizes
        assert_alike([clip for batch in batches for clip in batch], epoch_of(pil))
    assert {len(clip.frames) for clip in epoch_of(loaders(sets)[1])} == {2, 3}


@pytest.mark.parametrize("augmented", [False, True])
def test_the_same_objects_out_of_more_than_five(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augmented: bool
) -> None:
    """Told by the colours of what the labels cover."""
    if not augmented:
        monkeypatch.setattr(clips_module, "augment", lambda images, labels, rng: rng.integers(2**31))
        monkeypatch.setattr(warp, "draw_augmentation", lambda rng: rng.integers(2**31) and Augmentation())
    labels = np.zeros((96, 192), np.uint8)
    for label in range(1, 9):
        row, column = divmod(label - 1, 4)
        cv2.circle(labels, (24 + 48 * column, 24 + 48 * row), 16, label, -1)
    sets = write_still(tmp_path, trees.colour(labels), labels)

    def drawn(clip: Clip) -> list[int]:
        found = trees.decode(pixels_of(clip.frames), range(1, 9))
        return [
            int(np.bincount(found[clip.labels.numpy() == label]).argmax())
            for label in range(1, clip.num_objects + 1)
        ]

    chosen = [
        [drawn(clip) for clip in epoch_of(loader)] for loader in loaders(sets, (96, 192), samples_per_video=6)
    ]
    assert (
        chosen[0] == chosen[1]
        and all(len(ids) == 5 for ids in chosen[0])
        and len({tuple(ids) for ids in chosen[0]}) > 1
    )


# ---- what is augmented, and how much ----

DRAWS = {
    "top": {"crop": (0.1, 0, 0, 0)}, "right": {"crop": (0, 0.1, 0, 0)},
    "bottom": {"crop": (0, 0, 0.1, 0)}, "left": {"crop": (0, 0, 0, 0.1)},
    "larger": {"scale": 1.05}, "smaller": {"scale": 0.95}, "shear": {"shear": 10.0},
    "clockwise": {"rotate": 15.0}, "anticlockwise": {"rotate": -15.0},
    "contrast": {"contrast": 1.3}, "flat": {"contrast": 0.8},
    "brighter": {"brightness": 40}, "darker": {"brightness": -70}, "mirror": {"mirror": True},
    "all": {"crop": (0.02, 0.08, 0.05, 0.01), "scale": 0.97, "shear": -7.0, "rotate": 11.0,
            "contrast": 0.98, "brightness": 4, "mirror": True},
}  # fmt: skip


def by_imgaug(draw: Augmentation) -> iaa.Augmenter:
    """The PIL loader's augmenter with nothing left to chance."""
    return iaa.Sequential(
        [
            iaa.Crop(percent=draw.crop, keep_size=True),
            iaa.Affine(scale=draw.scale, shear={"x": draw.shear, "y": draw.shear}, rotate=draw.rotate),
            iaa.Multiply(draw.contrast),
            iaa.Add(draw.brightness),
            iaa.Fliplr(float(draw.mirror)),
        ]
    )


@pytest.mark.parametrize("portrait", [False, True])
@pytest.mark.parametrize("name", DRAWS)
def test_each_change_is_that_of_imgaug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, portrait: bool
) -> None:
    """One interpolation against three in a row, of a image that changes slowly."""
    draw = Augmentation(**DRAWS[name])
    monkeypatch.setattr(transforms, "augmenter", lambda seed: by_imgaug(draw))
    monkeypatch.setattr(warp, "draw_augmentation", lambda rng: rng.integers(2**31) and draw)
    labels = figures()[1]
    image = (60 + 0.55 * textured(labels, sigma=12)).astype(np.uint8)
    turn: Callable[[np.ndarray], np.ndarray] = (
        (lambda a: np.ascontiguousarray(a.swapaxes(0, 1))) if portrait else lambda a: a
    )
    pil, dali = loaders(write_still(tmp_path, turn(image), turn(labels)), (150, 240))
    (theirs,), (ours,) = epoch_of(pil), epoch_of(dali)
    away = np.abs(unnormalised(ours) - unnormalised(theirs))
    black = np.pad(pixels_of(theirs.frames).max((0, -1)) < 45, 1, constant_values=True).astype(np.uint8)
    inside = (
        cv2.dilate(black, np.ones((7, 7), np.uint8))[1:-1, 1:-1] == 0
    )  # where the image ends, imgaug blends it with black
    warped = replace(draw, contrast=1, brightness=0, mirror=False) != Augmentation()
    if warped:
        assert inside.mean() > 0.6 and away[:, :, inside].max() < 8 and away[:, :, inside].mean() < 1.2
    else:
        assert away.max() < CLOSE
    assert (away.max((0, 1)) > 12).mean() < 0.015  # black in the same places
    for label in (1, 2, 3):
        assert trees.iou(ours.labels.numpy() == label, theirs.labels.numpy() == label) > 0.93


@pytest.mark.parametrize("factor, values", [(0.97, (40, 137, 234)), (1.03, (40, 143, 246))])
def test_contrast_multiplies_the_values_before_brightness_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, values: tuple[int, int, int]
) -> None:
    """Centre 0, as in the original: black stays black up to the brightness, in both loaders."""
    still = {"CROP": 0, "SCALE": (1, 1), "SHEAR": (0, 0), "ROTATE": (0, 0), "MIRROR": 0}
    still |= {"CONTRAST": (factor, factor), "BRIGHTNESS": (40, 40)}
    for module in (transforms, warp):
        for name, value in still.items():
            monkeypatch.setattr(module, name, value)
    image = np.repeat(np.array([0, 100, 200], np.uint8), 16)[None, :, None].repeat(32, 0).repeat(3, 2)
    for loader in loaders(write_still(tmp_path, image, np.ones((32, 48), np.uint8))):
        found = unnormalised(epoch_of(loader)[0])
        for i, value in enumerate(values):
            assert np.abs(found[..., 16 * i + 2 : 16 * i + 14] - value).max() < 0.01


def test_draws_fill_their_ranges_evenly() -> None:
    draws = [draw_augmentation(np.random.default_rng(seed)) for seed in range(3000)]
    ranges = {"scale": SCALE, "shear": SHEAR, "rotate": ROTATE, "contrast": CONTRAST}
    values = {
        name: np.array([getattr(draw, name) for draw in draws])
        for name in (*ranges, "brightness", "mirror", "crop")
    }
    values |= {f"crop {side}": values["crop"][:, side] for side in range(4)}
    for name, (low, high) in {**ranges, **{f"crop {side}": (0, CROP) for side in range(4)}}.items():
        found = (values[name] - low) / (high - low)
        assert 0 <= found.min() < 0.01 and 0.99 < found.max() <= 1, name
        assert abs(found.mean() - 0.5) < 0.025 and abs(found.std() - 12**-0.5) < 0.015, name
    counts = np.unique(values["brightness"], return_counts=True)
    assert (
        counts[0].tolist() == list(range(BRIGHTNESS[0], BRIGHTNESS[1] + 1)) and counts[1].min() > 210
    )  # of 273
    assert abs(values["mirror"].mean() - MIRROR) < 0.04
    both = np.corrcoef(
        [values[name] for name in (*ranges, "brightness", "mirror", *(f"crop {side}" for side in range(4)))]
    )
    assert np.abs(both - np.eye(len(both))).max() < 0.08  # drawn apart from each other


def test_colours_and_shapes_vary_as_with_pil(tmp_path: Path) -> None:
    """Over 150 clips by each back end: grey values, black, and the place, size and direction of an object."""
    labels = np.zeros((120, 160), np.uint8)
    labels[30:90, 40:100] = 1
    labels[50:70, 120:140] = 2
    sets = write_still(tmp_path, np.full((120, 160, 3), 100, np.uint8), labels, frames=1)

    def figures_of(clip: Clip) -> list[float]:
        grey = pixels_of(clip.frames)[0, ..., 0].astype(float)
        centre, beside = (np.argwhere(clip.labels[0].numpy() == k).mean(0) for k in (1, 2))
        way = beside - centre
        angle = np.degrees(np.arctan2(way[0], abs(way[1])))
        return [
            grey[grey > 50].mean(),
            (grey < 50).mean(),
            *centre,
            (clip.labels[0] == 1).sum().item() / 3600,
            angle,
            way[1] < 0,
        ]

    found = [
        np.array([figures_of(clip) for clip in epoch_of(loader)])
        for loader in loaders(sets, (120, 160), sampled_frames=1, samples_per_video=150)
    ]
    names = ("grey", "black", "row", "column", "area", "angle", "mirrored")
    for column, name in enumerate(names):
        theirs, ours = found[0][:, column], found[1][:, column]
        spread = np.hypot(theirs.std(), ours.std()) / np.sqrt(len(ours))
        slack = {"grey": 0.6, "row": 0.6, "column": 0.6}.get(
            name, 0.01
        )  # imgaug truncates greys, shifts labels half a pixel
        assert abs(theirs.mean() - ours.mean()) < 3.5 * spread + slack, name
        assert 0.75 < ours.std() / theirs.std() < 1.33, name


def test_images_and_labels_stay_aligned(tmp_path: Path) -> None:
    image, label = figures()
    away = np.zeros(2)
    clips = epoch_of(
        loaders(
            write_still(tmp_path, image, label, frames=1), (192, 288), sampled_frames=1, samples_per_video=25
        )[1]
    )
    for clip in clips:
        found, maps = trees.decode(pixels_of(clip.frames), [1, 2, 4]), clip.labels.numpy()
        assert clip.num_objects == 4 and set(np.unique(maps)) == {0, 1, 2, 4}
        for one in (1, 2, 4):
            assert trees.iou(found == one, maps == one) > 0.95
            away += np.argwhere(found[0] == one).mean(0) - np.argwhere(maps[0] == one).mean(0)
    assert np.abs(away / 75).max() < 0.1  # pixels, on average


def test_one_draw_serves_all_frames_of_a_clip(tmp_path: Path) -> None:
    image, label = figures()
    clips = epoch_of(
        loaders(write_still(tmp_path, image, label, frames=5), (48, 64), train_batch=4, samples_per_video=4)[
            1
        ]
    )
    for clip in clips:
        assert torch.equal(clip.frames, clip.frames[:1].expand_as(clip.frames))
        assert torch.equal(clip.labels, clip.labels[:1].expand_as(clip.labels))
    assert not any(
        torch.equal(one.frames, other.frames) for i, one in enumerate(clips) for other in clips[:i]
    )


def test_the_letterbox_is_black_whatever_the_brightness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corners that turning has emptied are not: imgaug brightens them."""
    draw = Augmentation(rotate=15, brightness=5)
    monkeypatch.setattr(warp, "draw_augmentation", lambda rng: draw)
    labels = np.ones((60, 100), np.uint8)
    (clip,) = epoch_of(
        loaders(write_still(tmp_path, np.full((60, 100, 3), 250, np.uint8), labels), (91, 100))[1]
    )
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    box = Letterbox((60, 100), (91, 100)).box[0]
    assert (box.start, box.stop) == (15, 75)
    for bar in (clip.frames[:, :, :15], clip.frames[:, :, 75:]):
        assert torch.allclose(bar, black[:, None, None].expand_as(bar), atol=1e-6)
    assert not clip.labels[:, :15].any() and not clip.labels[:, 75:].any()
    assert np.abs(unnormalised(clip)[:, :, 15, 0] - 5).max() < 0.01 and clip.labels[:, 15, 0].eq(0).all()
    assert (
        np.abs(unnormalised(clip)[:, :, 45, 50] - 255).max() < 0.01 and clip.labels[:, 45, 50].eq(1).all()
    )  # not 255 + 5


# ---- the same clips, always ----


def test_clips_depend_on_seed_epoch_and_position_alone(sets: list[TrainingSet]) -> None:
    first = epoch_of(loaders(sets)[1])
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(first, epoch_of(loaders(sets, workers=3)[1]))
    assert same(first, epoch_of(loaders(sets, workers=0)[1]))
    assert same(first, epoch_of(loaders(sets, train_batch=3, workers=2)[1]))
    assert same(
        first[4:], [clip for batch in loaders(sets, train_batch=2)[1].batches(0, start=2) for clip in batch]
    )
    halves = [list(loaders(sets, train_batch=2, world_size=2, rank=rank)[1].batches(0)) for rank in range(2)]
    assert same(first, [clip for step in zip(*halves) for share in step for clip in share])
    for other in (epoch_of(loaders(sets)[1], epoch=1), epoch_of(loaders(sets, seed=1)[1])):
        assert len(other) == len(first) and not any(
            torch.equal(a.frames, b.frames) for a in first for b in other
        )


def test_two_epochs_at_once_do_not_disturb_each_other(sets: list[TrainingSet]) -> None:
    _, dali = loaders(sets)
    pairs = [(one[0], other[0]) for one, other in zip(dali.batches(0), dali.batches(1))]
    assert same([one for one, _ in pairs], epoch_of(dali, 0)) and same(
        [other for _, other in pairs], epoch_of(dali, 1)
    )


def test_little_is_made_ahead_and_nothing_goes_on_afterwards(
    sets: list[TrainingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, plan_clip = [], dali_module.plan_clip
    monkeypatch.setattr(dali_module, "plan_clip", lambda *args: planned.append(args) or plan_clip(*args))
    before = threading.active_count()
    batches = loaders(sets, samples_per_video=5)[1].batches(0)
    for taken in range(1, 4):
        next(batches)
        assert taken <= len(planned) <= taken + AHEAD  # readers may be a little behind
    batches.close()
    assert threading.active_count() == before and len(planned) == 3 + AHEAD


def test_clips_without_an_object_in_their_first_frame_are_drawn_again(
    tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the PIL loader does; also if augmentation has moved the object out of the image."""
    trees.write_video(tmp_path / "JPEGImages/late", tmp_path / "Annotations/late", {2: 4}, frames=8)
    pil, dali = loaders([TrainingSet("x", folder(tmp_path, "train"), 1, 5)], samples_per_video=8)
    assert_alike(epoch_of(dali), epoch_of(pil))
    run, calls = dali_module.run_pipeline, []

    def lose(*arguments) -> tuple[torch.Tensor, list[np.ndarray]]:
        images, maps = run(*arguments)
        calls.append(len(maps))
        return images, [labels * (len(calls) > 2) for labels in maps]

    monkeypatch.setattr(dali_module, "run_pipeline", lose)
    first = next(iter(dali.batches(0)))[0]
    assert calls[:3] == [3, 3, 3] and (first.labels[0] == 2).any()


# ---- files ----


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "missing"])
def test_an_unreadable_image_is_named(tmp_path: Path, damage: str) -> None:
    tree = trees.davis17(tmp_path)
    sets = training_sets(tmp_path, ["DAVIS17"], [1])
    path = tree / "JPEGImages/480p/pair/00002.jpg"
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"text": b"not a image", "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    for loader in loaders(sets, sampled_frames=4, train_batch=2):
        with pytest.raises(InputError) as error:
            epoch_of(loader)
        assert str(error.value).startswith(f"{path}: expected a readable image") and "\n" not in str(
            error.value
        )


def test_a_damaged_mask_and_one_of_another_size_are_named(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    loader = loaders([TrainingSet("x", folder(tmp_path, "train"), 1, 5)])[1]
    for mask in (tmp_path / "Annotations/mine").iterdir():
        trees.save_mask(mask, trees.scene([1, 2], size=(64, 48))[1])  # lying on its side
    with pytest.raises(InputError, match=str(tmp_path / "Annotations/mine")) as error:
        epoch_of(loader)
    assert "\n" not in str(error.value) and "64x48" in str(error.value) and "48x64" in str(error.value)
    for mask in (tmp_path / "Annotations/mine").iterdir():
        mask.write_bytes(b"not a image")
    with pytest.raises(InputError, match=str(tmp_path / "Annotations/mine")):
        epoch_of(loader)


def test_what_dali_cannot_decode_is_read_by_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No format of ours is known to be one; a DALI that decodes PPM alone stands for it."""
    trees.folder(tmp_path)
    sets, run = training_sets(tmp_path, ["FOLDER"], [1]), dali_module.run_pipeline

    def picky(pipeline: object, frames: list, encoded: list[np.ndarray]) -> tuple:
        if any(file[:2].tobytes() != b"P6" for file in encoded):
            raise RuntimeError("unknown format")
        return run(pipeline, frames, encoded)

    whole = epoch_of(loaders(sets)[1])
    monkeypatch.setattr(dali_module, "run_pipeline", picky)
    assert same(whole, epoch_of(loaders(sets)[1]))


@pytest.mark.parametrize("kind", ["grey", "turned", "cmyk", "progressive", "palette", "alpha", "webp"])
def test_images_of_every_kind_are_those_of_pil(plain: None, tmp_path: Path, kind: str) -> None:
    """By content, whatever the suffix says."""
    labels = cv2.resize(figures()[1], (80, 60), interpolation=cv2.INTER_NEAREST_EXACT)
    sets = write_still(tmp_path, textured(labels), labels)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    form, mode, options = {
        "grey": ("JPEG", "L", {}), "turned": ("JPEG", "RGB", {"exif": exif}), "cmyk": ("JPEG", "CMYK", {}),
        "progressive": ("JPEG", "RGB", {"progressive": True}), "palette": ("PNG", "P", {"transparency": 3}),
        "alpha": ("PNG", "RGBA", {}), "webp": ("WEBP", "RGB", {}),
    }[kind]  # fmt: skip
    for path in (tmp_path / "JPEGImages/still").iterdir():
        image = Image.open(path).convert(mode)
        if kind == "alpha":
            image.putalpha(100)
        if kind == "turned":  # the mask is upright
            image = image.transpose(Image.Transpose.ROTATE_90)
        image.save(path, form, **options)
    pil, dali = loaders(sets)
    assert_alike(epoch_of(dali), epoch_of(pil), labels=0.02)


def test_one_object_of_255_and_void(plain: None, tmp_path: Path) -> None:
    """DAVIS 2016 stores its object as 255; elsewhere 255 is background."""
    trees.davis16(tmp_path)
    for clip in epoch_of(loaders(training_sets(tmp_path, ["DAVIS16"], [2]))[1]):
        assert clip.num_objects == 1 and set(clip.labels.unique().tolist()) == {0, 1}
    labels = figures()[1]
    labels[:40] = 255
    pil, dali = loaders(write_still(tmp_path / "void", trees.colour(labels), labels), (60, 80))
    assert_alike(epoch_of(dali), epoch_of(pil))
    assert epoch_of(dali)[0].num_objects == 4


# ---- where it runs ----


@pytest.mark.parametrize(
    "cuda, package", [("11.8", "cuda110"), ("12.6", "cuda120"), ("13.0", "cuda130"), (None, "cuda130")]
)
def test_without_dali_the_package_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, package: str
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(InputError) as error:
        build_loader("DALI", torch.device("cpu"), [], settings_for([]), workers=0)
    message = str(error.value)
    assert "\n" not in message and message.startswith("key 'data_backend'") and "PIL" in message
    assert f"pip install nvidia-dali-{package}`" in message and ("CPU" in message) == (cuda is None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_makes_the_clips_of_the_cpu(plain: None, sets: list[TrainingSet]) -> None:
    _, dali = loaders(sets, train_batch=2)
    clips = epoch_of(replace(dali, device=torch.device("cuda")))
    assert_alike(clips, epoch_of(dali), tolerance=12)  # JPEG is decoded by another library


def test_tiff_is_decoded_before_dali(tmp_path: Path) -> None:
    """16 bits and orientation are then those of the other loader."""
    grey = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the image is its left side in the file
    Image.fromarray(grey).save(tmp_path / "a.tif", exif=exif)
    image = read_image(tmp_path / "a.tif")
    assert image.shape == (30, 20, 3) and np.array_equal(image[..., 1], np.rot90(grey >> 8, -1))
    assert read_file(tmp_path / "a.tif").tobytes() == b"P6 20 30 255\n" + image.tobytes()
