"""Frames of a video to segment, read on demand from a folder of images or a video file, one at a time."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from dataset.annotations import Annotations
from dataset.edit_list import shown_frames
from dataset.folder import VIDEOS
from libs.core.errors import UnreadableError
from libs.core.image_io import read_image
from libs.core.masks import select_objects
from libs.core.structures import SourceFrame, Video, VideoIndex

# These containers store how many frames there are; of others, FFmpeg estimates it.
COUNTED = (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".ismv", ".avi", ".divx", ".mxf", ".y4m")
ESTIMATE = 0.1  # fraction of an estimate, beside one frame, that may be missing
OPENCV_ERRORS = 2  # log level of OpenCV that leaves out warnings
# Only these formats, told by content: a playlist under another name could lead to other files.
FORMATS = "mov,avi,matroska,mpegts,flv,asf,mpeg,ogg,mpegvideo,mxf,dv,rm,wtv,nut,ivf,yuv4mpegpipe,gif"
FORMATS += ",mjpeg,h264,hevc,m4v"
FFMPEG = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": f"format_whitelist;{FORMATS}",
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
    """Hash the content of the masks, and name, size and time of change of the frames, which may be large."""
    told = hashlib.sha256(repr((index.given, index.binary)).encode())
    for path in index.frames:
        stat = path.stat()
        told.update(repr((path.name, stat.st_size, stat.st_mtime_ns)).encode())
    for position, path in index.mask_files():
        told.update(repr((position, hashlib.sha256(path.read_bytes()).digest())).encode())
    return told.hexdigest()


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
        yield SourceFrame(
            name, image, labels if is_given else None, labels if index.annotated else None, submitted
        )
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
        position, promised = 0, capture.get(cv2.CAP_PROP_FRAME_COUNT)
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
        if position < promised:
            whole, slack = _expected_frames(path, promised)
            if position < whole - slack:
                warnings.warn(
                    f"{path}: only {position} of {whole:.0f} frames could be read; is the file cut off?",
                    stacklevel=2,
                )
    finally:
        capture.release()


def _expected_frames(path: Path, promised: float) -> tuple[float, float]:
    """How many frames a video file has, and how many less may be readable before it counts as cut off.

    Args:
        promised: their number by the header, which an edit list may shorten, or an estimate.
    """
    if path.suffix.lower() not in COUNTED:
        return promised, ESTIMATE * promised + 1
    shown = shown_frames(path)
    return (promised, 0) if shown is None or shown >= promised else (shown, 1)  # its times are rounded
