"""One video through the time loop: frames read ahead, predictions at source resolution."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee

import numpy as np
import torch
from torch import Tensor

from libs.cycle import GradientCorrection, segment_reference
from libs.propagate import FrameInput, Step, propagate
from libs.stream import read_ahead
from libs.structures import Prediction, RoundTrip, UnreadableError, Video
from libs.views import View
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
        return tuple(View(self.input_size, self.max_size, scale, flip) for scale in self.tta_scales for flip in flips)

    def correction(self, model: STM) -> GradientCorrection:
        """Gradient correction with these settings."""
        return GradientCorrection(
            model, self.save_freq, self.loop, self.correction_rate, self.correction_beta, self.correction_tolerance,
            self.sharpness,
        )


@torch.no_grad()
def segment_video(
    model: STM, video: Video, settings: InferenceSettings, remember: Callable[[Step], Tensor] | None = None,
    back: Callable[[RoundTrip], None] | None = None,
) -> Iterator[Prediction]:
    """Segment one video frame by frame, in as many views side by side as the settings name, and average them.

    Args:
        model: in evaluation mode; remember: see propagate, such as settings.correction(model).
        back: called at the end with the latest frame with a given mask, predicted back from the last frame, if that is
            another one.
    Yields: predictions at source resolution.
    """
    device, loops = next(model.parameters()).device, []
    for i, inputs in enumerate(tee(read_ahead(_inputs(video, settings.views)), len(settings.views))):
        loops.append(propagate(model, _of_view(inputs, i, device), settings.save_freq, remember, settings.memory_frames))
    steps: tuple[Step, ...] = ()
    for steps in zip(*loops):
        yield _prediction(steps, settings, len(video.ids))
    if back and steps and not steps[0].given and steps[0].reference and steps[0].reference.source.given.any():
        back(_round_trip(model, steps, settings.views))


def _round_trip(model: STM, steps: tuple[Step, ...], views: tuple[View, ...]) -> RoundTrip:
    """From the last frame, of whatever is remembered of it, back to the reference frame."""
    frame, masks = steps[0].reference.source, []
    for step in steps:
        memory = model.memorize(step.image, step.masks, step.objects)
        masks.append(segment_reference(model, step.reference, memory).softmax(1))
    return RoundTrip(frame, _decide(_average(masks, views, frame.image.shape[:2])))


def _inputs(video: Video, views: tuple[View, ...]) -> Iterator[list[FrameInput]]:
    """What the loops ask for, a FrameInput a view, made of one frame after the other."""
    num_channels, seen, size = len(video.ids) + 1, set(), None
    for frame in video.read():
        size = size or frame.image.shape[:2]
        if frame.image.shape[:2] != size:
            raise UnreadableError(f"video '{video.name}', frame {frame.name}: expected the size of the first frame")
        inputs = [FrameInput(view.image(frame), source=frame) for view in views]
        if frame.given is not None:
            new = sorted(set(np.unique(frame.given).tolist()) - {0} - seen)
            seen.update(new)
            channel = torch.tensor(new, dtype=torch.long)
            appearing = Objects(torch.zeros_like(channel), channel, num_channels) if new else None
            inputs = [replace(x, given=view.given(frame, num_channels), appearing=appearing) for x, view in zip(inputs, views)]
        yield inputs


def _of_view(inputs: Iterable[list[FrameInput]], i: int, device: torch.device) -> Iterator[FrameInput]:
    """What the i-th view's loop asks for (a generator expression would take the last `i` for all)."""
    for views in inputs:
        yield _to(device, views[i])


def _to(device: torch.device, frame: FrameInput) -> FrameInput:
    given = None if frame.given is None else frame.given.to(device)
    return replace(frame, image=frame.image.to(device), given=given, appearing=frame.appearing and frame.appearing.to(device))


def _prediction(steps: tuple[Step, ...], settings: InferenceSettings, num_objects: int) -> Prediction:
    """Undo the views, average, decide each pixel; given pixels stay as they were given, at full resolution."""
    frame, views = steps[0].source, settings.views
    source = frame.image.shape[:2]
    if steps[0].masks is None:  # nothing was marked so far
        empty = np.zeros((num_objects, *source), np.float32) if settings.object_probs else None
        return Prediction(frame, np.zeros(source, np.uint8), empty)
    corrected = settings.save_corrected or frame.given is not None
    probs = _average([s.masks if corrected else s.logits.softmax(1) for s in steps], views, source)
    if not probs.isfinite().all():  # arg-max would call it background
        raise UnreadableError(f"frame {frame.name}: the network's output is not finite; check `initial`, or take amp off")
    labels = _decide(probs)
    if frame.given is not None:  # a given object is exactly its pixels
        labels = np.where((frame.given > 0) | np.isin(labels, frame.given), frame.given, labels)
    correction = None
    if steps[0].correction and frame.truth is not None:  # for the report: labels before and after
        correction = replace(steps[0].correction, labels=tuple(
            _decide(views[0].undo(masks, source)) for masks in (steps[0].logits.softmax(1), steps[0].masks)))
    object_probs = probs[1:].float().cpu().numpy() if settings.object_probs else None
    return Prediction(frame, labels, object_probs, correction or steps[0].correction)


def _average(masks: list[Tensor], views: tuple[View, ...], source: tuple[int, int]) -> Tensor:
    """Masks (1, K, H, W) of each view to their mean (K, Hs, Ws)."""
    total = views[0].undo(masks[0], source)
    for view, more in zip(views[1:], masks[1:]):
        total = total + view.undo(more, source)
    return total / len(views) if len(views) > 1 else total


def _decide(probs: Tensor) -> np.ndarray:
    """(K, H, W) to the (H, W) labels of its largest channel."""
    return probs.argmax(0).to(torch.uint8).cpu().numpy()
