"""The things that travel between the data sets and the engine, with their shapes.

Letters: T frames, O objects, H, W pixels of the network's input, Hs, Ws pixels of the source.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class VideoIndex:
    """Where a video lies on disk, known without reading a pixel.

    frames: image files in order, or one video file.
    masks: position of a frame -> its annotation file.
    given: positions whose masks are handed to the network; the other masks serve scoring and training only.
    submitted: positions whose masks belong into a submission; None: all.
    binary: every label above 0 is the same one object (DAVIS 2016 stores it as 255); None: where the first given mask
        holds nothing but 0 and 255.
    """

    name: str
    frames: tuple[Path, ...]
    masks: dict[int, Path] = field(default_factory=dict)
    given: tuple[int, ...] = (0,)
    submitted: tuple[int, ...] | None = None
    binary: bool | None = False

    @property
    def annotated(self) -> bool:
        """Whether every frame has a mask, so that predictions can be scored."""
        return len(self.masks) == len(self.frames) > 2


@dataclass(frozen=True)
class Clip:
    """A few frames of one video, augmented and brought to the network's input size, to train on."""

    name: str
    frames: Tensor  # (T, 3, H, W) float32, normalised
    labels: Tensor  # (T, H, W) uint8, 0 = background, objects 1..num_objects
    num_objects: int


class Loader(Protocol):
    """What both data back ends offer."""

    max_skip: list[int]

    def __len__(self) -> int: ...

    def clips_in_step(self, step: int) -> int:
        """Clips of one step, those of all processes together."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        """This process's clips of each step of one epoch, from the start-th step on."""

    def grow_max_skip(self) -> None:
        """One increment of the curriculum."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a video as it lies on disk."""

    name: str  # file name without suffix: the mask's name too
    image: np.ndarray  # (Hs, Ws, 3) uint8, RGB
    given: np.ndarray | None = None  # (Hs, Ws) uint8 labels handed to the network, objects 1..O, or None
    truth: np.ndarray | None = None  # (Hs, Ws) uint8 labels to score with, or None
    submitted: bool = True  # whether its mask is written


@dataclass(frozen=True)
class Video:
    """A video to segment, read one frame at a time."""

    name: str
    ids: tuple[int, ...]  # the data set's own labels of objects 1..O
    length: int  # frames; 0 where a video file does not tell
    scored: bool  # every frame brings its truth
    read: Callable[[], Iterator[SourceFrame]]  # starts from the first frame at each call


@dataclass(frozen=True)
class CorrectedFrame:
    """What gradient correction did to one frame."""

    steps: int  # fewer than `loop` where it stopped early
    loss_before: float
    loss_after: float
    milliseconds: float
    labels: tuple[np.ndarray, np.ndarray] | None = (
        None  # (Hs, Ws) before and after, where there is truth to compare with
    )


@dataclass(frozen=True)
class Prediction:
    """What the network says of one source frame."""

    frame: SourceFrame
    labels: np.ndarray  # (Hs, Ws) uint8, objects 1..O
    object_probs: np.ndarray | None  # (O, Hs, Ws) float32 for heat maps, or None where nobody asked for them

    correction: CorrectedFrame | None = None

    def with_ids(self, ids: tuple[int, ...]) -> "Prediction":
        """The same with the data set's own labels instead of 1..O."""
        return replace(self, labels=np.array((0, *ids), np.uint8)[self.labels])


@dataclass(frozen=True)
class RoundTrip:
    """The latest frame with a given mask, and what it is predicted to hold from the video's last frame alone."""

    frame: SourceFrame  # its `given` is the mask to come back to
    labels: np.ndarray  # (Hs, Ws) uint8, objects 1..O

    def with_ids(self, ids: tuple[int, ...]) -> "RoundTrip":
        """The same with the data set's own labels instead of 1..O."""
        table = np.array((0, *ids), np.uint8)
        return RoundTrip(replace(self.frame, given=table[self.frame.given]), table[self.labels])
