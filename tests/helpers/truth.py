"""Videos whose every mask is known, split by a protocol as test.py splits those on disk."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dataset.protocol import OWN_SET, MaskSplitter, Protocol
from libs.core.masks import object_ids
from libs.core.structures import SourceFrame, VideoIndex
from libs.evaluation.scores import VideoScorer, VideoScores

NO_IMAGE = np.zeros((1, 1, 3), np.uint8)


def split(
    masks: Sequence[np.ndarray | None], protocol: str = OWN_SET, give_all: bool = False
) -> list[SourceFrame]:
    """Frames with the given masks and the ground truth that the protocol makes of `masks`; None: no mask."""
    frames = tuple(Path(f"{t:05d}.png") for t in range(len(masks)))
    shown = {t: frames[t] for t, mask in enumerate(masks) if mask is not None}
    index = VideoIndex("clip", frames, shown, protocol)
    start = next((t for t in shown if object_ids(masks[t])), 0)
    splitter = MaskSplitter(Protocol(index, start, (), give_all, lambda t: f"{t:05d}"))
    found = []
    for t, mask in enumerate(masks):
        roles = splitter.split(t, mask) if mask is not None else None
        own = (roles.given, roles.truth, roles.scored) if roles else ()
        found.append(SourceFrame(f"{t:05d}", NO_IMAGE, *own))
    splitter.warn_of_left_out()
    return found


def score(
    labels: Iterable[np.ndarray | None], truth: Sequence[np.ndarray | None], protocol: str = "DAVIS"
) -> VideoScores:
    """Score the predictions `labels` of a video whose masks are `truth`."""
    scorer, ids = VideoScorer("clip"), set[int]()
    for frame, predicted in zip(split(truth, protocol), labels, strict=True):
        ids |= set(object_ids(frame.given)) if frame.given is not None else set()
        if frame.truth is not None:
            scorer.feed(frame.name, predicted, frame.truth, frame.scored)
    return scorer.result(ids)
