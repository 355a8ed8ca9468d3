"""Decode a video file with FFmpeg, if it is of a safe format; warn if it is cut off."""

import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from dataset.edit_list import shown_frames
from libs.core.errors import UnreadableError
from libs.core.foreign_files import recognize

# Suffixes of video files of the FORMATS below.
SUFFIXES: tuple[str, ...] = (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".ismv", ".avi", ".divx")
SUFFIXES += (".mkv", ".webm", ".ogv", ".ogg", ".ogm", ".flv", ".wmv", ".asf", ".wtv", ".rm", ".rmvb")
SUFFIXES += (".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".mpe", ".vob", ".mod", ".m1v", ".m2v", ".mpv")
SUFFIXES += (".mxf", ".dv", ".nut", ".ivf", ".y4m", ".gif", ".mjpeg", ".mjpg")
SUFFIXES += (".h264", ".264", ".h265", ".265", ".hevc")
# These containers store how many frames there are; of others, FFmpeg estimates it.
COUNTED = (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".ismv", ".avi", ".divx", ".mxf", ".y4m")
ESTIMATE = 0.1  # fraction of an estimate, beside one frame, that may be missing
HIGHEST_RATE = 1000  # frames per second; files without a rate may state 90000
OPENCV_ERRORS = 2  # log level of OpenCV that leaves out warnings
# Only these formats, recognized by content: a playlist under another name could lead to other files.
FORMATS = "mov,avi,matroska,mpegts,flv,asf,mpeg,ogg,mpegvideo,mxf,dv,rm,wtv,nut,ivf,yuv4mpegpipe,gif"
FORMATS += ",mjpeg,h264,hevc,m4v"
FFMPEG = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": f"format_whitelist;{FORMATS}",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # silent: our own messages name the file
}


@cache
def _set_up_opencv() -> None:
    """Restrict and silence OpenCV's video reader; a variable that the user has set stays.

    OpenCV takes these settings from the environment and from its global log level only. They are set once,
    for the first video file, so that importing this module changes nothing.
    """
    for name, value in FFMPEG.items():
        os.environ.setdefault(name, value)
    cv2.setLogLevel(min(OPENCV_ERRORS, cv2.getLogLevel()))


def decode_video(path: Path) -> Iterator[tuple[str, np.ndarray]]:
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
            advice = recognize(path) or "convert it to MP4 (H.264)"
            raise UnreadableError(f"{path}: expected a video, could not read a single frame; {advice}")
        if position < promised:
            whole, slack = _expected_frames(path, promised)
            if position < whole - slack:
                warnings.warn(
                    f"{path}: only {position} of {whole:.0f} frames could be read; is the file cut off?",
                    stacklevel=2,
                )
    finally:
        capture.release()


def frame_rate(path: Path) -> float:
    """Return the frames per second that a video file states; 0 if it states none or cannot be read."""
    if not path.is_file():
        return 0.0
    _set_up_opencv()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    return rate if 0 < rate < HIGHEST_RATE else 0.0


def _expected_frames(path: Path, promised: float) -> tuple[float, float]:
    """How many frames a video file has, and how many less may be readable before it counts as cut off.

    Args:
        promised: their number by the header, which an edit list may shorten, or an estimate.
    """
    if path.suffix.lower() not in COUNTED:
        return promised, ESTIMATE * promised + 1
    shown = shown_frames(path)
    return (promised, 0) if shown is None or shown >= promised else (shown, 1)  # its times are rounded
