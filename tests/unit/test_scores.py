"""Scores against the official evaluation's numbers, and cases that the protocol leaves open."""

import csv
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.evaluation.scores import (
    Measure,
    ObjectScores,
    Summary,
    VideoScorer,
    VideoScores,
    format_table,
    j_and_f,
    measure,
    summarise,
    write_csv,
)
from tests.helpers.truth import score

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"
SEQUENCES = ("two_discs", "one_disc_480p", "three_discs")
SIZE = (40, 60)


def squares(*corners: int) -> np.ndarray:
    """Label map with a 10x10 square per object in column `corner`; negative: the object is absent."""
    labels = np.zeros(SIZE, np.uint8)
    for label, corner in enumerate(corners, start=1):
        if corner >= 0:
            labels[10:20, corner : corner + 10] = label
    return labels


def assert_finite(scores: VideoScores) -> None:
    assert all(np.isfinite(values).all() for values in scores.jaccard + scores.boundary)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_golden_frames_and_objects(sequence: str) -> None:
    golden = np.load(GOLDEN)
    scores = score(list(golden[f"{sequence}_pred"]), list(golden[f"{sequence}_gt"]))
    np.testing.assert_allclose(scores.jaccard, golden[f"{sequence}_J"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.boundary, golden[f"{sequence}_F"], rtol=0, atol=1e-9)
    stats = [[o.J.mean, o.J.recall, o.J.decay, o.F.mean, o.F.recall, o.F.decay] for o in scores.objects]
    np.testing.assert_allclose(stats, golden[f"{sequence}_stats"], rtol=0, atol=1e-9)


def test_golden_global() -> None:
    golden = np.load(GOLDEN)
    summary = summarise(score(list(golden[f"{s}_pred"]), list(golden[f"{s}_gt"])) for s in SEQUENCES)
    J, F = summary.J, summary.F
    values = [j_and_f(summary), J.mean, J.recall, J.decay, F.mean, F.recall, F.decay]
    np.testing.assert_allclose(values, golden["global"], rtol=0, atol=1e-9)


def test_first_and_last_frame_do_not_count() -> None:
    truth = [squares(5)] * 5
    scores = score([None, truth[1], truth[2], truth[3], None], truth)
    np.testing.assert_array_equal(scores.jaccard, np.ones((1, 3)))
    np.testing.assert_array_equal(scores.boundary, np.ones((1, 3)))


def test_void_is_background_on_both_sides() -> None:
    clean = [squares(5, 30)] * 4
    void = [np.where(labels == 0, 255, labels).astype(np.uint8) for labels in clean]
    for labels, truth in ((clean, void), (void, clean), (void, void)):
        scores = score(labels, truth)
        np.testing.assert_array_equal(scores.jaccard, np.ones((2, 2)))
        np.testing.assert_array_equal(scores.boundary, np.ones((2, 2)))


def test_labels_beyond_the_first_mask_do_not_count() -> None:
    truth = [squares(5), squares(5, 30), squares(5, 30), squares(5, 30)]
    with pytest.warns(UserWarning, match=r"not show: 2 \(from frame 00001\)"):
        scores = score([squares(5, -1, 45)] * 4, truth)
    assert scores.ids == (1,)
    np.testing.assert_array_equal(scores.jaccard, np.ones((1, 2)))


def test_a_label_below_the_first_masks_counts_no_more_than_one_above() -> None:
    """Which objects are scored does not depend on their numbers."""
    truth = [squares(-1, 30), squares(-1, 30), squares(5, 30), squares(5, 30)]
    with pytest.warns(UserWarning, match=r"not show: 1 \(from frame 00002\)"):
        scores = score([squares(-1, 30)] * 4, truth)
    assert scores.ids == (2,)
    np.testing.assert_array_equal(scores.jaccard, [[1, 1]])


def test_missing_object_and_missing_prediction_score_zero() -> None:
    truth = [squares(5, 30)] * 5
    scores = score([truth[0], squares(5), None, truth[3], truth[4]], truth)
    np.testing.assert_array_equal(scores.jaccard, [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(scores.boundary, [[1, 0, 1], [0, 0, 1]])


def test_vanished_object_is_right_when_empty_and_wrong_when_not() -> None:
    truth = [squares(5), squares(5), squares(), squares(), squares(5)]
    scores = score([squares(5), squares(5), None, squares(5), squares(5)], truth)
    np.testing.assert_array_equal(scores.jaccard, [[1, 1, 0]])
    np.testing.assert_array_equal(scores.boundary, [[1, 1, 0]])


def test_object_that_covers_the_frame_has_no_boundary() -> None:
    full = np.ones(SIZE, np.uint8)
    scores = score([full] * 4, [full, full, squares(5), full])
    np.testing.assert_array_equal(scores.boundary, [[1, 0]])


def test_boundary_is_right_within_the_tolerance_only() -> None:
    truth = [squares(10)] * 4  # the diagonal of 40x60 gives a disk of radius 1
    scores = score([truth[0], squares(11), squares(15), truth[3]], truth)
    assert scores.boundary[0][0] == 1
    assert 0 < scores.boundary[0][1] < 1


def test_an_empty_first_mask_is_not_a_first_mask() -> None:
    scores = score([squares(5)] * 4, [squares()] + [squares(5)] * 3)
    np.testing.assert_array_equal(scores.jaccard, [[1]])  # frame 1 is given, frame 3 is the last


def test_masks_without_objects_give_no_objects() -> None:
    scores = score([squares(5)] * 4, [squares()] * 4)
    assert scores.objects == [] and scores.jaccard == ()
    assert "nan" not in format_table(summarise([scores]))


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_nothing_to_score_is_a_dash(frames: int, tmp_path: Path) -> None:
    scores = score([squares(5)] * frames, [squares(5)] * frames)
    assert [values.shape for values in scores.jaccard + scores.boundary] == [(0,)] * 2 * min(frames, 1)
    summary = summarise([scores])
    table = format_table(summary)
    assert "nan" not in table and table.splitlines()[-1].split() == ["global"] + ["-"] * 7
    write_csv(tmp_path / "scores.csv", summary)
    assert "nan" not in (tmp_path / "scores.csv").read_text()


def test_one_scored_frame_has_no_decay() -> None:
    half = squares(5)
    half[:, 10:] = 0
    scores = score([squares(5), half, squares(5)], [squares(5)] * 3)
    assert Measure(mean=0.5, recall=0.0, decay=0.0) == scores.objects[0].J  # 0.5 is not strictly above 0.5
    assert_finite(scores)


def test_unscored_videos_stay_out_of_the_mean() -> None:
    good, short = score([squares(5)] * 4, [squares(5)] * 4), score([None] * 2, [squares(5)] * 2)
    summary = summarise([good, short])
    assert Measure(1, 1, 0) == summary.J and len(summary.objects) == 2


def test_objects_weigh_the_same_whatever_video_they_are_in() -> None:
    two = score([squares(5, 30)] * 4, [squares(5, 30)] * 4)
    one = score([None] * 4, [squares(5)] * 4)
    assert summarise([two, one]).J.mean == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "count, first, last",
    [
        (1, [0], [0]),
        (2, [0], [1]),
        (4, [0, 1], [2, 3]),
        (5, [0, 1], [3, 4]),
        (300, range(0, 76), range(224, 300)),
    ],
)
def test_decay_bins_share_their_ends(count: int, first: list[int], last: list[int]) -> None:
    values = np.linspace(0.9, 0.1, count) ** 2
    assert measure(values).decay == pytest.approx(values[list(first)].mean() - values[list(last)].mean())


def test_sizes_that_differ_name_the_video_and_both() -> None:
    scorer = VideoScorer("bear")
    with pytest.raises(InputError, match=r"bear.*20x30.*40x60"):
        scorer.feed("00000", np.zeros((20, 30), np.uint8), squares(5), [1])


def test_ids_of_the_data_set_are_shown() -> None:
    truth = [np.array([0, 7, 3], np.uint8)[squares(5, 30)]] * 4
    scores = score(truth, truth)
    assert [o.object_id for o in scores.objects] == [3, 7]
    np.testing.assert_array_equal(scores.jaccard, np.ones((2, 2)))


def test_reused_buffers_do_not_matter() -> None:
    labels, truth, scorer = squares(5), squares(5), VideoScorer("clip")
    for corner in (5, 15, 25, 35):
        labels[:], truth[:] = squares(corner), squares(corner)
        scorer.feed(f"{corner}", labels, truth, [1])
    np.testing.assert_array_equal(scorer.result([1]).jaccard, np.ones((1, 4)))


@pytest.fixture
def summary() -> Summary:
    J, F = Measure(0.12345678901234567, 0.25, -0.0001), Measure(0.5, 1.0, 0.125)
    return Summary((ObjectScores("bear", 1, J, F), ObjectScores("two words", 12, None, None)), J, F)


def test_table_is_aligned_and_in_percent(summary: Summary) -> None:
    table = format_table(summary, {"copy of the first mask": summary}).splitlines()
    assert len(set(map(len, table))) == 1
    assert table[2].split() == ["bear", "1", "12.3", "25.0", "0.0", "50.0", "100.0", "12.5", "31.2"]
    assert table[3].split() == ["two", "words", "12"] + ["-"] * 7
    assert table[5].split() == ["global"] + table[2].split()[2:]
    assert table[6].startswith("copy of the first mask")


def test_csv_keeps_full_precision_and_leaves_no_temporary_file(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.csv"
    write_csv(path, summary, {"copy of the first mask": summary})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == ["bear", "two words", "global", "copy of the first mask"]
    assert float(rows[0]["J mean"]) == summary.J.mean and float(rows[2]["J&F"]) == j_and_f(summary)
    assert rows[1]["object"] == "12" and rows[1]["J mean"] == ""
    assert [p.name for p in path.parent.iterdir()] == ["scores.csv"]


def test_csv_that_fails_leaves_the_old_one(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write_csv(path, summary, {"broken": None})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
