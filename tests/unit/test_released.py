"""Augmentation 'dali', which trained the published ResNet-18, through both loaders (DALI on the CPU)."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dataset import released
from dataset.build import build_loader, training_sets
from dataset.folder import folder
from dataset.loader import ClipLoader
from dataset.released import Distortion, draw_distortion
from dataset.sampling import TrainingSet
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import Letterbox
from libs.core.structures import Clip
from tests.helpers import fake_datasets as trees
from tests.unit.test_clips import figures, same, settings_for
from tests.unit.test_dali import textured, write_still

NOTHING = Distortion((0, 0), (0, 0, 0), False)
CPU = torch.device("cpu")


@pytest.fixture(params=["PIL", "DALI"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs with both loaders."""
    if request.param == "DALI":
        pytest.importorskip("nvidia.dali")
    return request.param


@pytest.fixture
def sets(tmp_path: Path) -> list[TrainingSet]:
    """DAVIS17 (2 videos) twice, YouTube-VOS (1 video) three times, one video of our own."""
    for write in (trees.davis17, trees.youtube_vos, trees.folder):
        write(tmp_path)
    return training_sets(tmp_path, ["DAVIS17", "VOS", "FOLDER"], [2, 3, 1])


def loader_of(
    backend: str,
    sets: list[TrainingSet],
    size: tuple[int, int],
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    **options: Any,
) -> ClipLoader:
    """`options` are fields of ClipSettings."""
    settings = settings_for(sets, size=size, **{"augmentation": "dali", **options})
    return build_loader(backend, CPU, sets, settings, workers=workers, rank=rank, world_size=world_size)


def epoch_of(loader: ClipLoader, epoch: int = 0, start: int = 0) -> list[Clip]:
    return [clip for batch in loader.batches(epoch, start) for clip in batch]


def values_of(clip: Clip) -> np.ndarray:
    """(T, H, W, 3) uint8, after a check that they are whole numbers with the original's normalisation."""
    values = 255 * (clip.frames.double().movedim(1, -1) * 0.226 + 0.45)
    assert (values - values.round()).abs().max() < 1e-3
    return values.round().to(torch.uint8).numpy()


def always(monkeypatch: pytest.MonkeyPatch, drawn: Distortion) -> None:
    """Nothing is left to chance."""
    monkeypatch.setattr(released, "draw_distortion", lambda rng, frames: rng.integers(2**31) and drawn)


# ---- geometry ----


def expected_point(point: np.ndarray, size: tuple[int, int], drawn: Distortion, t: int) -> np.ndarray:
    """The image of a point (x, y): x + sx y and y + sy x, rotated counter-clockwise, then mirrored."""
    (sx, sy), angle, centre = drawn.shear, np.deg2rad(drawn.angles[t]), np.array(size[::-1]) / 2
    x, y = np.array([point[0] + sx * point[1], point[1] + sy * point[0]]) - centre
    turned = centre + [x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)]
    return np.array([size[1] - turned[0] if drawn.mirror else turned[0], turned[1]])


DRAWS = {
    "nothing": NOTHING,
    "shear x": replace(NOTHING, shear=(0.04, 0)),
    "shear y": replace(NOTHING, shear=(0, -0.025)),
    "rotate": replace(NOTHING, angles=(10, -10, 4)),
    "mirror": replace(NOTHING, mirror=True),
    "all": Distortion((-0.04, 0.025), (-10, 7, 0), True),
}


