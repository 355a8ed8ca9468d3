"""Measure attributes of objects from their true masks, the images and optical flow alone.

Letters: H, W pixels of the frame. A diameter is the square root of the number of an object's pixels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from libs.core.log import Progress
from libs.core.masks import object_ids
from libs.core.structures import SourceFrame, Video

RING = 0.5  # width of the ring around an object whose flow counts as that of its surroundings, in diameters
COLOUR_BINS = 8  # for each channel of Lab
LOOKALIKE = 0.5  # a region resembles an object if its score is at least this fraction of the object's own

# Frame -> frames since the object's first mask, and since it last reappeared (None: it was never hidden).
Ages = dict[str, tuple[int, int | None]]


@dataclass(frozen=True)
class Attributes:
    """Of one object over its video. All lengths are in diameters of the object in the same frame.

    None: no frame could be measured, as of an object that two consecutive masks never show.

    size: mean fraction of the frame that the object covers where it is visible.
    speed: mean way of its centre from one frame to the next.
    motion: mean length of its flow relative to that of its surroundings, from one frame to the next.
    deformation: mean of 1 - IoU of its masks in one frame and the next with a mask, centres aligned.
    hidden: fraction of the frames with a mask, from its first one on, that do not show it.
    reappearances: how often it is visible after a frame that did not show it.
    border: fraction of the frames that show it in which it touches the border of the frame.
    lookalike: median distance to the nearest region that resembles it; infinite if there is mostly none.
    """

    video: str
    object: int
    size: float | None
    speed: float | None
    motion: float | None
    deformation: float | None
    hidden: float
    reappearances: int
    border: float | None
    lookalike: float


def measure_video(video: Video, progress: Progress | None = None) -> list[tuple[Attributes, Ages]]:
    """Measure each object of a video that is given or scored, in ascending order of ids."""
    meters: dict[int, _Meter] = {}
    before: np.ndarray | None = None
    for t, frame in enumerate(video.read()):
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        masks = true_masks(frame)
        if masks:
            # Where each pixel was in the frame before; not needed for frames without a mask.
            flow = None if before is None else _flow(grey, before)
            colours = _colour_bins(frame.image)
            for number, mask in masks.items():
                meters.setdefault(number, _Meter()).feed(t, frame.name, mask, flow, colours)
        before = grey
        if progress:
            progress.advance()
    return [meters[number].result(video.name, number) for number in sorted(meters)]


def true_masks(frame: SourceFrame) -> dict[int, np.ndarray]:
    """The true masks (H, W) of a frame, bool: of the objects that are given, and of those that are scored."""
    masks: dict[int, np.ndarray] = {}
    if frame.truth is not None:
        masks |= {number: frame.truth == number for number in frame.scored}
    if frame.given is not None:
        masks |= {number: frame.given == number for number in object_ids(frame.given)}
    return masks


@dataclass
class _Meter:
    """Collects what the frames show of one object."""

    shown: list[bool] = field(default_factory=list)  # in each frame with a mask
    sizes: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)
    motions: list[float] = field(default_factory=list)
    deformations: list[float] = field(default_factory=list)
    touches: list[bool] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    last: tuple[int, np.ndarray] | None = None  # time and mask of the latest frame that shows it
    first: int = 0  # time of its first mask
    returned: int | None = None  # time of its last reappearance
    ages: Ages = field(default_factory=dict)

    def feed(self, t: int, name: str, mask: np.ndarray, flow: np.ndarray | None, colours: np.ndarray) -> None:
        """Take the true mask (H, W) in frame t, the flow (H, W, 2) to the frame before, and the colours."""
        is_visible = bool(mask.any())
        if not is_visible and not self.shown:
            return  # it has not appeared yet
        was_visible = bool(self.shown) and self.shown[-1]
        self.first = self.first if self.shown else t
        self.returned = t if self.shown and is_visible and not was_visible else self.returned
        self.ages[name] = t - self.first, None if self.returned is None else t - self.returned
        self.shown.append(is_visible)
        if not is_visible:
            return
        diameter = math.sqrt(mask.sum())
        self.sizes.append(float(mask.mean()))
        self.touches.append(bool(mask[[0, -1]].any() or mask[:, [0, -1]].any()))
        self.distances.append(lookalike_distance(mask, colours))
        if flow is not None:
            self.motions.append(_own_motion(mask, flow, diameter))
        if self.last is not None and was_visible:
            before, last = self.last
            way = np.subtract(_centre(mask), _centre(last))
            self.speeds.append(float(np.hypot(*way)) / diameter / (t - before))
            self.deformations.append(1 - _aligned_iou(mask, last, way))
        self.last = t, mask

    def result(self, video: str, number: int) -> tuple[Attributes, Ages]:
        """Sum up."""
        returns = sum(now and not before for before, now in zip(self.shown, self.shown[1:]))
        hidden = self.shown.count(False) / len(self.shown) if self.shown else 0.0
        attributes = Attributes(
            video,
            number,
            _mean(self.sizes),
            _mean(self.speeds),
            _mean(self.motions),
            _mean(self.deformations),
            hidden,
            returns,
            _mean(self.touches),
            float(np.median(self.distances)) if self.distances else math.inf,
        )
        return attributes, self.ages


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def lookalike_distance(mask: np.ndarray, colours: np.ndarray) -> float:
    """Measure the distance from an object to the nearest region that resembles it, in diameters.

    The colours of the object make a histogram, whose largest bin counts 1. A square of the object's diameter
    scores the mean over its pixels. It resembles the object if it does not overlap it, and scores at least
    half of what the object itself scores.

    Args:
        mask: (H, W) bool, not empty.
        colours: (H, W) integers, the bin of each pixel's colour.
    Returns: between the centres; infinite if there is no such region.
    """
    counts = np.bincount(colours[mask], minlength=COLOUR_BINS**3).astype(np.float32)
    likeness = (counts / counts.max())[colours]  # (H, W)
    diameter = math.sqrt(mask.sum())
    side = max(1, round(diameter))
    score = cv2.boxFilter(likeness, -1, (side, side), borderType=cv2.BORDER_CONSTANT)
    overlap = cv2.boxFilter(mask.astype(np.float32), -1, (side, side), borderType=cv2.BORDER_CONSTANT)
    similar = (score >= LOOKALIKE * float(likeness[mask].mean())) & (overlap * side**2 < 0.5)
    if not similar.any():
        return math.inf
    y, x = np.nonzero(similar)
    centre = _centre(mask)
    return float(np.hypot(y - centre[0], x - centre[1]).min()) / diameter


def _flow(grey: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Dense optical flow (DIS, Kroeger et al., ECCV 2016) from a frame back to the one before: (H, W, 2)."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(estimator.calc(grey, before, None))  # type: ignore[call-overload]


def _own_motion(mask: np.ndarray, flow: np.ndarray, diameter: float) -> float:
    """The length of the object's median flow relative to that of a ring around it, in diameters."""
    width = 2 * max(1, round(RING * diameter)) + 1
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((width, width), np.uint8)).astype(bool) & ~mask
    around = np.median(flow[ring], axis=0) if ring.any() else np.zeros(2)
    return float(np.linalg.norm(np.median(flow[mask], axis=0) - around)) / diameter


def _colour_bins(image: np.ndarray) -> np.ndarray:
    """The bin of each pixel's colour in Lab: (H, W, 3) uint8 RGB to (H, W) int64."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.int64) * COLOUR_BINS // 256
    return (lab[..., 0] * COLOUR_BINS + lab[..., 1]) * COLOUR_BINS + lab[..., 2]


def _centre(mask: np.ndarray) -> tuple[float, float]:
    """The mean position (y, x) of a mask's pixels."""
    y, x = np.nonzero(mask)
    return float(y.mean()), float(x.mean())


def _aligned_iou(mask: np.ndarray, last: np.ndarray, way: Iterable[float]) -> float:
    """IoU of two masks after the last one was moved by `way` (down, right), rounded to pixels."""
    down, right = (round(step) for step in way)
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(last.astype(np.uint8), move, last.shape[::-1], flags=cv2.INTER_NEAREST) > 0
    return float((mask & moved).sum() / (mask | moved).sum())
