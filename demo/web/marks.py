"""What a person has marked in a video: given masks, removed objects, and the labels that follow from them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.web.mask_files import MaskFiles
from libs.core.errors import InputError
from libs.core.masks import keep_objects, object_ids

MOST_OBJECTS = 254  # 255 is void
MOST_UNDONE = 20


@dataclass(frozen=True)
class Before:
    """What a change has replaced: files of frames, as MaskFiles.pack returns them, and tables."""

    first: int  # frame from which on something changed
    given: dict[int, bytes | None]
    labels: dict[int, bytes | None]
    ids: dict[int, frozenset[int]]
    removed: dict[int, frozenset[int]]
    stale: frozenset[int]


class MarkedVideo:
    """Given masks and labels of a video, on disk.

    given: of the objects that a person has drawn in a frame, and of no others.
    labels: what is shown and downloaded: predictions, with the given masks on top.
    ids: frame -> objects that `given` shows there.
    removed: frame -> objects that end before it.
    stale: frames whose labels were predicted before a change in an earlier frame.

    Args:
        folder: of its own; it is emptied.
        size: (H, W) of the frames.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.size = size
        self.given, self.labels = MaskFiles(folder / "given"), MaskFiles(folder / "labels")
        self.ids: dict[int, frozenset[int]] = {}
        self.removed: dict[int, frozenset[int]] = {}
        self.stale: set[int] = set()
        self._undo: list[Before] = []

    def objects(self) -> list[int]:
        """Ids of all objects, in ascending order."""
        return sorted(set().union(*self.ids.values()))

    def shown(self, t: int) -> list[int]:
        """Ids of the objects that may be seen in frame t: marked before or in it, and not removed since."""
        return [number for number in self.objects() if self._is_shown(number, t)]

    def read(self, t: int) -> np.ndarray:
        """The labels of frame t, (H, W) uint8; zeros if there are none."""
        labels = self.labels.read(t)
        return np.zeros(self.size, np.uint8) if labels is None else keep_objects(labels, self.shown(t))

    def mark(self, t: int, number: int, mask: np.ndarray) -> None:
        """Give the mask of one object in frame t, (H, W) bool. Other objects lose its pixels.

        Raises: InputError if the mask is empty.
        """
        if not mask.any():
            raise InputError(
                f"object {number} would have no pixels in this frame; to end it here, remove it from here on"
            )
        given = self.given.read(t)
        given = np.zeros(self.size, np.uint8) if given is None else np.where(given == number, 0, given)
        self.give(t, np.where(mask, number, given).astype(np.uint8))

    def give(self, t: int, given: np.ndarray) -> None:
        """Give the masks of frame t in place of all that were given there, labels (H, W) uint8."""
        labels = impose(self.read(t), given)
        self._remember(t, [t])
        self.given.write(t, given)
        self.labels.write(t, labels)
        self.ids[t] = frozenset(object_ids(given))
        self._age(t)
        self.stale.discard(t)

    def predicted(self, t: int, labels: np.ndarray) -> None:
        """Set the labels of frame t as they were tracked."""
        self.labels.write(t, labels)
        self.stale.discard(t)

    def remove(self, t: int, number: int) -> None:
        """End an object before frame t: it is in no mask from there on.

        Raises: InputError if it is not there.
        """
        if number not in self.shown(t):
            raise InputError(f"object {number} is not in this frame; choose one of {self.shown(t)}")
        later = [time for time, ids in self.ids.items() if time >= t and number in ids]
        self._remember(t, later)
        for time in later:
            given = self.given.read(time)
            assert given is not None
            self.ids[time] -= {number}
            if self.ids[time]:
                self.given.write(time, np.where(given == number, 0, given).astype(np.uint8))
            else:
                self.given.remove(time)
                del self.ids[time]
        self.removed[t] = self.removed.get(t, frozenset()) | {number}
        self._age(t - 1)

    def undo(self) -> int:
        """Take back the latest change. Returns: the frame from which on something changed.

        Raises: InputError if there is none.
        """
        if not self._undo:
            raise InputError("there is nothing to undo")
        before = self._undo.pop()
        for files, packed in ((self.given, before.given), (self.labels, before.labels)):
            for t, content in packed.items():
                files.unpack(t, content)
        self.ids, self.removed = dict(before.ids), dict(before.removed)
        self._age(before.first - 1)  # labels that were tracked since do not hold any more
        self.stale = (self.stale - before.labels.keys()) | (before.stale & self.labels.times)
        return before.first

    def _is_shown(self, number: int, t: int) -> bool:
        marked = _latest(self.ids, number, lambda time: time <= t)
        return marked is not None and _latest(self.removed, number, lambda time: marked < time <= t) is None

    def _age(self, t: int) -> None:
        """Let the labels after frame t be stale."""
        self.stale |= {time for time in self.labels.times if time > t}

    def _remember(self, first: int, frames: list[int]) -> None:
        """Keep the given masks and labels of these frames for `undo`."""
        given, labels = ({t: files.pack(t) for t in frames} for files in (self.given, self.labels))
        self._undo.append(
            Before(first, given, labels, dict(self.ids), dict(self.removed), frozenset(self.stale))
        )
        del self._undo[:-MOST_UNDONE]


def impose(labels: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Put given masks on top of labels, as the loop does: a given object is exactly its pixels.

    Args:
        labels, given: (H, W) uint8.
    """
    return np.where((given > 0) | np.isin(labels, object_ids(given)), given, labels).astype(np.uint8)


def _latest(table: dict[int, frozenset[int]], number: int, counts: Callable[[int], bool]) -> int | None:
    """The latest of the frames that count in which the table names an object."""
    return max((t for t, ids in table.items() if number in ids and counts(t)), default=None)
