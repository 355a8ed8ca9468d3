"""Region similarity J and boundary accuracy F of the DAVIS 2017 semi-supervised benchmark, frame by frame.

Letters: O objects, n frames in which an object is scored, H, W pixels.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from vos_benchmark.evaluator import Evaluator, get_iou

from libs.core.errors import InputError
from libs.core.files import atomic_write

COLUMNS = ("J mean", "J recall", "J decay", "F mean", "F recall", "F decay", "J&F")


@dataclass(frozen=True)
class Measure:
    """J or F of one object over its frames, or the mean of that over objects; each is a fraction."""

    mean: float
    recall: float  # fraction of the frames strictly above 0.5
    decay: float  # first quarter's mean minus the last quarter's


@dataclass(frozen=True)
class ObjectScores:
    """One object of one video. J and F are None if it has no frame to score."""

    video: str
    object_id: int  # the data set's own
    J: Measure | None
    F: Measure | None


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video, per object and frame.

    ids: the data set's ids of the O objects.
    jaccard, boundary: J and F, for each object (n,) float64 over its scored frames, which may be none.
    frames: for each object the names of these n frames.
    """

    name: str
    ids: tuple[int, ...]
    jaccard: tuple[np.ndarray, ...]
    boundary: tuple[np.ndarray, ...]
    frames: tuple[tuple[str, ...], ...]

    @property
    def objects(self) -> list[ObjectScores]:
        """The O objects with their frames summed up."""
        rows = zip(self.ids, self.jaccard, self.boundary, strict=True)
        return [ObjectScores(self.name, object_id, measure(j), measure(f)) for object_id, j, f in rows]


@dataclass(frozen=True)
class Summary:
    """All objects of all videos, and the means of J and F over those that were scored, if any."""

    objects: tuple[ObjectScores, ...]
    J: Measure | None
    F: Measure | None


class VideoScorer:
    """Scores the objects of one video frame by frame, in order. It holds no frame.

    Which objects are scored in which frames is up to the caller, see dataset/protocol.py.

    Args:
        name: of the video, for results and errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames = 0  # scored so far
        self._evaluator = Evaluator()
        self._names: dict[int, list[str]] = {}  # object -> its scored frames

    def feed(self, frame: str, labels: np.ndarray | None, truth: np.ndarray, ids: Sequence[int]) -> None:
        """Score one frame.

        Args:
            frame: its name.
            labels: (H, W) integers, the prediction; None if it is missing, which counts as empty.
            truth: (H, W) integers, ground truth.
            ids: of the objects to score, whether `truth` shows them or not; all of earlier frames among them.
                All else is background.
        Raises: InputError if prediction and ground truth differ in size.
        """
        if labels is None:
            labels = np.zeros_like(truth)
        if labels.shape != truth.shape:
            raise InputError(
                f"{self.name}: the prediction is {_size(labels)}, the true mask {_size(truth)}; "
                "both must have the size of the source frame"
            )
        # The evaluator would count an object only from the first frame that shows it.
        self._evaluator.objects_in_gt.update(ids)
        self._evaluator.feed_frame(*(np.where(np.isin(x, ids), x, 0) for x in (labels, truth)))
        self.frames += 1
        for number in self._evaluator.objects_in_gt:
            self._names.setdefault(number, []).append(frame)

    def result(self, ids: Iterable[int]) -> VideoScores:
        """The scores of these objects, in ascending order; one that was never scored has no frames."""
        objects = tuple(sorted(ids))
        jaccard, boundary = (
            tuple(np.array(scores[number], np.float64) for number in objects)
            for scores in (self._evaluator.object_iou, self._evaluator.boundary_f)
        )
        frames = tuple(tuple(self._names.get(number, ())) for number in objects)
        return VideoScores(self.name, objects, jaccard, boundary, frames)


def measure(values: np.ndarray) -> Measure | None:
    """Sum up one object.

    Args:
        values: (n,) J or F per scored frame.
    Returns: None if n = 0.
    """
    if len(values) == 0:
        return None
    i = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
    decay = values[i[0] : i[1] + 1].mean() - values[i[3] : i[4] + 1].mean()
    return Measure(float(values.mean()), float((values > 0.5).mean()), float(decay))


def mean_jaccard(labels: np.ndarray, truth: np.ndarray, ids: Sequence[int]) -> float:
    """J of one frame, the mean over the objects `ids`, at least one: labels, truth (H, W)."""
    return float(np.mean([get_iou(*_areas(labels == k, truth == k)) for k in ids]))


def _areas(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    return int((a & b).sum()), int(a.sum() + b.sum())


def summarise(videos: Iterable[VideoScores]) -> Summary:
    """Take the mean over the objects of all videos: a video with more objects weighs more."""
    objects = tuple(scores for video in videos for scores in video.objects)
    return Summary(objects, _mean([o.J for o in objects]), _mean([o.F for o in objects]))


def j_and_f(scores: ObjectScores | Summary) -> float | None:
    """(J mean + F mean) / 2; None if nothing was scored."""
    if scores.J is None or scores.F is None:
        return None
    return (scores.J.mean + scores.F.mean) / 2


def format_table(summary: Summary, references: Mapping[str, Summary] | None = None) -> str:
    """Format scores in percent, in aligned columns: a row per object, then the global row; '-': not scored.

    Args:
        references: label -> what to compare the global row with, such as copies of the first mask.
    """
    rows: list[tuple[str, ...]] = [("video", "object", *COLUMNS)]
    rows += [(*label, *map(_percent, _values(scores))) for label, scores in _rows(summary, references or {})]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    body = 1 + len(summary.objects)
    return "\n".join([lines[0], rule, *lines[1:body], *([rule] if body > 1 else []), *lines[body:]])


def write_csv(path: Path, summary: Summary, references: Mapping[str, Summary] | None = None) -> None:
    """Write the rows of `format_table` as fractions in full precision, empty if nothing was scored.

    The file appears, or replaces the one before it, only when it is complete.
    """
    _write(
        path,
        [
            ["video", "object", *COLUMNS],
            *([*label, *_values(scores)] for label, scores in _rows(summary, references or {})),
        ],
    )


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind as CSV, a column for each field, whole or not at all."""
    _write(path, [[column.name for column in fields(rows[0])], *(astuple(row) for row in rows)])


def _write(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows(rows)


def _rows(
    summary: Summary, references: Mapping[str, Summary]
) -> list[tuple[tuple[str, str], ObjectScores | Summary]]:
    """((first cell, second cell), scores) of every row in order."""
    objects = [((scores.video, str(scores.object_id)), scores) for scores in summary.objects]
    return [
        *objects,
        (("global", ""), summary),
        *(((label, ""), scores) for label, scores in references.items()),
    ]


def _values(scores: ObjectScores | Summary) -> list[float | None]:
    """The numbers of a row, in the order of COLUMNS."""
    if scores.J is None or scores.F is None:
        return [None] * len(COLUMNS)
    J, F = scores.J, scores.F
    return [J.mean, J.recall, J.decay, F.mean, F.recall, F.decay, j_and_f(scores)]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0 turns -0.0 into 0.0


def _mean(measures: list[Measure | None]) -> Measure | None:
    scored = [(m.mean, m.recall, m.decay) for m in measures if m is not None]
    return Measure(*np.mean(scored, axis=0).tolist()) if scored else None


def _size(labels: np.ndarray) -> str:
    return "x".join(map(str, labels.shape))
