"""One video through the time loop: frames read ahead, predictions at source resolution."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from libs.core.errors import UnreadableError
from libs.core.prefetch import prefetch
from libs.core.structures import Prediction, RoundTrip, SourceFrame, Video
from libs.evaluation.views import View
from libs.method.cycle import GradientCorrection, predict_reference
from libs.method.propagate import FrameInput, Propagation, Remember, Step
from models.stm import STM, Objects


@dataclass(frozen=True)
class InferenceSettings:
    """How videos are segmented; meanings as the config's keys of the same names."""

    input_size: tuple[int, int]
    max_size: int = 0
    tta_scales: tuple[float, ...] = (1.0,)
    tta_flip: bool = False
    save_freq: int = 5
    memory_frames: int = 0
    loop: int = 0
    correction_rate: float = 150.0
    correction_beta: float = 0.0
    correction_tolerance: float = 0.0
    sharpness: float = 1.0
    save_corrected: bool = False
    object_probs: bool = False  # hand out probabilities at source resolution, for heat maps

    @property
    def views(self) -> tuple[View, ...]:
        """The ways of looking at a video whose results are averaged."""
        flips = (False, True) if self.tta_flip else (False,)
        return tuple(
            View(self.input_size, self.max_size, scale, flip) for scale in self.tta_scales for flip in flips
        )

    def correction(self) -> GradientCorrection:
        """Gradient correction with these settings."""
        return GradientCorrection(
            self.save_freq,
            self.loop,
            self.correction_rate,
            momentum=self.correction_beta,
            tolerance=self.correction_tolerance,
            sharpness=self.sharpness,
        )


class VideoSegmenter:
    """Segments one video, frame by frame, in as many views side by side as the settings name, and averages them.

    Args:
        model: in evaluation mode.
        remember: see Propagation; default: gradient correction as the settings say.
    """

    def __init__(self, model: STM, settings: InferenceSettings, remember: Remember | None = None) -> None:
        self.settings, self.device = settings, next(model.parameters()).device
        remember = remember or settings.correction()
        self.loops = [
            Propagation(model, settings.save_freq, remember, settings.memory_frames) for _ in settings.views
        ]
        self.reference: SourceFrame | None = None  # the latest frame with a given mask
        self._steps: list[Step] = []  # of the newest frame, one a view

    @torch.no_grad()
    def step(self, frame: SourceFrame, inputs: list[FrameInput]) -> Prediction:
        """Segment the next frame at its own resolution.

        Args:
            inputs: the frame as each view shows it to the network, see FrameReader.
        """
        steps = [loop.step(x.to(self.device)) for loop, x in zip(self.loops, inputs)]
        if frame.given is not None:
            self.reference = frame
        self._steps = [step for step in steps if step is not None]
        return self._predict(frame) if self._steps else self._nothing(frame)

    @torch.no_grad()
    def round_trip(self) -> RoundTrip | None:
        """The latest frame with a given mask, predicted back from the newest frame alone.

        None where there is no way back: no object so far, or the newest frame is that frame.
        """
        if not self._steps or self._steps[0].given or not self.reference.given.any():
            return None
        masks = [predict_reference(step).softmax(1) for step in self._steps]
        return RoundTrip(self.reference, _decide(self._average(masks, self.reference.image.shape[:2])))

    def _nothing(self, frame: SourceFrame) -> Prediction:
        """What is predicted before the first object: background."""
        size = frame.image.shape[:2]
        empty = np.zeros((0, *size), np.float32) if self.settings.object_probs else None
        return Prediction(frame, np.zeros(size, np.uint8), empty)

    def _predict(self, frame: SourceFrame) -> Prediction:
        """Undo the views, average, decide each pixel; given pixels stay as they were given, at full resolution."""
        steps, source = self._steps, frame.image.shape[:2]
        corrected = self.settings.save_corrected or frame.given is not None
        probs = self._average([s.masks if corrected else s.logits.softmax(1) for s in steps], source)
        if not probs.isfinite().all():  # arg-max would call it background
            raise UnreadableError(
                f"frame {frame.name}: the network's output is not finite; check `initial`, or take amp off"
            )
        labels = _decide(probs)
        if frame.given is not None:  # a given object is exactly its pixels
            labels = np.where((frame.given > 0) | np.isin(labels, frame.given), frame.given, labels)
        correction = steps[0].correction
        if correction and frame.truth is not None:  # for the report: labels before and after
            both = (steps[0].logits.softmax(1), steps[0].masks)
            before, after = (_decide(self.settings.views[0].undo(masks, source)) for masks in both)
            correction = replace(correction, labels=(before, after))
        object_probs = probs[1:].float().cpu().numpy() if self.settings.object_probs else None
        return Prediction(frame, labels, object_probs, correction)

    def _average(self, masks: list[Tensor], source: tuple[int, int]) -> Tensor:
        """Masks (1, K, H, W) of each view to their mean (K, Hs, Ws)."""
        views = self.settings.views
        total = views[0].undo(masks[0], source)
        for view, more in zip(views[1:], masks[1:]):
            total = total + view.undo(more, source)
        return total / len(views) if len(views) > 1 else total


class FrameReader:
    """Turns the frames of one video into the network's input, one FrameInput a view.

    It notices which objects are new in a given mask. Channel k belongs to label k of the given masks.

    Args:
        name: of the video, for messages. num_channels: K; None: as many as the labels so far need.
    """

    def __init__(self, name: str, views: tuple[View, ...], num_channels: int | None = None) -> None:
        self.name, self.views, self.num_channels = name, views, num_channels
        self._seen: set[int] = set()
        self._size: tuple[int, int] | None = None

    def read(self, frame: SourceFrame) -> list[FrameInput]:
        """The frame as each view shows it to the network.

        Raises: UnreadableError where its size is not that of the first frame.
        """
        size = frame.image.shape[:2]
        self._size = self._size or size
        if size != self._size:
            raise UnreadableError(
                f"video '{self.name}', frame {frame.name}: expected the size of the first frame, "
                f"{self._size[1]}x{self._size[0]}, found {size[1]}x{size[0]}"
            )
        inputs = [FrameInput(view.image(frame)) for view in self.views]
        if frame.given is None:
            return inputs
        new = sorted(set(np.unique(frame.given).tolist()) - {0} - self._seen)
        self._seen.update(new)
        num_channels = self.num_channels or max(self._seen, default=0) + 1
        channel = torch.tensor(new, dtype=torch.long)
        appearing = Objects(torch.zeros_like(channel), channel, num_channels) if new else None
        given = [view.given(frame, num_channels) for view in self.views]
        return [replace(x, given=masks, appearing=appearing) for x, masks in zip(inputs, given)]


def segment_video(segmenter: VideoSegmenter, video: Video) -> Iterator[Prediction]:
    """Yield the predictions of a video's frames, which a thread reads and prepares ahead."""
    reader = FrameReader(video.name, segmenter.settings.views, len(video.ids) + 1)
    for frame, inputs in prefetch((frame, reader.read(frame)) for frame in video.read()):
        yield segmenter.step(frame, inputs)


def _decide(probs: Tensor) -> np.ndarray:
    """(K, H, W) to the (H, W) labels of its largest channel."""
    return probs.argmax(0).to(torch.uint8).cpu().numpy()
