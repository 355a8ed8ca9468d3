"""Attributes of objects in clips whose answers are known."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from analysis.attributes import Line, by_age, by_attribute, by_list
from analysis.object_attributes import Ages, Attributes, lookalike_distance, measure_video
from libs.core.structures import SourceFrame, Video

SIZE = (96, 128)
RED, GREY = (200, 30, 30), (110, 110, 110)


def square(top: int, left: int, side: int = 16) -> np.ndarray:
    """(H, W) bool; what lies outside the frame is cut off."""
    mask = np.zeros(SIZE, bool)
    mask[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = True
    return mask


def measured(
    masks: list[np.ndarray | None], paint: Callable[[int], np.ndarray] | None = None
) -> tuple[Attributes, Ages]:
    """Measure object 1 of a clip; masks[t] is None where frame t has no mask."""
    noise = np.random.default_rng(0).integers(-20, 20, (*SIZE, 1))
    frames = []
    for t, mask in enumerate(masks):
        image = np.clip(np.array(GREY) + noise, 0, 255).astype(np.uint8)
        if mask is not None:
            image[mask] = RED
        if paint is not None:
            image[paint(t)] = RED
        labels = None if mask is None else mask.astype(np.uint8)
        roles = {"given": labels} if t == 0 else {"truth": labels, "scored": (1,)}
        frames.append(SourceFrame(f"{t:05d}", image, **(roles if mask is not None else {})))
    ((attributes, ages),) = measure_video(Video("clip", len(frames), lambda: iter(frames)))
    return attributes, ages


def test_an_object_at_rest() -> None:
    a, _ = measured([square(40, 50)] * 4)
    assert a.size == pytest.approx(256 / (96 * 128)) and (a.speed, a.deformation) == (0, 0)
    assert (a.hidden, a.reappearances, a.border, a.lookalike) == (0, 0, 0, math.inf)
    assert a.motion < 0.02


def test_speed_is_the_way_in_diameters() -> None:
    """A square of 16 pixels moves by 4 a frame; so does one whose masks are given in every second frame."""
    a, _ = measured([square(40, 20 + 4 * t) for t in range(6)])
    assert a.speed == pytest.approx(4 / 16) and a.deformation == 0 and a.motion > 0.1
    sparse, _ = measured([square(40, 20 + 4 * t) if t % 2 == 0 else None for t in range(7)])
    assert sparse.speed == pytest.approx(4 / 16)


def test_deformation_ignores_motion() -> None:
    """From 16x16 to its middle half and back: IoU 1/2 each time, while it moves."""
    a, _ = measured([_half(40, 20 + 8 * t) if t % 2 else square(40, 20 + 8 * t) for t in range(4)])
    assert a.deformation == pytest.approx(0.5, abs=0.04)


def _half(top: int, left: int) -> np.ndarray:
    """The middle half of a square of 16 pixels."""
    mask = np.zeros(SIZE, bool)
    mask[top + 4 : top + 12, left : left + 16] = True
    return mask


def test_what_no_frame_can_tell_has_no_value() -> None:
    """One frame shows no speed: the object is neither fast nor slow."""
    nothing = np.zeros(SIZE, bool)
    a, _ = measured([square(40, 20), nothing, nothing])
    assert (a.speed, a.motion, a.deformation) == (None, None, None) and a.border == 0
    key = ("clip", 1)
    counts = {line.label.strip(): line.count for line in by_attribute({key: a}, {key: {"00001": 0.5}})}
    assert counts["not fast"] == counts["fast (speed of at least 0.1)"] == 0
    assert counts["not at the border"] == counts["hidden (hidden in some frame)"] == 1


def test_a_video_that_the_data_set_does_not_describe_is_in_no_line() -> None:
    J = {(video, 1): {"00001": value} for video, value in (("a", 0.9), ("b", 0.5), ("undescribed", 0.1))}
    lines = {line.label.strip(): line for line in by_list({"a": ["FM"], "b": ["OCC"]}, J)}
    assert {label: line.mean for label, line in lines.items()} == {
        "FM": 0.9, "not FM": 0.5, "OCC": 0.5, "not OCC": 0.9
    }  # fmt: skip


def test_hidden_frames_and_reappearances_are_counted_from_the_first_mask_on() -> None:
    nothing, shown = np.zeros(SIZE, bool), square(40, 50)
    a, ages = measured([shown, nothing, nothing, shown, nothing, shown, shown])
    assert a.hidden == pytest.approx(3 / 7) and a.reappearances == 2
    assert [ages[f"{t:05d}"] for t in range(7)] == [
        (0, None), (1, None), (2, None), (3, 0), (4, 1), (5, 0), (6, 1)
    ]  # fmt: skip


def test_contact_with_the_border() -> None:
    a, _ = measured([square(40, 128 - 16 - max(0, 4 - 2 * t)) for t in range(4)])
    assert a.border == pytest.approx(2 / 4)


@pytest.mark.parametrize("distance", [24, 40, 64])
def test_the_distance_to_a_region_of_the_same_colour(distance: int) -> None:
    """A second red square; the nearest window that scores half of the object's own lies half on it."""
    a, _ = measured([square(40, 20)] * 3, lambda t: square(40, 20 + distance))
    assert a.lookalike == pytest.approx((max(distance - 8, 16)) / 16, abs=0.15)


def test_colours_of_others_do_not_count() -> None:
    colours = np.zeros(SIZE, np.int64)
    colours[square(40, 20)], colours[square(40, 70)] = 3, 4
    assert lookalike_distance(square(40, 20), colours) == math.inf


def test_values_are_binned_by_age() -> None:
    ages = {("v", 1): {"a": (1, None), "b": (5, 0), "c": (6, 1), "d": (90, 85)}}
    J = {("v", 1): {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.7}}
    since_given = {line.label: line.mean for line in by_age(ages, J, 0)}
    assert since_given["0 to 5 frames"] == pytest.approx(0.2) and since_given["6 to 10 frames"] == 0.5
    assert since_given["81 frames and more"] == 0.7 and since_given["11 to 20 frames"] is None
    assert by_age(ages, J, 1)[0].mean == pytest.approx(0.4)


def test_a_line_weighs_values_not_videos() -> None:
    line = Line.of("x", {"a": [0.0, 0.0, 0.0], "b": [1.0], "c": []})
    assert line.count == 4 and line.mean == 0.25 and line.interval == (0.0, 1.0)
