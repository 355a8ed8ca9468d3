"""Frames of a video to segment, read on demand from a folder of images or a video file, one at a time."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import Annotations
from dataset.folder import VIDEOS
from libs.core.errors import UnreadableError
from libs.core.foreign_files import recognize
from libs.core.image_io import read_image
from libs.core.masks import select_objects
from libs.core.structures import SourceFrame, Video, VideoIndex

# Fraction of the promised frames that must be readable. These formats store no count: FFmpeg estimates it.
ESTIMATED = (".mkv", ".webm", ".ogv", ".flv", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob")
PROMISED = dict.fromkeys(ESTIMATED, 0.9)
END = 4096  # bytes at the end of a frame's file that are compared with an earlier run
OPENCV_ERRORS = 2  # log level of OpenCV that leaves out warnings
FFMPEG = {
    # Only these formats, told by content: a playlist under another name could lead to other files.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "format_whitelist;mov,avi,matroska,mpegts,flv,asf,mpeg,ogg",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # silent: our own messages name the file
}


def open_video(index: VideoIndex) -> Video:
    """Open a video to segment; reads its given masks, to know which objects there are.

    Raises: UnreadableError if a given mask cannot be read, or if none shows an object.
    """
    annotations = Annotations(index)
    if not annotations.ids:
        first = index.masks[index.given[0]]
        raise UnreadableError(f"{first}: expected a mask with at least one object, found background only")
    length = 0 if is_video_file(index) else len(index.frames)
    read, fingerprint = partial(_read_frames, annotations), partial(_fingerprint, index)
    return Video(index.name, annotations.ids, length, index.annotated, read, fingerprint)


def _fingerprint(index: VideoIndex) -> str:
    """Hash the content of the masks, and of the frames, which may be large, only what tells them apart.

    That is name, size, time of change and the last bytes: in a compressed file, these change with nearly
    everything before them.
    """
    told = hashlib.sha256(repr((index.given, index.binary)).encode())
    for path in index.frames:
        stat = path.stat()
        told.update(repr((path.name, stat.st_size, stat.st_mtime_ns, _end_of(path, stat.st_size))).encode())
    for position in sorted(index.masks):
        told.update(repr((position, hashlib.sha256(index.masks[position].read_bytes()).digest())).encode())
    return told.hexdigest()


def _end_of(path: Path, size: int) -> bytes:
    """The last bytes of a file; none if it cannot be read, which is an error when it is decoded."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, size - END))
        return file.read(END)
    return b""


def is_video_file(index: VideoIndex) -> bool:
    """Whether the frames lie in one video file."""
    return index.frames[0].suffix.lower() in VIDEOS


def _read_frames(annotations: Annotations) -> Iterator[SourceFrame]:
    """Yield the frames in order, with the masks that are given and, if every frame has one, the ground truth.

    Raises: UnreadableError naming the frame or mask.
    """
    index = annotations.index
    position = -1
    for position, (name, image) in enumerate(_decode_frames(index)):
        is_given = position in index.given
        labels = None
        if position in index.masks and (is_given or index.annotated):
            labels = annotations.read(position, image.shape[:2])
            labels = select_objects(labels, list(annotations.ids))
        submitted = index.submitted is None or position in index.submitted
        file = "" if is_video_file(index) else index.frames[position].name
        given, truth = labels if is_given else None, labels if index.annotated else None
        yield SourceFrame(name, image, given, truth, submitted, file)
    late = [index.masks[t] for t in index.given if t > position]
    if late:
        warnings.warn(
            f"{index.frames[0]} ends at frame {position}: "
            f"{len(late)} masks are for later ones, the first of them {late[0]}",
            stacklevel=2,
        )


def _decode_frames(index: VideoIndex) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the image (Hs, Ws, 3) uint8 RGB of each frame."""
    if is_video_file(index):
        yield from _decode_video(index.frames[0])
    else:
        for path in index.frames:
            yield path.stem, read_image(path)


@cache
def _set_up_opencv() -> None:
    """Restrict and silence OpenCV's video reader; a variable that the user has set stays.

    OpenCV takes these settings from the environment and from its global log level only. They are set once,
    for the first video file, so that importing this module changes nothing.
    """
    for name, value in FFMPEG.items():
        os.environ.setdefault(name, value)
    cv2.setLogLevel(min(OPENCV_ERRORS, cv2.getLogLevel()))


def _decode_video(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the number, as a name, and the image of each frame of a video file.

    Raises: UnreadableError naming the file if no frame can be read.
    """
    if not path.is_file():  # opening a pipe would wait for data
        raise UnreadableError(f"{path}: expected a video file")
    _set_up_opencv()
    # Other back ends would take an image, and its neighbours, for a video.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        position, promised = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while True:
            found, image = capture.read()
            if not found:
                break
            yield f"{position:05d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            position += 1
        if position == 0:
            advice = recognize(path) or "convert it to MP4 (H.264)"
            raise UnreadableError(f"{path}: expected a video, could not read a single frame; {advice}")
        if position < PROMISED.get(path.suffix.lower(), 1) * promised:
            warnings.warn(
                f"{path}: only {position} of {promised} frames could be read; is the file cut off?",
                stacklevel=2,
            )
    finally:
        capture.release()
