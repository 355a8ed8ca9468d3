"""Dataclasses that the data sets and the network exchange, with shapes.

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
    """Where the frames and masks of a video are on disk; building it reads no pixel.

    frames: image files in order, or one video file.
    masks: position of a frame -> its annotation file.
    given: positions whose masks the network is given; the other masks serve scoring and training only.
    submitted: positions whose masks belong into a submission; None: all.
    binary: every label above 0 is one and the same object (DAVIS 2016 stores it as 255); None: that is so if
        the first mask that shows anything holds nothing but 0 and 255.
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
    """What both data back ends offer to training."""

    max_skip: list[int]

    def __len__(self) -> int: ...

    def clips_in_step(self, step: int) -> int:
        """Clips of one step, those of all processes together."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        """Yield this process's clips of each step of one epoch, from the start-th step on."""

    def grow_max_skip(self) -> None:
        """Widen the gaps between sampled frames by one increment of the curriculum."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a video at the resolution of its file."""

    name: str  # of the file, without suffix; the mask has it too
    image: np.ndarray  # (Hs, Ws, 3) uint8, RGB
    given: np.ndarray | None = None  # (Hs, Ws) uint8 labels that the network is given, objects 1..O
    truth: np.ndarray | None = None  # (Hs, Ws) uint8 ground truth to score with
    submitted: bool = True  # whether its mask is written


@dataclass(frozen=True)
class Video:
    """A video to segment, read one frame at a time."""

    name: str
    ids: tuple[int, ...]  # the data set's own labels of objects 1..O
    length: int  # in frames; 0 if it is not known, as for video files
    scored: bool  # every frame has ground truth
    read: Callable[[], Iterator[SourceFrame]]  # starts from the first frame at each call
    fingerprint: Callable[[], str] = str  # a text that changes with the frames and masks on disk


@dataclass(frozen=True)
class CorrectedFrame:
    """What gradient correction did to one frame."""

    steps: int  # fewer than `loop` if it stopped early
    loss_before: float
    loss_after: float
    milliseconds: float
    labels: tuple[np.ndarray, np.ndarray] | None = None  # (Hs, Ws) before and after, if there is ground truth


@dataclass(frozen=True)
class Prediction:
    """What the network predicts in one source frame."""

    frame: SourceFrame
    labels: np.ndarray  # (Hs, Ws) uint8, objects 1..O
    object_probs: np.ndarray | None  # (O, Hs, Ws) float32; None unless the settings ask for them
    correction: CorrectedFrame | None = None

    def with_ids(self, ids: tuple[int, ...]) -> "Prediction":
        """This prediction with the data set's own labels instead of 1..O."""
        return replace(self, labels=np.array((0, *ids), np.uint8)[self.labels])


@dataclass(frozen=True)
class RoundTrip:
    """The latest frame with a given mask, and the mask predicted for it from the newest frame alone."""

    frame: SourceFrame
    given: np.ndarray  # (Hs, Ws) uint8, its given mask, objects 1..O
    tracked: np.ndarray  # (Hs, Ws) uint8, all objects in that frame: as given, the others as predicted
    labels: np.ndarray  # (Hs, Ws) uint8, predicted back

    def with_ids(self, ids: tuple[int, ...]) -> "RoundTrip":
        """This round trip with the data set's own labels instead of 1..O."""
        table = np.array((0, *ids), np.uint8)
        return RoundTrip(self.frame, table[self.given], table[self.tracked], table[self.labels])
