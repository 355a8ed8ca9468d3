"""Segment one video: frames are read ahead, predictions have the resolution of the source."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from libs.core.errors import UnreadableError, named
from libs.core.masks import object_ids
from libs.core.prefetch import prefetch
from libs.core.structures import CorrectedFrame, Prediction, RoundTrip, SourceFrame, Video
from libs.evaluation.views import View
from libs.method.cycle import GradientCorrection, predict_reference
from libs.method.propagate import FrameInput, Propagation, Remember, Step
from models.stm import STM, Objects

FEWEST_PIXELS = 6  # of an object at the network's input; with fewer it is warned of


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How videos are segmented.

    Fields mean what the config keys of the same names mean (libs/app/defaults.py).
    """

    input_size: tuple[int, int]
    max_size: int
    tta_scales: Sequence[float]
    tta_flip: bool
    save_freq: int
    memory_frames: int
    memory_rule: str
    top_k: int
    loop: int
    correction_rate: float
    correction_beta: float
    correction_tolerance: float
    sharpness: float
    save_corrected: bool
    backward: bool
    drift_every: int
    object_probs: bool  # no key: keep probabilities at source resolution, for heat maps

    @property
    def views(self) -> tuple[View, ...]:
        """The views of a video whose results are averaged: one, unless there is test-time augmentation."""
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

    def propagation(self, model: STM, remember: Remember) -> Propagation:
        """Return the loop of one view of a video with these settings.

        Raises: InputError if memory_rule and memory_frames contradict each other.
        """
        return Propagation(
            model,
            self.save_freq,
            remember,
            self.memory_frames,
            memory_rule=self.memory_rule,
            top_k=self.top_k,
        )


@dataclass(frozen=True)
class ReadFrame:
    """One frame as VideoSegmenter takes it.

    inputs: the frame as the network sees it, one for each view.
    ids: of the objects so far, in the order of their channels 1, 2, ... (Frames are read ahead: later frames
        may know more.)
    """

    source: SourceFrame
    inputs: list[FrameInput]
    ids: tuple[int, ...]


class VideoSegmenter:
    """Segments one video frame by frame, and averages over the views that the settings ask for.

    Args:
        model: in evaluation mode.
        remember: memory policy, see Propagation; default: gradient correction with the settings.
    """

    def __init__(self, model: STM, settings: InferenceSettings, remember: Remember | None = None) -> None:
        self.model, self.settings, self.remember = model, settings, remember
        self.device = next(model.parameters()).device
        policy = remember or settings.correction()
        self.loops = [settings.propagation(model, policy) for _ in settings.views]
        self.ids: tuple[int, ...] = ()  # of channels 1, 2, ...
        # The latest frame with a given mask; its field `labels` is not known yet.
        self._reference: RoundTrip | None = None
        self._steps: list[Step] = []  # of the newest frame, one for each view

    def renew(self) -> "VideoSegmenter":
        """Return a segmenter with the same model and settings that has seen no frame."""
        return VideoSegmenter(self.model, self.settings, self.remember)

    @torch.no_grad()
    def step(self, read: ReadFrame) -> Prediction:
        """Segment the next frame at its own resolution."""
        frame, self.ids = read.source, read.ids
        # Each view has a loop and a memory of its own: masks of different sizes cannot share one.
        steps = [loop.step(x.to(self.device)) for loop, x in zip(self.loops, read.inputs)]
        self._steps = [step for step in steps if step is not None]
        prediction = self._predict(frame) if self._steps else self._nothing(frame)
        if frame.given is not None:
            self._reference = RoundTrip(frame, frame.given, prediction.labels, prediction.labels)
        return prediction

    def remove(self, number: int) -> None:
        """Stop tracking the object with this id."""
        for loop in self.loops:
            loop.remove(1 + self.ids.index(number))
        self._steps = [loop.last for loop in self.loops if loop.last is not None]
        if self._reference is not None:
            given, tracked = self._reference.given, self._reference.tracked
            given, tracked = (np.where(labels == number, 0, labels) for labels in (given, tracked))
            self._reference = replace(self._reference, given=given, tracked=tracked)

    @torch.no_grad()
    def round_trip(self) -> RoundTrip | None:
        """Predict the latest frame with a given mask back from the newest frame alone.

        Returns: None if no object is tracked, or if the newest frame has a given mask.
        """
        reference = self._reference
        if not self._steps or self._steps[0].given or reference is None or not reference.given.any():
            return None
        masks = [predict_reference(step).softmax(1) for step in self._steps]
        return replace(reference, labels=self._decide(self._average(masks, _size(reference.frame))))

    def _nothing(self, frame: SourceFrame) -> Prediction:
        """The prediction before the first object: background."""
        empty = np.zeros((0, *_size(frame)), np.float32) if self.settings.object_probs else None
        return Prediction(frame, np.zeros(_size(frame), np.uint8), empty)

    def _predict(self, frame: SourceFrame) -> Prediction:
        """Undo the views, average them, and take the likeliest channel of each pixel."""
        # The original's test saved what was predicted, its demo what correction made of it.
        corrected = self.settings.save_corrected or frame.given is not None
        probs = self._average([step.masks if corrected else step.probs for step in self._steps], _size(frame))
        if not probs.isfinite().all():  # arg-max would take it for background
            raise UnreadableError(
                f"frame {frame.name}: the network's output is not finite; check `initial`, or set amp off"
            )
        labels = self._decide(probs)
        if frame.given is not None:
            # A given object is exactly its pixels, at full resolution. What was predicted of it elsewhere
            # becomes background.
            labels = np.where((frame.given > 0) | np.isin(labels, frame.given), frame.given, labels)
        # Correction moves values outside 0..1, and resizing a view does so slightly.
        object_probs = probs[1:].float().clamp(0, 1).cpu().numpy() if self.settings.object_probs else None
        return Prediction(frame, labels, object_probs, self._correction(frame), self.ids)

    def _correction(self, frame: SourceFrame) -> CorrectedFrame | None:
        """What correction did to the first view, with labels before and after if they can be scored."""
        step = self._steps[0]
        if step.correction is None or frame.truth is None:
            return step.correction
        undo = self.settings.views[0].undo
        before, after = (self._decide(undo(masks, _size(frame))) for masks in (step.probs, step.masks))
        return replace(step.correction, labels=(before, after))

    def _average(self, masks: list[Tensor], source: tuple[int, int]) -> Tensor:
        """Bring masks (1, K, H, W) of each view to the source's size, and return their mean (K, Hs, Ws)."""
        views = self.settings.views
        total = views[0].undo(masks[0], source)
        for view, more in zip(views[1:], masks[1:]):
            total = total + view.undo(more, source)
        return total / len(views) if len(views) > 1 else total

    def _decide(self, probs: Tensor) -> np.ndarray:
        """Take the likeliest channel of each pixel: (K, H, W) to the ids of the objects, (H, W) uint8."""
        channels = probs.argmax(0).to(torch.uint8).cpu().numpy()
        return np.array((0, *self.ids), np.uint8)[channels]


