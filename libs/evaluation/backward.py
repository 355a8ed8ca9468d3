"""Segment a video in both directions, so that an object is also found before the frame of its first mask."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from libs.core.masks import keep_objects
from libs.core.structures import Prediction, Video
from libs.evaluation.inference import VideoSegmenter, segment_video


def segment_both_ways(segmenter: VideoSegmenter, video: Video) -> Iterator[Prediction]:
    """Yield the predictions of a video's frames, with the objects that appear later filled in.

    The reversed video is segmented first, from the last frame in which an object first appears on. Its
    predictions wait on the disk, in a temporary folder. So memory is bounded, and the predictions of
    the video itself come in order.
    """
    with TemporaryDirectory(prefix="backward-", ignore_cleanup_errors=True) as folder:
        frames, predictions = Path(folder, "frames"), Path(folder, "predictions")
        frames.mkdir()
        predictions.mkdir()
        reversed_video = replace(video, read=partial(video.read_backward, frames))
        for prediction in segment_video(segmenter.renew(), reversed_video):
            _store(prediction, predictions)
        for prediction in segment_video(segmenter, video):
            yield _fill(prediction, predictions)


def _store(prediction: Prediction, folder: Path) -> None:
    """Keep a prediction of the reversed video."""
    probs = prediction.object_probs
    half = np.zeros(0, np.float16) if probs is None else probs.astype(np.float16)
    path = folder / f"{prediction.frame.name}.npz"
    np.savez_compressed(path, labels=prediction.labels, ids=np.array(prediction.ids), probs=half)


def _fill(prediction: Prediction, folder: Path) -> Prediction:
    """Fill the background with what the reversed video shows of objects that have not appeared yet."""
    path = folder / f"{prediction.frame.name}.npz"
    if not path.exists():  # no object appears in this frame or later
        return prediction
    with np.load(path) as stored:
        labels, ids, probs = stored["labels"], stored["ids"].tolist(), stored["probs"]
    rows = [row for row, number in enumerate(ids) if number not in prediction.ids]
    if not rows:
        return prediction
    later = tuple(ids[row] for row in rows)
    filled = np.where(prediction.labels == 0, keep_objects(labels, later), prediction.labels)
    object_probs = prediction.object_probs
    if object_probs is not None:
        background = 1 - object_probs.sum(0)
        object_probs = np.concatenate([object_probs, background * probs[rows].astype(np.float32)])
    return replace(prediction, labels=filled, object_probs=object_probs, ids=prediction.ids + later)
