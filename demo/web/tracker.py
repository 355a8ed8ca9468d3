"""Run a Segmenter through a video, and go back in it."""

from collections.abc import Collection

import numpy as np

from libs.app.segmenter import Segmenter

COPY_EVERY = 5  # frames
MOST_COPIES = 9  # the oldest is 640 to 1279 frames old


class Tracker:
    """A segmenter that knows which frame comes next, and keeps copies of itself to go back to.

    Near the newest frame the copies lie close together, before it ever further apart. So going back by n
    frames, n below 640, costs at most about 3n frames that are segmented again, and memory is bounded. After
    that, copies of the frames before are sparse: going back further at once costs more.

    Args:
        segmenter: that has seen no frame yet.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._copies: dict[int, Segmenter] = {}  # number of the frame that comes next -> state before it
        self.next = 0

    def forget_from(self, t: int) -> None:
        """Drop all that depends on the masks given in frame t or later."""
        self._copies = {time: copy for time, copy in self._copies.items() if time <= t}
        if self.next > t:
            self.go_back(t)

    def go_back(self, t: int) -> int:
        """Return to the latest state that has not seen frame t. Returns: the frame that comes next."""
        if self.next > t:
            self.next = max((time for time in self._copies if time <= t), default=0)
            self._copies = {time: copy for time, copy in self._copies.items() if time <= self.next}
            if self.next:
                self._segmenter = self._copies[self.next].copy()
            else:
                self._segmenter.reset()
        return self.next

    def step(
        self, image: np.ndarray, given: np.ndarray | None = None, removed: Collection[int] = ()
    ) -> np.ndarray:
        """Segment the next frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            given: (H, W) labels of the objects whose masks are given in it.
            removed: ids of objects that are tracked no longer from this frame on.
        Returns: (H, W) uint8 labels.
        """
        if self.next and self.next % COPY_EVERY == 0 and self.next not in self._copies:
            self._copies[self.next] = self._segmenter.copy()
            self._drop_copies()
        for number in removed:
            if number in self._segmenter.ids:
                self._segmenter.remove(number)
        labels = self._segmenter.step(image, given)
        self.next += 1
        return labels

    def drift(self) -> dict[int, float]:
        """Return IoU of each object in the latest frame with a given mask, see Segmenter.drift."""
        return self._segmenter.drift()

    def _drop_copies(self) -> None:
        """Keep the oldest copy of each age of 5 to 9, 10 to 19, 20 to 39, ... frames, and the newest one."""
        kept: dict[int, int] = {}  # power of two of the age -> time
        for time in sorted(self._copies):
            age = (self.next - time) // COPY_EVERY
            kept.setdefault(age.bit_length(), time)
        times = sorted(kept.values())[-MOST_COPIES:]
        self._copies = {time: self._copies[time] for time in times}
