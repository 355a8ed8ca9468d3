"""From videos to predictions and scores: validation, test and demo are this file around the time loop."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from libs.cycle import GradientCorrection
from libs.log import Progress
from libs.masks import Letterbox, normalise, one_hot
from libs.propagate import FrameInput, Step, propagate
from libs.scores import Summary, VideoScorer, VideoScores, summarise
from libs.structures import InputError, Prediction, SourceFrame, Video
from models.stm import STM, Objects


@dataclass(frozen=True)
class InferenceSettings:
    """How videos are segmented; meanings as the config's keys of the same names."""

    input_size: tuple[int, int]
    save_freq: int = 5
    loop: int = 0
    correction_rate: float = 150.0
    correction_momentum: float = 0.0
    save_corrected: bool = False
    object_probs: bool = False  # hand out probabilities at source resolution, for heat maps


@dataclass
class Report:
    """What came out of a set of videos."""

    scores: list[VideoScores] = field(default_factory=list)
    copies: list[VideoScores] = field(default_factory=list)  # of copying the first mask, where asked for
    unscored: list[str] = field(default_factory=list)  # videos without ground truth
    frames: int = 0
    seconds: float = 0.0
    correction_frames: int = 0
    correction_seconds: float = 0.0

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
        rate = self.frames / max(self.seconds, 1e-9)
        line = f"{self.frames} frames in {self.seconds:.1f} s: {rate:.2f} frames per second"
        if self.correction_frames:
            each = 1000 * self.correction_seconds / self.correction_frames
            line += f"; gradient correction took {self.correction_seconds:.1f} s of it, {each:.0f} ms for each of {self.correction_frames} frames"
        return line


def evaluate(
    model: STM, videos: Iterable[Video], settings: InferenceSettings,
    consume: Callable[[Video, Prediction], None] | None = None, score_copy: bool = False, label: str = "test",
) -> Report:
    """Segment videos one after the other and score those that bring their truth.

    Args:
        model: in evaluation mode; consume: called with each prediction, to write it.
        score_copy: score copying the first mask to every frame as well.
    """
    report = Report()
    for video in videos:
        start = time.perf_counter()
        scorer = VideoScorer(video.name, list(video.ids)) if video.scored else None
        copy = VideoScorer(video.name, list(video.ids)) if video.scored and score_copy else None
        correction = GradientCorrection(model, settings.save_freq, settings.loop, settings.correction_rate, settings.correction_momentum)
        progress, first = Progress(f"{label} {video.name}", video.length), None
        for prediction in segment_video(model, video, settings, correction):
            first = prediction.labels if first is None else first
            if scorer:
                scorer.feed(prediction.labels, prediction.frame.truth)
            if copy:
                copy.feed(first, prediction.frame.truth)
            if consume:
                consume(video, prediction)
            report.frames += 1
            progress.advance()
        progress.close()
        report.scores += [scorer.result()] if scorer else []
        report.copies += [copy.result()] if copy else []
        report.unscored += [] if scorer else [video.name]
        report.seconds += time.perf_counter() - start
        report.correction_seconds += correction.seconds
        report.correction_frames += correction.frames
    return report


@torch.no_grad()
def segment_video(
    model: STM, video: Video, settings: InferenceSettings, correction: GradientCorrection
) -> Iterator[Prediction]:
    """Segment one video frame by frame; predictions come at source resolution."""
    shown: list[SourceFrame] = []  # the frame that the loop has in hand
    frames = _inputs(video, settings.input_size, next(model.parameters()).device, shown)
    for step in propagate(model, frames, settings.save_freq, correction):
        yield _prediction(step, shown.pop(), settings, len(video.ids))


def _inputs(
    video: Video, input_size: tuple[int, int], device: torch.device, shown: list[SourceFrame]
) -> Iterator[FrameInput]:
    """Letterbox and normalise each frame as the loop asks for it; leave its source in `shown`."""
    num_channels, seen, source = len(video.ids) + 1, set(), None
    for frame in video.read():
        source = source or frame.image.shape[:2]
        if frame.image.shape[:2] != source:
            raise InputError(f"video '{video.name}', frame {frame.name}: all frames must have the size of the first one")
        shown.append(frame)
        box = Letterbox(source, input_size)
        image = normalise(box.image(frame.image)[None]).to(device)
        if frame.given is None:
            yield FrameInput(image)
            continue
        given = one_hot(torch.from_numpy(box.labels(frame.given)).to(device), num_channels)[None]
        new = sorted(set(np.unique(frame.given).tolist()) - {0} - seen)
        seen.update(new)
        channel = torch.tensor(new, dtype=torch.long, device=device)
        appearing = Objects(torch.zeros_like(channel), channel, num_channels) if new else None
        yield FrameInput(image, given, appearing)


def _prediction(step: Step, frame: SourceFrame, settings: InferenceSettings, num_objects: int) -> Prediction:
    """Undo the letterbox and decide each pixel; given pixels stay as they were given, at full resolution."""
    source = frame.image.shape[:2]
    if step.masks is None:  # nothing was marked so far
        empty = np.zeros((num_objects, *source), np.float32) if settings.object_probs else None
        return Prediction(frame, np.zeros(source, np.uint8), empty)
    corrected = settings.save_corrected or frame.given is not None
    masks = step.masks if corrected else step.logits.softmax(1)
    probs = Letterbox(source, settings.input_size).undo(masks[0])
    labels = probs.argmax(0).to(torch.uint8).cpu().numpy()
    if frame.given is not None:  # a given object is exactly its pixels
        labels = np.where((frame.given > 0) | np.isin(labels, frame.given), frame.given, labels)
    return Prediction(frame, labels, probs[1:].float().cpu().numpy() if settings.object_probs else None)
