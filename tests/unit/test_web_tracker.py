"""Going back in a video on the page: how many frames are segmented again, and how many states are kept."""

import numpy as np
import pytest

from demo.web.tracker import COPY_EVERY, MOST_COPIES, Tracker

FRAME = np.zeros((1, 1, 3), np.uint8)


class Counter:
    """In place of a Segmenter: the labels are the number of the frame."""

    ids = ()

    def __init__(self, frames: int = 0) -> None:
        self.frames = frames

    def step(self, image: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        self.frames += 1
        return np.full((1, 1), self.frames - 1)

    def copy(self) -> "Counter":
        return Counter(self.frames)

    def reset(self) -> None:
        self.frames = 0


def tracked(frames: int) -> Tracker:
    tracker = Tracker(Counter())
    for _ in range(frames):
        tracker.step(FRAME)
    return tracker


@pytest.mark.parametrize("now", [641, 1000, 1283, 2886])
def test_going_back_by_less_than_640_frames_costs_at_most_three_times_as_many(now: int) -> None:
    before = tracked(now)
    assert len(before._copies) <= MOST_COPIES
    for back in range(1, 640):
        tracker = Tracker(before._segmenter.copy())
        tracker._copies, tracker.next = dict(before._copies), now
        start = tracker.go_back(now - back)
        assert start <= now - back and now - start <= 3 * back + COPY_EVERY, (back, start)
        assert tracker.step(FRAME) == start  # the state is that of this frame
