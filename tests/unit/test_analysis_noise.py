"""Damaged masks: areas and IoU against closed forms, which masks they reach, and no damage at all."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.damage import DamagedMemory, damage_given, damage_labels, damage_masks
from analysis.noise import Damage, both_settings, first_frames, measure
from dataset.build import test_videos as videos_of
from libs.core.errors import UnreadableError
from libs.core.masks import one_hot
from libs.core.structures import Video
from libs.evaluation.evaluator import evaluate
from libs.evaluation.inference import FrameReader, InferenceSettings, VideoSegmenter, segment_video
from libs.method.cycle import mask_gradient
from libs.method.propagate import Propagation, Remember, Step
from models.stm import STM
from tests.helpers import fake_datasets
from tests.helpers.settings import plain_settings
from tests.unit.test_propagate import Tracker
from tests.unit.test_segmenter import small_network

SIZE = (48, 64)
KINDS = ("shift", "erode", "wrong")
AMOUNTS = (0.25, 0.5, 0.75, 1.0)


def damaged(labels: np.ndarray, kind: str, amount: float) -> np.ndarray:
    return damage_labels(labels, partial(damage_masks, kind=kind, amount=amount))


def square(left: int, side: int = 20, label: int = 1, size: tuple[int, int] = (60, 200)) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    labels[20 : 20 + side, left : left + side] = label
    return labels


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


# ---- known amounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", AMOUNTS)
def test_the_iou_of_a_shifted_square(amount: float) -> None:
    """Of side 1, shifted by a: 1 - a in common, 1 + a in both together."""
    labels = square(10)
    found = damaged(labels, "shift", amount)
    assert np.array_equal(found, np.roll(labels, round(20 * amount), 1))
    assert iou(found > 0, labels > 0) == pytest.approx((1 - amount) / (1 + amount))


def test_a_shift_goes_to_the_side_with_more_room() -> None:
    assert np.flatnonzero(damaged(square(10), "shift", 0.5).any(0))[0] == 20
    assert np.flatnonzero(damaged(square(150), "shift", 0.5).any(0))[0] == 140


@pytest.mark.parametrize("ring", [1, 2, 5])
def test_a_square_that_loses_a_ring(ring: int) -> None:
    """If the ring is a fraction of the area, the outermost pixels are the ring."""
    side, labels = 20, square(10)
    inner = side - 2 * ring
    found = damaged(labels, "erode", 1 - inner**2 / side**2)
    expected = np.zeros_like(labels)
    expected[20 + ring : 40 - ring, 10 + ring : 30 - ring] = 1
    assert np.array_equal(found, expected) and found.sum() == inner**2


@pytest.mark.parametrize("amount", [0.1, 0.25, 0.5, 0.9])
def test_erosion_leaves_the_rest_of_the_area(amount: float) -> None:
    y, x = np.mgrid[:60, :200]
    labels = (((y - 30) / 20) ** 2 + ((x - 70) / 40) ** 2 < 1).astype(np.uint8)
    found = damaged(labels, "erode", amount)
    assert found.sum() == labels.sum() - round(amount * labels.sum()) and not (found > labels).any()


def test_the_edge_of_the_frame_is_no_contour() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:, :6] = 1
    assert np.array_equal(damaged(labels, "erode", 0.5)[0], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("amount", AMOUNTS)
def test_a_single_object_gets_as_much_of_what_is_beside_it(amount: float) -> None:
    labels = square(10)
    found, lost = damaged(labels, "wrong", amount), round(20 * amount)
    columns = np.flatnonzero(found.any(0)).tolist()
    assert columns == [*range(10 + lost, 30), *range(30, 30 + lost)]  # moved by its width, which is 20
    assert iou(found > 0, labels > 0) == pytest.approx((1 - amount) / (1 + amount))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_objects_exchange_a_fraction_of_their_pixels(amount: float) -> None:
    """1 gets it of 2, 2 of 3, 3 of 1; with amount 1 each mask is that of another object."""
    ids, sides = (4, 7, 9), (20, 12, 16)
    labels = sum(square(50 * i, side, label) for i, (side, label) in enumerate(zip(sides, ids)))
    found = damaged(labels, "wrong", amount)
    moved = [round(amount * side**2) for side in sides]
    for i, label in enumerate(ids):
        other = (i + 1) % 3
        assert (found == label).sum() == sides[i] ** 2 - moved[i] + moved[other]
        assert ((found == label) & (labels == ids[other])).sum() == moved[other]
    assert np.array_equal(found > 0, labels > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_soft_masks_stay_masks_and_their_pixels_are_those_of_the_labels(kind: str) -> None:
    """A soft mask whose likeliest channels are a label map is damaged as this map is."""
    labels = np.maximum(square(20, 20, 1), square(100, 12, 2))
    hard = one_hot(torch.from_numpy(labels), 3)
    noise = torch.rand(hard.shape, generator=torch.Generator().manual_seed(0))
    soft = (0.7 * hard + 0.3 * noise / noise.sum(0)).float()
    found = damage_masks(soft, kind, 0.5)
    torch.testing.assert_close(found.sum(0), torch.ones(labels.shape), rtol=0, atol=1e-6)
    assert found.min() >= 0 and found.dtype == soft.dtype
    assert np.array_equal(found.argmax(0).numpy(), damaged(labels, kind, 0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_without_pixels_or_amount_nothing_changes(kind: str) -> None:
    masks = one_hot(torch.from_numpy(square(20)), 2)
    assert torch.equal(damage_masks(masks, kind, 0), masks)
    empty = one_hot(torch.zeros(10, 10, dtype=torch.uint8), 2)
    assert torch.equal(damage_masks(empty, kind, 0.5), empty)


# ---- which masks they reach -------------------------------------------------------------------------------


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Objects 1 and 4 in six frames, with ground truth."""
    fake_datasets.folder(tmp_path, objects=(1, 4), frames=6)
    return videos_of(tmp_path, "FOLDER", "val")[0]


