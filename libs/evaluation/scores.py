"""Region similarity J and boundary accuracy F of the DAVIS 2017 semi-supervised benchmark, frame by frame.

Other benchmarks report more of the same values: J of the last quarter of a video (VOST), the deviation V over
frames (LVOS), and seen and unseen categories apart with their mean G (YouTube-VOS, LVOS).

Letters: O objects, n frames in which an object is scored, H, W pixels.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from vos_benchmark.evaluator import Evaluator, get_iou

from libs.core.errors import InputError
from libs.core.files import atomic_write
from libs.core.structures import J_AND_F, Scoring

TOLERANCE = 0.008  # of F: width of the band around the contour as a fraction of the image's diagonal


@dataclass(frozen=True)
class Measure:
    """J or F of one object over its frames, or the mean of that over objects; each is a fraction."""

    mean: float
    recall: float  # fraction of the frames strictly above 0.5
    decay: float  # first quarter's mean minus the last quarter's


@dataclass(frozen=True)
class ObjectScores:
    """One object of one video. A measure is None if it has no frame to score, or is not one of its benchmark.

    J_tr: mean J over the last quarter of its frames.
    V: standard deviation of (J + F) / 2 over its frames.
    seen: whether the training split shows its category; None if this is not known.
    """

    video: str
    object_id: int  # the data set's own
    J: Measure | None
    F: Measure | None
    J_tr: float | None = None
    V: float | None = None
    seen: bool | None = None


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video, per object and frame.

    ids: the data set's ids of the O objects.
    jaccard, boundary: J and F, for each object (n,) float64 over its scored frames, which may be none.
    frames: for each object the names of these n frames.
    scoring: what its benchmark reports. F has no meaning unless it is among the measures.
    """

    name: str
    ids: tuple[int, ...]
    jaccard: tuple[np.ndarray, ...]
    boundary: tuple[np.ndarray, ...]
    frames: tuple[tuple[str, ...], ...]
    scoring: Scoring = J_AND_F

    @property
    def objects(self) -> list[ObjectScores]:
        """The O objects with their frames summed up."""
        return [self._sum_up(*row) for row in zip(self.ids, self.jaccard, self.boundary, strict=True)]

    def _sum_up(self, number: int, j: np.ndarray, f: np.ndarray) -> ObjectScores:
        """Sum up one object: j, f (n,)."""
        measures, unseen = self.scoring.measures, self.scoring.unseen
        return ObjectScores(
            self.name,
            number,
            measure(j),
            measure(f) if "F" in measures else None,
            J_tr=float(j[3 * len(j) // 4 :].mean()) if "J_tr" in measures and len(j) else None,
            V=float(((j + f) / 2).std()) if "V" in measures and len(j) else None,
            seen=None if unseen is None else number not in unseen,
        )


@dataclass(frozen=True)
class Summary:
    """All objects of all videos, and the means of their measures over those that were scored, if any.

    measures: see Scoring.
    groups: name -> the means over 'seen' and 'unseen' objects, and 'G', the mean of these two.
    """

    objects: tuple[ObjectScores, ...]
    J: Measure | None
    F: Measure | None
    J_tr: float | None = None
    V: float | None = None
    measures: tuple[str, ...] = Scoring.measures
    groups: Mapping[str, "Summary"] = field(default_factory=dict)

    @property
    def overall_name(self) -> str:
        """What `overall` gives: 'J&F', or 'J' if the benchmark has no F."""
        return "J&F" if "F" in self.measures else "J"

    @property
    def columns(self) -> list[str]:
        """The columns of a table of these scores."""
        kinds = [kind for kind in ("J", "F") if kind in self.measures]
        names = [f"{kind} {what}" for kind in kinds for what in ("mean", "recall", "decay")]
        return names + ["J&F"] * (len(kinds) == 2) + [name for name in ("J_tr", "V") if name in self.measures]


class VideoScorer:
    """Scores the objects of one video frame by frame, in order. It holds no frame.

    Which objects are scored in which frames is up to the caller, see dataset/protocol.py.

    Args:
        name: of the video, for results and errors.
        scoring: what its benchmark reports.
    """

    def __init__(self, name: str, scoring: Scoring = J_AND_F) -> None:
        self.name = name
        self.scoring = scoring
        self.frames = 0  # scored so far
        self._names: dict[int, list[str]] = {}  # object -> its scored frames
        # F takes most of the time at a wide tolerance. Without it, F is neither reported nor right.
        self._evaluator = Evaluator(TOLERANCE if "F" in scoring.measures else 0)

    def feed(self, frame: str, labels: np.ndarray | None, truth: np.ndarray, ids: Sequence[int]) -> None:
        """Score one frame.

        Args:
            frame: its name.
            labels: (H, W) integers, the prediction; None if it is missing, which counts as empty.
            truth: (H, W) integers, ground truth.
            ids: of the objects to score, whether `truth` shows them or not. All else is background.
        Raises: InputError if prediction and ground truth differ in size.
        """
        if labels is None:
            labels = np.zeros_like(truth)
        if labels.shape != truth.shape:
            raise InputError(
                f"{self.name}: the prediction is {_size(labels)}, the true mask {_size(truth)}; "
                "both must have the size of the source frame"
            )
        # The evaluator would count an object from the first frame that shows it to the end of the video.
        self._evaluator.objects_in_gt, self._evaluator.objects_in_masks = set(ids), set()
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
        return VideoScores(self.name, objects, jaccard, boundary, frames, self.scoring)


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
    videos = list(videos)
    measures = videos[0].scoring.measures if videos else Scoring.measures
    objects = [scores for video in videos for scores in video.objects]
    whole = replace(_mean_of(objects), objects=tuple(objects), measures=measures)
    if all(scores.seen is None for scores in objects):
        return whole
    seen, unseen = (_mean_of([o for o in objects if o.seen is kind]) for kind in (True, False))
    both = _mean_of([seen, unseen] if seen.J and unseen.J else [])
    return replace(whole, groups={"seen": seen, "unseen": unseen, "G": both})


def _mean_of(rows: Sequence[ObjectScores | Summary]) -> Summary:
    """The means of each measure over the rows that have it."""
    return Summary(
        (),
        _mean([row.J for row in rows]),
        _mean([row.F for row in rows]),
        _mean_number([row.J_tr for row in rows]),
        _mean_number([row.V for row in rows]),
    )


def j_and_f(scores: ObjectScores | Summary) -> float | None:
    """(J mean + F mean) / 2; None if nothing was scored, or by J alone."""
    if scores.J is None or scores.F is None:
        return None
    return (scores.J.mean + scores.F.mean) / 2


def overall(scores: ObjectScores | Summary) -> float | None:
    """The number to compare by: J&F, or J if the benchmark has no F; None if nothing was scored."""
    kinds = [measure.mean for measure in (scores.J, scores.F) if measure is not None]
    return sum(kinds) / len(kinds) if kinds else None


def format_table(summary: Summary, references: Mapping[str, Summary] | None = None) -> str:
    """Format scores in percent, in aligned columns; '-': not scored.

    There is a row for each object, then the global row, then seen, unseen and G if these are told apart.

    Args:
        references: label -> what to compare the global row with, such as copies of the first mask.
    """
    header, *values = _cells(summary, references or {})
    rows = [header, *([*row[:2], *map(_percent, row[2:])] for row in values)]
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
    _write(path, _cells(summary, references or {}))


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind as CSV, a column for each field, whole or not at all."""
    _write(path, [[column.name for column in fields(rows[0])], *(astuple(row) for row in rows)])


def _write(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows(rows)


def _cells(summary: Summary, references: Mapping[str, Summary]) -> list[list[Any]]:
    """The header and the rows of a table: video, object, and a fraction or None for each column."""
    rows: list[tuple[str, str, ObjectScores | Summary]] = [
        *((scores.video, str(scores.object_id), scores) for scores in summary.objects),
        ("global", "", summary),
        *((label, "", scores) for label, scores in {**summary.groups, **references}.items()),
    ]
    header = ["video", "object", *summary.columns]
    return [header, *([*label, *map(_values(scores).get, summary.columns)] for *label, scores in rows)]


def _values(scores: ObjectScores | Summary) -> dict[str, float | None]:
    """Column -> value, of those that are there."""
    found: dict[str, float | None] = {"J&F": j_and_f(scores), "J_tr": scores.J_tr, "V": scores.V}
    for kind, values in (("J", scores.J), ("F", scores.F)):
        if values is not None:
            found |= {f"{kind} {name}": number for name, number in asdict(values).items()}
    return found


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0 turns -0.0 into 0.0


def _mean(measures: list[Measure | None]) -> Measure | None:
    scored = [(m.mean, m.recall, m.decay) for m in measures if m is not None]
    return Measure(*np.mean(scored, axis=0).tolist()) if scored else None


def _mean_number(values: list[float | None]) -> float | None:
    scored = [value for value in values if value is not None]
    return float(np.mean(scored)) if scored else None


def _size(labels: np.ndarray) -> str:
    return "x".join(map(str, labels.shape))
