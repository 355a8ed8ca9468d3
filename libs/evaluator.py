"""From videos to scores: validation, test and demo are this file around libs/inference.py."""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace

import numpy as np

from libs.inference import InferenceSettings, segment_video
from libs.log import Progress
from libs.scores import Summary, VideoScorer, VideoScores, mean_jaccard, summarise
from libs.stream import WriteBehind
from libs.structures import Prediction, RoundTrip, UnreadableError, Video
from models.stm import STM


@dataclass(frozen=True)
class CorrectionRow:
    """One corrected frame: J is the mean over its objects before and after, None without ground truth."""

    video: str
    frame: str
    steps: int
    loss_before: float
    loss_after: float
    milliseconds: float
    J_before: float | None
    J_after: float | None


@dataclass(frozen=True)
class RoundTripRow:
    """How much of the given mask is found again from the video's end: a sign of drift that needs no ground truth."""

    video: str
    iou: float  # mean over its objects
    J: float | None  # of the whole video, where it was scored


@dataclass
class Report:
    """What came out of a set of videos."""

    scores: list[VideoScores] = field(default_factory=list)
    copies: list[VideoScores] = field(default_factory=list)  # of copying the first mask, where asked for
    unscored: list[str] = field(default_factory=list)  # videos without ground truth
    corrections: list[CorrectionRow] = field(default_factory=list)
    round_trips: list[RoundTripRow] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)  # videos that could not be read to their end, and why
    frames: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Report") -> "Report":
        """Both, made at the same time."""
        both = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "seconds"}
        return Report(**both, seconds=max(self.seconds, other.seconds))

    @property
    def summary(self) -> Summary:
        """J and F over all objects of all scored videos."""
        return summarise(self.scores)

    @property
    def references(self) -> dict[str, Summary]:
        """Rows to compare the summary with."""
        return {"copy of first mask": summarise(self.copies)} if self.copies else {}

    def speed(self) -> str:
        """Frames per second of everything, reading and writing included, and the share of the correction."""
        line = f"{self.frames} frames in {self.seconds:.1f} s: {self.frames / max(self.seconds, 1e-9):.2f} frames per second"
        if self.corrections:
            spent = [row.milliseconds for row in self.corrections]
            line += f"; gradient correction took {sum(spent) / 1000:.1f} s of it, {np.mean(spent):.0f} ms for each of {len(spent)} frames"
        return line


def evaluate(
    model: STM, videos: Iterable[Video], settings: InferenceSettings,
    consume: Callable[[Video, Prediction], None] | None = None, score_copy: bool = False, label: str = "test",
    back: Callable[[Video, RoundTrip], None] | None = None, done: Callable[[Video, Report], None] | None = None,
    tolerant: bool = False,
) -> Report:
    """Segment videos one after the other and score those that bring their truth.

    Args:
        model: in evaluation mode; consume: called with each prediction in order, in a thread of its own, to write it.
        score_copy: score copying the first mask to every frame as well.
        back: called at each video's end with its reference frame, predicted back; done: after that with the video's own report.
        tolerant: a video that cannot be read to its end is warned of and listed in the report, and the others go on.
    """
    report, seconds = Report(), 0.0
    for video in videos:
        try:
            own = _evaluate_one(model, video, settings, _Desk(video, consume, score_copy), label, back)
        except UnreadableError as fault:
            if not tolerant:
                raise
            warnings.warn(f"video '{video.name}' failed: {fault}", stacklevel=2)
            own = Report(failed=[(video.name, str(fault))])
        else:
            if done:
                done(video, own)
        seconds += own.seconds
        report += own
    report.seconds = seconds
    return report


def _evaluate_one(
    model: STM, video: Video, settings: InferenceSettings, desk: "_Desk", label: str, back: Callable[[Video, RoundTrip], None] | None,
) -> Report:
    start, frames, progress = time.perf_counter(), 0, Progress(f"{label} {video.name}", video.length)
    with WriteBehind(desk.take) as behind:
        for prediction in segment_video(model, video, settings, settings.correction(model), desk.returns.append):
            behind.put(prediction)
            frames += 1
            progress.advance()
    progress.close()
    for returned in desk.returns if back else ():
        back(video, returned)
    return replace(desk.report(), frames=frames, seconds=time.perf_counter() - start)


class _Desk:
    """What happens to the predictions of one video behind the loop: they are scored and handed on."""

    def __init__(self, video: Video, consume: Callable[[Video, Prediction], None] | None, score_copy: bool) -> None:
        self.video, self.consume = video, consume
        self.scorer = VideoScorer(video.name, list(video.ids)) if video.scored else None
        self.copy = VideoScorer(video.name, list(video.ids)) if video.scored and score_copy else None
        self.corrections: list[CorrectionRow] = []
        self.returns: list[RoundTrip] = []
        self._first: np.ndarray | None = None

    def report(self) -> Report:
        """What is known at the video's end; there is no round trip where it ends with a given mask."""
        scores = [self.scorer.result()] if self.scorer else []
        true = float(np.mean(scores[0].jaccard)) if scores else None
        trips = [RoundTripRow(self.video.name, _iou(returned), true) for returned in self.returns]
        copies = [self.copy.result()] if self.copy else []
        return Report(scores, copies, [] if scores else [self.video.name], self.corrections, trips)

    def take(self, prediction: Prediction) -> None:
        """Deal with one prediction."""
        self._first = prediction.labels if self._first is None else self._first
        if self.scorer:
            self.scorer.feed(prediction.labels, prediction.frame.truth)
        if self.copy:
            self.copy.feed(self._first, prediction.frame.truth)
        if prediction.correction:
            self.corrections.append(_row(self.video, prediction))
        if self.consume:
            self.consume(self.video, prediction)


def _iou(returned: RoundTrip) -> float:
    """Mean over the objects that the given mask shows."""
    given = returned.frame.given
    return float(np.mean([mean_jaccard(returned.labels == k, given == k, 1) for k in np.unique(given[given > 0])]))


def _row(video: Video, prediction: Prediction) -> CorrectionRow:
    done, truth = prediction.correction, prediction.frame.truth
    before, after = (mean_jaccard(labels, truth, len(video.ids)) for labels in done.labels) if done.labels else (None, None)
    numbers = done.steps, done.loss_before, done.loss_after, done.milliseconds
    return CorrectionRow(video.name, prediction.frame.name, *numbers, before, after)
