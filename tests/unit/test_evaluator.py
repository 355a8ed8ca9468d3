"""Dividing videos among processes, and joining what they report."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from libs.core.structures import Video
from libs.evaluation.evaluator import CorrectionRow, DriftRow, Report, RoundTripRow, share_videos
from libs.evaluation.scores import VideoScores


def videos(*lengths: int) -> list[Video]:
    return [Video(f"v{i}", length, lambda: iter(())) for i, length in enumerate(lengths)]


SHARES: dict[str, tuple[tuple[int, ...], int, list[list[int]]]] = {
    # lengths, processes, positions of each one's videos
    "one process": ((3, 9, 4), 1, [[0, 1, 2]]),
    "no videos": ((), 2, [[], []]),
    "fewer videos than processes": ((3, 9), 3, [[1], [0], []]),
    "the longest first": ((1, 2, 3, 10, 4), 2, [[3], [0, 1, 2, 4]]),
    "alike": ((5, 5, 5, 5, 5), 2, [[0, 2, 4], [1, 3]]),
    "unknown lengths": ((0, 0, 0, 0), 2, [[0, 2], [1, 3]]),
    "an unknown length is the mean": ((2, 0, 10, 5), 2, [[0, 2], [1, 3]]),  # 2, 5.67, 10, 5
}


@pytest.mark.parametrize("name", SHARES)
def test_how_videos_are_shared(name: str) -> None:
    lengths, processes, positions = SHARES[name]
    every = videos(*lengths)
    shares = share_videos(every, processes)
    assert [[every.index(video) for video in share] for share in shares] == positions
    assert shares == share_videos(every, processes)


def test_no_process_has_much_more_than_its_part() -> None:
    """More than the mean by one video at most, which is what dividing whole videos may cost."""
    every = videos(*np.random.default_rng(0).integers(20, 200, 90).tolist())
    frames = [sum(video.length for video in share) for share in share_videos(every, 8)]
    assert max(frames) - min(frames) < 20


def report(name: str, seconds: float = 1) -> Report:
    """What one video brings: two corrected frames, and everything else once."""
    scores = VideoScores(name, (1,), (np.ones(1),), (np.ones(1),), (("00005",),))
    corrections = [CorrectionRow(name, frame, 1, 2, 1, 5, None, None) for frame in ("00005", "00010")]
    return Report(
        scores=[scores],
        copies=[scores],
        unscored=[name],
        corrections=corrections,
        round_trips=[RoundTripRow(name, 1, None)],
        drift=[DriftRow(name, "00005", 1, 1, None)],
        failed=[(name, "why")],
        frames=10,
        seconds=seconds,
    )


def test_the_rows_of_a_group_are_ordered_as_the_set() -> None:
    order = ["z", "a", "m", "b"]
    first, second = (reduce(Report.then, map(report, part)) for part in ("ab", "zm"))
    joined = first.beside(second).ordered(order)
    assert joined == replace(reduce(Report.then, map(report, order)), seconds=joined.seconds)
    assert (joined.frames, joined.seconds) == (40, 2)


def test_the_speed_is_that_of_the_group() -> None:
    group = report("a", seconds=4).beside(report("b", seconds=2))
    assert group.speed(2) == (
        "20 frames in 4.0 s: 5.00 frames per second in 2 processes; "
        "gradient correction took 0.0 s in all processes together, 5 ms for each of 4 frames"
    )
    assert report("a").speed() == (
        "10 frames in 1.0 s: 10.00 frames per second; "
        "gradient correction took 0.0 s, 5 ms for each of 2 frames"
    )