@pytest.mark.parametrize("factor", [1, 3])
@pytest.mark.parametrize("name", DRAWS)
def test_known_points_go_where_shear_rotation_and_mirror_move_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, name: str, factor: int
) -> None:
    """Squares of 15 pixels; frames at the size of the source, and at a third of it."""
    size, points = (240, 420), [(100, 60), (310, 79), (202, 121), (88, 178), (322, 172)]
    labels = np.zeros(size, np.uint8)
    for label, (x, y) in enumerate(points, start=1):
        labels[y - 7 : y + 8, x - 7 : x + 8] = label
    image = np.stack([40 * labels] * 3, -1)
    always(monkeypatch, DRAWS[name])
    sets = write_still(tmp_path, image, labels)
    (clip,) = epoch_of(loader_of(backend, sets, (240 // factor, 420 // factor)))
    assert clip.labels.shape == (3, 240 // factor, 420 // factor)
    for t, (values, found) in enumerate(zip(values_of(clip), clip.labels.numpy())):
        assert np.array_equal(values[..., 0], 40 * found)
        for label, point in enumerate(points, start=1):
            centre = factor * (np.argwhere(found == label).mean(0)[::-1] + 0.5)
            expected = expected_point(np.array(point) + 0.5, size, DRAWS[name], t)
            assert np.abs(centre - expected).max() < 0.5 * factor  # half a pixel of the result
            assert 0.8 < factor**2 * (found == label).sum() / 225 < 1.25


def test_the_shear_leaves_the_upper_left_corner_where_it_is() -> None:
    """The matrix of the original, from the result to the source."""
    sx, sy = 0.04, -0.025
    matrix = released.shear_matrix((sx, sy))
    assert np.allclose(matrix, np.array([[1, -sx, 0], [-sy, 1, 0]]) / (1 - sx * sy))
    assert np.allclose(matrix[:, :2] @ [[1, sx], [sy, 1]], np.eye(2))


def test_no_pixel_has_a_new_value(tmp_path: Path, backend: str) -> None:
    """Random colours, real draws, a size that divides nothing."""
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (97, 131))
    image = np.random.default_rng(1).choice(np.array([10, 90, 170, 250], np.uint8), (97, 131, 3))
    sets = write_still(tmp_path, image, labels)
    for clip in epoch_of(loader_of(backend, sets, (61, 90), samples_per_video=4)):
        assert set(np.unique(values_of(clip))) == {0, 10, 90, 170, 250}
        assert set(clip.labels.unique().tolist()) == {0, 1, 2}


def test_what_lies_outside_is_0_in_frames_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    always(monkeypatch, replace(NOTHING, angles=(10, 10, 10)))
    sets = write_still(tmp_path, np.full((96, 160, 3), 200, np.uint8), np.ones((96, 160), np.uint8))
    (clip,) = epoch_of(loader_of(backend, sets, (96, 160)))
    values, labels = values_of(clip), clip.labels.numpy()
    assert np.array_equal(values, 200 * np.stack([labels] * 3, -1))
    corners = labels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners.any() and 0.85 < labels.mean() < 0.95


@pytest.mark.parametrize("source, target, size", [
    ((480, 854), (240, 427), (240, 427)), ((96, 160), (48, 100), (48, 80)), ((96, 160), (60, 80), (48, 80)),
    ((160, 96), (80, 100), (80, 48)),  # portrait is not transposed
    ((720, 1280), (240, 427), None), ((97, 131), (61, 90), None),
])  # fmt: skip
def test_frames_fit_inside_the_input_without_padding(
    tmp_path: Path,
    backend: str,
    source: tuple[int, int],
    target: tuple[int, int],
    size: tuple[int, int] | None,
) -> None:
    sets = write_still(tmp_path, np.full((*source, 3), 9, np.uint8), np.ones(source, np.uint8), frames=2)
    (clip,) = epoch_of(loader_of(backend, sets, target, sampled_frames=2))
    assert clip.labels.shape == (2, *(size or Letterbox(source, target).size))
    assert clip.frames.shape[-2:] == clip.labels.shape[-2:]


def test_frames_are_taken_at_their_whole_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmentation 'paper' lets PIL decode JPEG at a half where that is enough."""
    images, masks = tmp_path / "JPEGImages/x", tmp_path / "Annotations/x"
    trees.write_video(images, masks, {1: 0}, frames=3, size=(400, 640))
    always(monkeypatch, NOTHING)
    (clip,) = epoch_of(loader_of("PIL", [TrainingSet("x", folder(tmp_path, "train"), 1, 5)], (80, 128)))
    for t, values in enumerate(values_of(clip)):
        assert np.array_equal(values, read_image(images / f"{t:05d}.jpg")[2::5, 2::5])


# ---- draws ----


def test_one_shear_and_mirror_per_clip_and_one_rotation_per_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    image, label = figures()
    sets = write_still(tmp_path, image, label)
    for clip in epoch_of(loader_of(backend, sets, (48, 64), samples_per_video=3)):
        assert not any(torch.equal(clip.frames[a], clip.frames[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    monkeypatch.setattr(released, "ROTATE", 0.0)
    clips = epoch_of(loader_of(backend, sets, (48, 64), samples_per_video=6))
    for clip in clips:
        assert torch.equal(clip.frames, clip.frames[:1].expand_as(clip.frames))
        assert torch.equal(clip.labels, clip.labels[:1].expand_as(clip.labels))
    assert not any(torch.equal(one.frames, two.frames) for i, one in enumerate(clips) for two in clips[:i])


def test_draws_fill_their_ranges_evenly() -> None:
    draws = [draw_distortion(np.random.default_rng(seed), 3) for seed in range(3000)]
    values = {"sx": [d.shear[0] for d in draws], "sy": [d.shear[1] for d in draws]}
    values |= {f"angle {t}": [d.angles[t] for d in draws] for t in range(3)}
    for name, bound in {"sx": 0.04, "sy": 0.025, "angle 0": 10, "angle 1": 10, "angle 2": 10}.items():
        found = (np.array(values[name]) / bound + 1) / 2
        assert 0 <= found.min() < 0.01 and 0.99 < found.max() <= 1, name
        assert abs(found.mean() - 0.5) < 0.025 and abs(found.std() - 12**-0.5) < 0.015, name
    mirror = [d.mirror for d in draws]
    assert abs(np.mean(mirror) - 0.5) < 0.04
    assert (
        np.abs(np.corrcoef([*values.values(), mirror]) - np.eye(6)).max() < 0.08
    )  # independent of each other


# ---- both loaders ----


@pytest.mark.parametrize("source", [(120, 200), (240, 144), (97, 131)])
def test_both_loaders_give_the_same_clips(tmp_path: Path, source: tuple[int, int]) -> None:
    """Real draws. DALI counts in float32, so that a few pixels between two are taken from the other side.

    (Where whole rows lie between two of the source, DALI on the CPU takes some of them from the other one.)
    """
    pytest.importorskip("nvidia.dali")
    labels = cv2.resize(figures()[1], source[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    sets = write_still(tmp_path, textured(labels), labels)
    options = {"size": (60, 100), "samples_per_video": 5, "train_batch": 2}
    pil, dali = (epoch_of(loader_of(backend, sets, **options)) for backend in ("PIL", "DALI"))
    assert len(pil) == 5
    for one, other in zip(pil, dali, strict=True):
        assert one.name == other.name and one.frames.shape == other.frames.shape
        assert (
            one.num_objects == other.num_objects == 4
            and one.labels.dtype == other.labels.dtype == torch.uint8
        )
        assert ((one.frames - other.frames).abs().amax(1) > 1e-5).float().mean() < 0.004
        assert (one.labels != other.labels).float().mean() < 0.001


def test_both_loaders_choose_the_same_objects_out_of_more_than_five(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    labels = np.repeat(np.arange(9, dtype=np.uint8), 20)[None].repeat(90, 0)
    sets = write_still(tmp_path, np.stack([25 * labels] * 3, -1), labels)
    chosen = []
    for backend in ("PIL", "DALI"):
        clips = epoch_of(loader_of(backend, sets, (45, 90), samples_per_video=6))
        shown = [(values_of(clip), clip.labels.numpy()) for clip in clips]
        chosen.append([[int(np.median(v[labels == i])) // 25 for i in range(1, 6)] for v, labels in shown])
    assert chosen[0] == chosen[1] and all(len(set(ids)) == 5 for ids in chosen[0])
    assert len(set(map(tuple, chosen[0]))) > 1


def test_frames_of_two_shapes_in_one_video_are_refused_with_its_name(tmp_path: Path, backend: str) -> None:
    sets = write_still(tmp_path, np.zeros((60, 100, 3), np.uint8), np.ones((60, 100), np.uint8))
    trees.save_image(tmp_path / "JPEGImages/still/00001.png", np.zeros((80, 100, 3), np.uint8))
    trees.save_mask(tmp_path / "Annotations/still/00001.png", np.ones((80, 100), np.uint8))
    with pytest.raises(InputError, match="video x/still: .*100x60 and 100x80.*'augmentation'") as error:
        epoch_of(loader_of(backend, sets, (60, 100)))
    assert "\n" not in str(error.value)


def test_a_mask_of_another_size_is_named(tmp_path: Path, backend: str) -> None:
    sets = write_still(tmp_path, np.zeros((60, 100, 3), np.uint8), np.ones((30, 50), np.uint8))
    with pytest.raises(InputError, match="00000.png.*100x60.*50x30"):
        epoch_of(loader_of(backend, sets, (60, 100)))


def test_frames_are_normalised_by_one_mean_and_deviation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    always(monkeypatch, NOTHING)
    image = np.zeros((30, 50, 3), np.uint8)
    image[:, :, 1], image[:, :, 2] = 128, 255
    sets = write_still(tmp_path, image, np.ones((30, 50), np.uint8))
    (clip,) = epoch_of(loader_of(backend, sets, (30, 50)))
    expected = torch.tensor([-1.9911504, 0.2299150, 2.4336283])  # (0, 128/255, 1) - 0.45, by 0.226
    assert torch.allclose(clip.frames, expected[:, None, None].expand_as(clip.frames), atol=1e-5)


def test_synthetic_clips_are_normalised_so_but_not_augmented() -> None:
    sets = training_sets(Path("none"), ["PROCEDURAL"], [1])
    loaders = [loader_of("PIL", sets, (48, 64), augmentation=name) for name in ("paper", "dali")]
    paper, own = (next(loader.batches(0))[0] for loader in loaders)
    mean, std = (
        torch.tensor([[[0.485]], [[0.456]], [[0.406]]]),
        torch.tensor([[[0.229]], [[0.224]], [[0.225]]]),
    )
    assert torch.equal(paper.labels, own.labels)
    assert torch.allclose(paper.frames * std + mean, own.frames * 0.226 + 0.45, atol=1e-5)


# ---- the order of an epoch ----


def test_one_set_comes_after_the_other_in_random_order(sets: list[TrainingSet], backend: str) -> None:
    loader = loader_of(backend, sets, (24, 32), samples_per_video=2)
    orders, of_davis = set(), set()
    for epoch in range(12):
        names = [loader.sampler(epoch).draw(i).name for i in range(loader.clips_in_epoch)]
        runs = [(name, len(list(run))) for name, run in groupby(name.split("/")[0] for name in names)]
        assert dict(runs) == {"DAVIS17": 8, "VOS": 6, "FOLDER": 2} and len(runs) == 3
        orders.add(tuple(name for name, _ in runs))
        of_davis.add(tuple(name for name in names if name.startswith("DAVIS17")))
        assert sum(name == "DAVIS17/pair" for name in names) == 4
    assert len(orders) >= 4  # of six
    assert len(of_davis) > 6  # shuffled within the set


def test_the_sets_of_augmentation_paper_are_shuffled_together(sets: list[TrainingSet]) -> None:
    loader = loader_of("PIL", sets, (24, 32), samples_per_video=2, augmentation="paper")
    names = [loader.sampler(0).draw(i).name.split("/")[0] for i in range(loader.clips_in_epoch)]
    assert len(list(groupby(names))) > 5


def test_clips_depend_on_seed_epoch_and_position_alone(sets: list[TrainingSet], backend: str) -> None:
    """So that training resumes bit for bit, whatever the number of workers and processes."""
    first = epoch_of(loader_of(backend, sets, (24, 32)))
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(first, epoch_of(loader_of(backend, sets, (24, 32), workers=2, train_batch=3)))
    assert same(first[4:], epoch_of(loader_of(backend, sets, (24, 32), train_batch=2), start=2))
    two = [loader_of(backend, sets, (24, 32), train_batch=2, world_size=2, rank=rank) for rank in range(2)]
    assert same(
        first, [clip for step in zip(*(half.batches(0) for half in two)) for share in step for clip in share]
    )
    assert not same(first, epoch_of(loader_of(backend, sets, (24, 32)), epoch=1))
    assert not same(first, epoch_of(loader_of(backend, sets, (24, 32), seed=1)))
