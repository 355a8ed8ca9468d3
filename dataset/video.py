"""Frames on demand, from a folder of images or from a video file; nothing is held but the frame in hand."""

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import MaskStyle, check_size, find_style, read_labels
from dataset.folder import VIDEOS
from libs.core.errors import UnreadableError
from libs.core.image_io import read_image
from libs.core.masks import object_ids, select_objects
from libs.core.structures import SourceFrame, Video, VideoIndex

PROMISED = {
    ".mkv": 0.9,
    ".webm": 0.9,
}  # how much of the frames that a head tells must be there: these count none and guess
OPENCV_ERRORS = 2  # level of its log that leaves out warnings
FFMPEG = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "format_whitelist;mov,avi,matroska",  # by content, so that no playlist under another name leads to other files
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # what it would print is said here, with the file's name
}


def open_video(index: VideoIndex) -> Video:
    """A video to segment; reads its given masks, to know which objects there are.

    Raises: InputError where no object is marked.
    """
    style = find_style(index, index.given)
    ids = sorted(
        {i for position in index.given for i in object_ids(read_labels(index.masks[position], style))}
    )
    if not ids:
        first = index.masks[index.given[0]]
        raise UnreadableError(f"{first}: expected a mask with at least one object, found background only")
    length = 0 if is_video_file(index) else len(index.frames)
    return Video(index.name, tuple(ids), length, index.annotated, partial(_read_frames, index, style, ids))


def is_video_file(index: VideoIndex) -> bool:
    """Whether the frames lie in one video file."""
    return index.frames[0].suffix.lower() in VIDEOS


def _read_frames(index: VideoIndex, style: MaskStyle, ids: list[int]) -> Iterator[SourceFrame]:
    images = (
        _decode(index.frames[0]) if is_video_file(index) else ((p.stem, read_image(p)) for p in index.frames)
    )
    for position, (name, image) in enumerate(images):
        labels = None
        if position in index.masks and (position in index.given or index.annotated):
            labels = select_objects(read_labels(index.masks[position], style), ids)
            check_size(index.masks[position], labels, image.shape[:2])
        given = labels if position in index.given else None
        submitted = index.submitted is None or position in index.submitted
        yield SourceFrame(name, image, given, labels if index.annotated else None, submitted)
    late = [index.masks[t] for t in index.given if t > position]
    if late:
        warnings.warn(
            f"{index.frames[0]} ends at frame {position}: {len(late)} masks are for later ones, the first of them {late[0]}",
            stacklevel=2,
        )


def _decode(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    if not path.is_file():  # a pipe would be waited for
        raise UnreadableError(f"{path}: expected a video file")
    os.environ.update({name: value for name, value in FFMPEG.items() if name not in os.environ})
    cv2.setLogLevel(min(OPENCV_ERRORS, cv2.getLogLevel()))
    capture = cv2.VideoCapture(
        str(path), cv2.CAP_FFMPEG
    )  # others would take pictures, and their neighbours, for films
    try:
        position, promised = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while True:
            found, image = capture.read()
            if not found:
                break
            yield f"{position:05d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            position += 1
        if position == 0:
            raise UnreadableError(
                f"{path}: expected a video, could not read a single frame; convert it to MP4 (H.264)"
            )
        if position < PROMISED.get(path.suffix.lower(), 1) * promised:
            warnings.warn(
                f"{path}: only {position} of {promised} frames could be read; is the file cut off?",
                stacklevel=2,
            )
    finally:
        capture.release()