class FrameReader:
    """Turns the frames of one video into the network's input, and gives each object a channel.

    THE place where the ids of a data set meet the channels of the network. Objects get channels 1, 2, ... in
    the order in which they appear, within one frame in ascending order of their ids.

    Args:
        name: of the video, for messages.
    """

    def __init__(self, name: str, views: tuple[View, ...]) -> None:
        self.name = name
        self.views = views
        # An object keeps its channel for good: memory and reference may still have it after its removal.
        self._channels: dict[int, int] = {}  # id -> channel
        self._tracked: set[int] = set()
        self._size: tuple[int, int] | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the objects that are tracked, in ascending order."""
        return tuple(sorted(self._tracked))

    def remove(self, number: int) -> None:
        """Treat the object with this id as new when a mask shows it again."""
        self._tracked.remove(number)

    def read(self, frame: SourceFrame) -> ReadFrame:
        """Return the frame as the network sees it.

        Raises: UnreadableError if it has another size than the first frame.
        """
        size = _size(frame)
        self._size = self._size or size
        if size != self._size:
            raise UnreadableError(
                f"video '{self.name}', frame {frame.name}: expected the size of the first frame, "
                f"{self._size[1]}x{self._size[0]}, found {size[1]}x{size[0]}"
            )
        inputs = [FrameInput(view.image(frame)) for view in self.views]
        if frame.given is not None:
            inputs = self._add_given(frame, frame.given, inputs)
        return ReadFrame(frame, inputs, tuple(self._channels))

    def _add_given(
        self, frame: SourceFrame, labels: np.ndarray, inputs: list[FrameInput]
    ) -> list[FrameInput]:
        """Add given masks to the inputs, and the channels of the objects that appear with them."""
        new = [number for number in object_ids(labels) if number not in self._tracked]
        self._tracked.update(new)
        for number in new:
            self._channels.setdefault(number, len(self._channels) + 1)
        num_channels = len(self._channels) + 1
        channel_of = np.zeros(256, np.uint8)
        channel_of[list(self._channels)] = list(self._channels.values())
        given = [view.masks(channel_of[labels], num_channels) for view in self.views]
        channel = torch.tensor([self._channels[number] for number in new], dtype=torch.long)
        appearing = Objects(torch.zeros_like(channel), channel, num_channels) if new else None
        self._warn_of_tiny(frame, given[0], channel.tolist())
        return [replace(x, given=masks, appearing=appearing) for x, masks in zip(inputs, given)]

    def _warn_of_tiny(self, frame: SourceFrame, masks: Tensor, new: list[int]) -> None:
        """Warn of new objects of which next to nothing is left at the network's input."""
        pixels = {k: int(masks[0, k].sum()) for k in new}
        tiny = [k for k, count in pixels.items() if count < FEWEST_PIXELS]
        if tiny:
            counts = named(pixels[k] for k in tiny)
            size = f"{masks.shape[-1]}x{masks.shape[-2]}"
            warnings.warn(
                f"video '{self.name}', frame {frame.name}: {len(tiny)} of {len(new)} new objects have only "
                f"{counts} pixels at the network's input of {size} and may be lost; raise max_size",
                stacklevel=2,
            )


def segment_video(segmenter: VideoSegmenter, video: Video) -> Iterator[Prediction]:
    """Yield the predictions of a video's frames; a thread reads and prepares the next frames meanwhile."""
    reader = FrameReader(video.name, segmenter.settings.views)
    for frame in prefetch(map(reader.read, video.read())):
        yield segmenter.step(frame)


def _size(frame: SourceFrame) -> tuple[int, int]:
    """(height, width) of a source frame."""
    return frame.image.shape[0], frame.image.shape[1]
