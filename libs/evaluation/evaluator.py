"""Segment videos, write and score the predictions: what validation, test and demo share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from libs.core.log import Progress
from libs.core.masks import object_ids
from libs.core.prefetch import AsyncWriter
from libs.core.structures import CorrectedFrame, Prediction, RoundTrip, SourceFrame, Video
from libs.evaluation.backward import segment_both_ways
from libs.evaluation.inference import InferenceSettings, VideoSegmenter, segment_video
from libs.evaluation.scores import Summary, VideoScorer, VideoScores, mean_jaccard, summarise
from models.stm import STM

Writer = Callable[[Video, Prediction], None]


@dataclass(frozen=True)
class CorrectionRow:
    """One corrected frame. J is the mean over its objects, before and after; None without ground truth."""

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
    """Round trip: IoU of the given mask with the one predicted back from the last frame; low means drift."""

    video: str
    iou: float  # mean over its objects
    J: float | None  # of the whole video, if it was scored


@dataclass(frozen=True)
class DriftRow:
    """One object's given mask, predicted back from one later frame alone.

    frame: the later frame.
    iou: of the given mask with the one predicted back; low means drift.
    J: of the object in the later frame, if it is scored there.
    """

    video: str
    frame: str
    object: int
    iou: float
    J: float | None


@dataclass
class Report:
    """The results of a set of videos."""

    scores: list[VideoScores] = field(default_factory=list)
    copies: list[VideoScores] = field(default_factory=list)  # of copying the first mask, if asked for
    unscored: list[str] = field(default_factory=list)  # videos without ground truth
    corrections: list[CorrectionRow] = field(default_factory=list)
    round_trips: list[RoundTripRow] = field(default_factory=list)
    drift: list[DriftRow] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)  # videos that could not be read, and why
    frames: int = 0
    seconds: float = 0.0

    def then(self, later: "Report") -> "Report":
        """Join a report on videos that were segmented after these: their times add up."""
        return Report(**self._joined(later), seconds=self.seconds + later.seconds)

    def beside(self, other: "Report") -> "Report":
        """Join a report on videos that another process segmented at the same time."""
        return Report(**self._joined(other), seconds=max(self.seconds, other.seconds))

    def ordered(self, names: Sequence[str]) -> "Report":
        """Sort all rows by the positions of their videos in `names`; those of one video keep their order."""
        place = {name: position for position, name in enumerate(names)}
        rows = {name: value for name, value in vars(self).items() if isinstance(value, list)}
        ordered: dict[str, Any] = {
            name: sorted(values, key=lambda row: place[_video_of(row)]) for name, values in rows.items()
        }
        return replace(self, **ordered)

    def _joined(self, other: "Report") -> dict[str, Any]:
        """The fields of both, except for the time."""
        names = [entry.name for entry in fields(self) if entry.name != "seconds"]
        return {name: getattr(self, name) + getattr(other, name) for name in names}

    @property
    def summary(self) -> Summary:
        """J and F over all objects of all scored videos."""
        return summarise(self.scores)

    @property
    def references(self) -> dict[str, Summary]:
        """Rows to compare the summary with."""
        return {"copy of first mask": summarise(self.copies)} if self.copies else {}

    def speed(self, processes: int = 1) -> str:
        """Frames per second, reading and writing included, and the time that correction took of it.

        Args:
            processes: that worked side by side; correction took the sum of their times.
        """
        rate, many = self.frames / max(self.seconds, 1e-9), processes > 1
        line = f"{self.frames} frames in {self.seconds:.1f} s: {rate:.2f} frames per second"
        line += f" in {processes} processes" if many else ""
        if self.corrections:
            spent = [row.milliseconds for row in self.corrections]
            total, each = sum(spent) / 1000, np.mean(spent)
            summed = " in all processes together" if many else ""
            line += f"; gradient correction took {total:.1f} s{summed}, {each:.0f} ms for each of "
            line += f"{len(spent)} frames"
        return line


class VideoSink:
    """Scores and writes the predictions of one video, in order, in a thread behind the loop.

    A context manager: at the end of its block all predictions are dealt with. Then `finish` completes
    `report`.

    Args:
        write: called with each prediction, to write it.
        score_copy: also score a copy of each object's given mask in every later frame.
    """

    def __init__(self, video: Video, write: Writer | None = None, score_copy: bool = False) -> None:
        self.video, self.write = video, write
        self.scorer = VideoScorer(video.name, video.scoring)
        self.copy = VideoScorer(video.name, video.scoring) if score_copy else None
        self.frames, self.report = 0, Report()
        self.returned: RoundTrip | None = None
        self._corrections: list[CorrectionRow] = []
        self._frame = ""  # name of the latest one
        self._drift: dict[str, dict[int, float]] = {}  # frame -> object -> IoU of its mask, predicted back
        self._ids: tuple[int, ...] = ()  # of the objects so far
        self._copied: np.ndarray | None = None  # the given masks so far, each where it was given
        self._start = time.perf_counter()
        self._behind = AsyncWriter(self._take)

    def __enter__(self) -> "VideoSink":
        self._behind.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._behind.__exit__(*error)

    def put(self, prediction: Prediction) -> None:
        """Hand over one prediction; errors of earlier ones are raised here."""
        self._behind.put(prediction)
        self.frames += 1
        self._frame = prediction.frame.name

    def put_round_trip(self, returned: RoundTrip | None) -> None:
        """Hand over the reference mask predicted back from the latest frame, if there is a way back."""
        if returned and self._frame not in self._drift:
            self._drift[self._frame] = {
                k: mean_jaccard(returned.labels, returned.given, [k]) for k in object_ids(returned.given)
            }

    def finish(self, returned: RoundTrip | None) -> None:
        """Complete the report.

        Args:
            returned: the reference mask predicted back from the last frame, if there is a way back.
        """
        self.returned = returned
        self.put_round_trip(returned)
        scores, copies = (
            [scorer.result(self._ids)] if scorer and scorer.frames else []
            for scorer in (self.scorer, self.copy)
        )
        J = summarise(scores).J
        mean = J.mean if J else None
        self.report = Report(
            scores=scores,
            copies=copies,
            unscored=[] if scores else [self.video.name],
            corrections=self._corrections,
            round_trips=[RoundTripRow(self.video.name, self._last_iou(), mean)] if returned else [],
            drift=self._drift_rows(scores),
            frames=self.frames,
            seconds=time.perf_counter() - self._start,
        )

    def _last_iou(self) -> float:
        """The round trip IoU of the latest frame, the mean over the objects that the given mask shows."""
        return float(np.mean(list(self._drift[self._frame].values())))

    def _drift_rows(self, scores: list[VideoScores]) -> list[DriftRow]:
        """A row for each frame with a round trip and each object, with J from the scores."""
        J = {
            (frame, number): float(value)
            for video in scores
            for number, frames, values in zip(video.ids, video.frames, video.jaccard)
            for frame, value in zip(frames, values)
        }
        return [
            DriftRow(self.video.name, frame, number, iou, J.get((frame, number)))
            for frame, ious in self._drift.items()
            for number, iou in ious.items()
        ]

    def _take(self, prediction: Prediction) -> None:
        """Score and write one prediction, in the thread."""
        frame, self._ids = prediction.frame, prediction.ids
        if frame.truth is not None:
            self.scorer.feed(frame.name, prediction.labels, frame.truth, frame.scored)
            if self.copy:
                self.copy.feed(frame.name, self._copied, frame.truth, frame.scored)
        if self.copy and frame.given is not None:
            before = 0 if self._copied is None else self._copied
            self._copied = np.where(frame.given > 0, frame.given, before)
        if prediction.correction:
            self._corrections.append(_row(self.video, frame, prediction.correction))
        if self.write:
            self.write(self.video, prediction)


def count_frames(videos: Sequence[Video]) -> int:
    """Frames of all videos together; 0 if a video file does not tell its length."""
    lengths = [video.length for video in videos]
    return sum(lengths) if all(lengths) else 0


def share_videos(videos: Sequence[Video], processes: int) -> list[list[Video]]:
    """Divide videos among processes: the longest first, each to the process with the fewest frames so far.

    A video of unknown length counts as much as the mean of the others.

    Returns: the videos of each process, in their given order; the same ones at each call.
    """
    known = [video.length for video in videos if video.length]
    typical = sum(known) / len(known) if known else 1
    lengths = [video.length or typical for video in videos]
    parts: list[list[int]] = [[] for _ in range(processes)]
    frames = [0.0] * processes
    for i in sorted(range(len(videos)), key=lambda i: -lengths[i]):
        least = frames.index(min(frames))
        parts[least].append(i)
        frames[least] += lengths[i]
    return [[videos[i] for i in sorted(part)] for part in parts]


def evaluate_video(segmenter: VideoSegmenter, sink: VideoSink, progress: Progress | None = None) -> Report:
    """Segment the sink's video from its first frame to its last, and report on it.

    Args:
        segmenter: one that has seen no frame yet.
        progress: advances by one per frame.
    Raises: UnreadableError if a frame or mask cannot be read.
    """
    progress = progress or Progress("test", sink.video.length, "frame")
    segment = segment_both_ways if segmenter.settings.backward else segment_video
    every = segmenter.settings.drift_every
    returned = None
    with progress.section(sink.video.name, sink.video.length), sink:
        for number, prediction in enumerate(segment(segmenter, sink.video), start=1):
            sink.put(prediction)
            # The way back starts at the newest frame, so it cannot wait until the video ends.
            returned = segmenter.round_trip() if every and number % every == 0 else None
            sink.put_round_trip(returned)
            progress.advance()
    sink.finish(returned or segmenter.round_trip())
    return sink.report


def evaluate(
    model: STM,
    videos: Sequence[Video],
    settings: InferenceSettings,
    write: Writer | None = None,
    score_copy: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Segment videos one after the other, and report on all of them.

    Args:
        model: in evaluation mode.
        write, score_copy: see VideoSink.
        progress: advances by one per frame.
    Raises: UnreadableError if a frame or mask cannot be read.
    """
    report, progress = Report(), progress or Progress("test", count_frames(videos), "frame")
    for video in videos:
        sink = VideoSink(video, write, score_copy)
        report = report.then(evaluate_video(VideoSegmenter(model, settings), sink, progress))
    return report


def _video_of(row: Any) -> str:
    """The name of the video that a row of a report belongs to."""
    if isinstance(row, VideoScores):
        return row.name
    if isinstance(row, str):
        return row
    return str(row[0] if isinstance(row, tuple) else row.video)


def _row(video: Video, frame: SourceFrame, done: CorrectedFrame) -> CorrectionRow:
    """One line of corrections.csv."""
    before, after = None, None
    if done.labels and frame.truth is not None:
        before, after = (mean_jaccard(labels, frame.truth, frame.scored) for labels in done.labels)
    numbers = done.steps, done.loss_before, done.loss_after, done.milliseconds
    return CorrectionRow(video.name, frame.name, *numbers, before, after)
