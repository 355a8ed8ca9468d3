"""Frames on demand, from a folder of images or from a video file; nothing is held but the frame in hand."""

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dataset.annotations import MaskStyle, check_size, find_style, read_labels
from dataset.folder import VIDEOS
from libs.masks import object_ids, select_objects
from libs.structures import SourceFrame, UnreadableError, Video, VideoIndex

ORIENTATION = 0x0112  # EXIF: how the camera was held; from 5 on on its side
PROMISED = 0.9  # of the frames that a video file's head tells; with a varying frame rate it is a guess


def open_video(index: VideoIndex) -> Video:
    """A video to segment; reads its given masks, to know which objects there are.

    Raises: InputError where no object is marked.
    """
    style = find_style(index, index.given)
    ids = sorted({i for position in index.given for i in object_ids(read_labels(index.masks[position], style))})
    if not ids:
        first = index.masks[index.given[0]]
        raise UnreadableError(f"{first}: expected a mask with at least one object, found background only")
    length = 0 if is_video_file(index) else len(index.frames)
    return Video(index.name, tuple(ids), length, index.annotated, partial(_read_frames, index, style, ids))


def is_video_file(index: VideoIndex) -> bool:
    """Whether the frames lie in one video file."""
    return index.frames[0].suffix.lower() in VIDEOS


def _read_frames(index: VideoIndex, style: MaskStyle, ids: list[int]) -> Iterator[SourceFrame]:
    images = _decode(index.frames[0]) if is_video_file(index) else ((p.stem, read_image(p)) for p in index.frames)
    for position, (name, image) in enumerate(images):
        labels = None
        if position in index.masks and (position in index.given or index.annotated):
            labels = select_objects(read_labels(index.masks[position], style), ids)
            check_size(index.masks[position], labels, image.shape[:2])
        given = labels if position in index.given else None
        submitted = index.submitted is None or position in index.submitted
        yield SourceFrame(name, image, given, labels if index.annotated else None, submitted)


def _decode(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what it would print is said below, with the file's name
    capture = cv2.VideoCapture(str(path))
    try:
        position, promised = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while True:
            found, image = capture.read()
            if not found:
                break
            yield f"{position:05d}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            position += 1
        if position == 0:
            raise UnreadableError(f"{path}: expected a video, could not read a single frame; convert it to MP4 (H.264)")
        if position < PROMISED * promised:
            warnings.warn(f"{path}: only {position} of {promised} frames could be read; is the file cut off?", stacklevel=2)
    finally:
        capture.release()


def read_image(path: Path, needed: tuple[int, int] | None = None) -> np.ndarray:
    """Picture as (Hs, Ws, 3) uint8 RGB, upright as EXIF tells.

    Args:
        needed: (height, width) that are enough; JPEG is then decoded to a half, a quarter or an eighth, but not below.
    Raises: InputError naming the file.
    """
    try:
        with Image.open(path) as image:
            if needed:
                image.draft(None, needed if _on_its_side(image) else needed[::-1])
            return _rgb(ImageOps.exif_transpose(image))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as fault:
        raise UnreadableError(f"{path}: expected a readable picture: {fault}; restore the file") from fault


def _on_its_side(image: Image.Image) -> bool:
    return image.getexif().get(ORIENTATION, 1) > 4


def _rgb(image: Image.Image) -> np.ndarray:
    """(Hs, Ws, 3) uint8; 16 bits of grey lose their lower half (Pillow would cut them off at 255)."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.array(image).clip(0, 65535) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width), upright as EXIF tells, by the file's head, which is all that is read.

    Raises: InputError naming the file.
    """
    try:
        with Image.open(path) as image:
            return image.size if _on_its_side(image) else image.size[::-1]
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as fault:
        raise UnreadableError(f"{path}: expected a readable picture: {fault}; restore the file") from fault
