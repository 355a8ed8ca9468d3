"""A threshold on the round trip IoU that finds bad masks."""

import numpy as np
import pytest

from analysis.drift import alarm, best_threshold, check_both_kinds, roc, split_videos
from libs.core.errors import InputError
from libs.evaluation.evaluator import DriftRow


def test_a_perfect_alarm() -> None:
    ious, bad = np.array([0.1, 0.2, 0.7, 0.9]), np.array([True, True, False, False])
    curve = roc(ious, bad)
    assert curve.area == 1 and best_threshold(curve) == 0.2
    result = alarm(ious, bad, 0.2)
    assert (result.found, result.false_alarms, result.precision) == (1, 0, 1)


def test_the_area_is_the_probability_of_the_right_order() -> None:
    rng = np.random.default_rng(0)
    ious, bad = rng.random(60).round(1), rng.random(60) < 0.4  # rounded: with ties
    pairs = [(a < b) + 0.5 * (a == b) for a in ious[bad] for b in ious[~bad]]
    assert roc(ious, bad).area == pytest.approx(np.mean(pairs))


def test_an_alarm_counts_fractions_by_hand() -> None:
    """At 0.5: two of three bad masks, one of two good ones, so two of three alarms are right."""
    result = alarm(np.array([0.1, 0.5, 0.8, 0.4, 0.9]), np.array([True, True, True, False, False]), 0.5)
    assert (result.found, result.false_alarms) == (2 / 3, 1 / 2) and result.precision == 2 / 3


def test_no_video_is_in_both_halves() -> None:
    rows = [DriftRow(f"v{n % 5}", f"{n:05d}", 1, 0.5, 0.5) for n in range(20)]
    one, other = split_videos(rows)
    assert len(one) + len(other) == 20 and not {r.video for r in one} & {r.video for r in other}


def test_a_half_of_one_kind_is_an_error() -> None:
    rows = [DriftRow("v", "0", 1, 0.5, 0.9)]
    with pytest.raises(InputError, match="drift_every 5"):
        check_both_kinds(rows, rows)
