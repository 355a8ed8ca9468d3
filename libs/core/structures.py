"""Dataclasses that the data sets and the network exchange, with shapes.

Letters: T frames, O objects, H, W pixels of the network's input, Hs, Ws pixels of the source.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from libs.core.shards import File


@dataclass(frozen=True)
class VideoIndex:
    """Where the frames and masks of a video are on disk or in tar shards; building it reads no pixel.

    frames: image files in order, or one video file.
    masks: position of a frame -> its annotation file.
    object_masks: position of a frame -> label -> the mask of this one object, if each object has a folder of
        masks; `masks` then holds the first of these files.
    protocol: which objects are given and scored where, one of those that dataset/protocol.py names.
    objects: ids of all objects, if a list of the data set names them; one that no mask shows is warned of.
    submitted: positions whose masks belong into a submission; None: all.
    scored: object -> positions in which it is scored; None: those that the protocol names for all objects.
    unseen: ids of objects whose category the training split does not show; None: there is no such division.
    binary: every label above 0 is one and the same object (DAVIS 2016 stores it as 255); None: that is so if
        the first mask that shows anything holds nothing but 0 and 255.
    """

    name: str
    frames: Sequence[File]
    masks: Mapping[int, File] = field(default_factory=dict)
    protocol: str = "own set"
    objects: tuple[int, ...] = ()
    submitted: tuple[int, ...] | None = None
    binary: bool | None = False
    object_masks: dict[int, dict[int, File]] = field(default_factory=dict)
    scored: dict[int, tuple[int, ...]] | None = None
    unseen: tuple[int, ...] | None = None

    def mask_files(self) -> list[tuple[int, File]]:
        """List each annotation file, with the position of its frame, in the order of the frames."""
        files = {t: self.object_masks.get(t, {0: path}).values() for t, path in self.masks.items()}
        return [(t, path) for t in sorted(files) for path in files[t]]


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
    """One frame of a video at the resolution of its file. Labels are the ids of the data set."""

    name: str  # of the file, without suffix; the mask has it too
    image: np.ndarray  # (Hs, Ws, 3) uint8, RGB
    given: np.ndarray | None = None  # (Hs, Ws) uint8 labels of the objects whose masks are given here, if any
    truth: np.ndarray | None = None  # (Hs, Ws) uint8 ground truth of the objects `scored`, if there are any
    scored: tuple[int, ...] = ()  # ids of the objects to score here, also if `truth` does not show them
    submitted: bool = True  # whether its mask is written
    file: str = ""  # name of its image file; '' for a frame of a video file


@dataclass(frozen=True)
class Scoring:
    """What the benchmark of a video reports.

    measures: of "J", "F", "J_tr" (J of the last quarter) and "V" (deviation over the frames).
    unseen: ids of objects whose category the training split does not show; None: there is no such division.
    """

    measures: tuple[str, ...] = ("J", "F")
    unseen: tuple[int, ...] | None = None


J_AND_F = Scoring()


@dataclass(frozen=True)
class Video:
    """A video to segment, read one frame at a time.

    read: yields the frames, from the first one at each call.
    read_backward: yields the frames from the last one in which an object first appears to the first one, with
        the same given masks; none if all objects appear in the first one. `scratch` is an empty folder, in
        which it may keep frames.
    scored: whether masks are left to score with, beside the given ones.
    describe: says in one line which masks are given and which objects are scored; `backward`: whether the
        frames before an object's first mask are filled.
    fingerprint: a text that changes with the frames and masks on disk.
    scoring: what its benchmark reports.
    """

    name: str
    length: int  # in frames; 0 if it is not known, as for video files
    read: Callable[[], Iterator[SourceFrame]]
    scored: bool = False
    read_backward: Callable[[Path], Iterator[SourceFrame]] = lambda scratch: iter(())
    describe: Callable[[bool], str] = lambda backward: ""
    fingerprint: Callable[[], str] = str
    scoring: Scoring = J_AND_F


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
    """What the network predicts in one source frame. Labels are the ids of the data set."""

    frame: SourceFrame
    labels: np.ndarray  # (Hs, Ws) uint8
    object_probs: np.ndarray | None  # (O, Hs, Ws) float32; None unless the settings ask for them
    correction: CorrectedFrame | None = None
    ids: tuple[int, ...] = ()  # (O,) the objects so far, in the order of `object_probs`


@dataclass(frozen=True)
class RoundTrip:
    """The latest frame with a given mask, and the mask predicted for it from the newest frame alone."""

    frame: SourceFrame
    given: np.ndarray  # (Hs, Ws) uint8, its given mask
    tracked: np.ndarray  # (Hs, Ws) uint8, all objects in that frame: as given, the others as predicted
    labels: np.ndarray  # (Hs, Ws) uint8, predicted back