def settings(**changes: object) -> InferenceSettings:
    return plain_settings(SIZE, max_size=64, save_freq=2, **{"correction_rate": 20.0, **changes})


def steps_of(model: STM, video: Video, memory: Remember | None) -> list[Step]:
    """The steps of the time loop, whose masks are what the memory gets."""
    with torch.no_grad():
        loop = Propagation(model, 2, memory)
        reader = FrameReader(video.name, settings().views)
        return [loop.step(reader.read(frame).inputs[0]) for frame in video.read()]


def half(masks: Tensor) -> Tensor:
    return damage_masks(masks, "erode", 0.5)


def test_given_masks_are_damaged_and_no_others(video: Video) -> None:
    model, ious = small_network(), []
    shown = damage_given(video, half, ious)
    steps, plain = steps_of(model, shown, None), steps_of(model, video, None)
    assert torch.equal(steps[0].masks[0], half(plain[0].masks[0]))
    assert torch.equal(steps[5].reference.masks, steps[0].masks)  # correction knows no better mask
    for step in steps[1:]:
        assert torch.equal(step.masks, step.probs) and not step.given
    truths = [[frame.truth for frame in source.read()] for source in (shown, video)]
    assert all(np.array_equal(one, other) for one, other in zip(*truths))
    assert ious[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("loop", [0, 2])
def test_remembered_masks_are_damaged_and_no_others(video: Video, loop: int) -> None:
    """Those of frames 2 and 4 at save_freq 2, before they are corrected; the given one stays true."""
    model, memory = small_network(), DamagedMemory(settings(loop=loop).correction(), half)
    plain = steps_of(model, video, None)
    seen: list[tuple[Tensor, Tensor, Tensor] | None] = []

    def remember(step: Step):
        found = memory(step)
        seen.append(memory.newest)
        return found

    steps = steps_of(model, video, remember)
    assert torch.equal(steps[0].masks, plain[0].masks)
    assert torch.equal(steps[5].reference.masks, plain[0].masks)
    for step, newest in zip(steps[1:], seen, strict=True):
        if step.t not in (2, 4):
            assert newest is None and torch.equal(step.masks, step.probs)
            continue
        predicted, wrong, kept = newest
        assert torch.equal(predicted, step.probs) and torch.equal(wrong[0], half(step.probs[0]))
        assert torch.equal(kept, step.masks) and torch.equal(kept, wrong) == (loop == 0)
        assert not torch.equal(wrong, predicted)
        assert (step.correction is None) == (loop == 0)


def test_correction_starts_with_the_damaged_masks(video: Video) -> None:
    """A step down the gradient at the damaged masks, computed beside it."""
    correction = settings(loop=1, correction_rate=7.0).correction()
    memory, model = DamagedMemory(correction, half), small_network()
    step = steps_of(model, video, memory)[2]
    wrong, kept = half(step.probs[0])[None], step.masks
    _, gradient = mask_gradient(replace(step, masks=step.probs), wrong)
    torch.testing.assert_close(kept, wrong - 7.0 * gradient)


@pytest.mark.parametrize("where, loop", [("given", 0), ("remembered", 0), ("remembered", 1)])
def test_no_damage_is_the_run_of_test_py(video: Video, where: str, loop: int) -> None:
    """Scores and each label, to the last bit."""
    model, plain, damage = small_network(), settings(loop=loop), Damage(where, "wrong", 0.0)
    labels: list[np.ndarray] = []
    expected = evaluate(model, [video], plain, lambda _, prediction: labels.append(prediction.labels)).summary
    row = measure(model, plain, video, damage)
    assert expected.J and expected.F and (expected.J.mean, expected.F.mean) == (row.J, row.F)
    segmenter = VideoSegmenter(model, plain, DamagedMemory(plain.correction(), damage))
    for found, known in zip(segment_video(segmenter, damage_given(video, damage, [])), labels, strict=True):
        assert np.array_equal(found.labels, known)
    assert len({known.tobytes() for known in labels}) > 3  # something moves


def test_the_rows_of_a_tracker_that_makes_no_errors(video: Video) -> None:
    """What is measured of the memory: predicted without error, damaged by half, and kept so."""
    row = measure(Tracker(), settings(), video, Damage("remembered", "erode", 0.5))
    assert (row.J, row.memory_predicted, row.iou) == (1, 1, row.memory_damaged)
    assert row.memory_damaged == row.memory_kept == pytest.approx(0.5, abs=0.02)
    row = measure(Tracker(), settings(), video, Damage("given", "wrong", 1.0))
    assert row.J == 0 and row.iou == 0 and row.memory_damaged == 0  # each object follows the other one


def test_an_object_that_vanishes_from_its_given_mask_is_an_error(video: Video) -> None:
    with pytest.raises(UnreadableError, match="--amounts: nothing is left of object 1, 4 .* frame 00000"):
        measure(small_network(), settings(), video, Damage("given", "erode", 1.0))


def test_first_frames_and_both_settings(video: Video) -> None:
    short = first_frames(video, 4)
    assert [frame.name for frame in short.read()] == ["00000", "00001", "00002", "00003"]
    assert short.length == 4 and len(list(short.read())) == 4
    without, corrected = both_settings(settings(loop=0, save_corrected=True))
    assert (without.loop, corrected.loop) == (0, 10) and not corrected.save_corrected
    assert both_settings(settings(loop=3))[1].loop == 3
