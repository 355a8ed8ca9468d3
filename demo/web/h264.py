"""Write an MP4 that browsers play. OpenCV's wheels have no encoder for H.264, those of PyAV have one."""

import os
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from libs.core.errors import InputError
from libs.core.files import temporary_name

QUALITY = "20"  # x264's constant rate factor: 18 is hardly visible, 28 is small
FINEST_RATE = 1000  # denominator of the frame rate


class H264Writer(AbstractContextManager):
    """Writes frames to an MP4 file (H.264) as they come, within its `with` block. It holds a few frames.

    Colours are halved in resolution (4:2:0), which needs even sizes. So odd ones get a copy of their last row
    or column.

    Raises: InputError if PyAV is not installed, if there was no frame, or if the file cannot be written.
    """

    def __init__(self, path: Path, fps: float) -> None:
        try:
            import av
        except ImportError as error:
            raise InputError(f"{path.name}: H.264 needs PyAV; pip install -r requirements-web.txt") from error
        self._av = av
        self.path = path
        self._temporary = temporary_name(path, ".mp4")  # the name tells the library the format
        self._rate = Fraction(fps).limit_denominator(FINEST_RATE)
        self._container = av.open(str(self._temporary), "w", options={"movflags": "faststart"})
        self._stream: Any = None

    def add(self, frame_rgb: np.ndarray) -> None:
        """Take the next frame, (H, W, 3) uint8 RGB."""
        height, width = frame_rgb.shape[:2]
        even = cv2.copyMakeBorder(frame_rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._stream is None:
            self._stream = self._container.add_stream(
                "libx264", rate=self._rate, options={"crf": QUALITY, "preset": "veryfast"}
            )
            self._stream.pix_fmt = "yuv420p"
            self._stream.height, self._stream.width = even.shape[:2]
        self._write(self._av.VideoFrame.from_ndarray(even, format="rgb24"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._stream is None:
                    raise InputError(f"{self.path}: no frames to write")
                self._write(None)  # what the encoder still holds
            self._container.close()
            if kind is None:
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _write(self, frame: object) -> None:
        """Encode a frame; None: the end.

        Raises: InputError if the disk is full, or the like.
        """
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise InputError(
                f"{self.path} cannot be written: {error}; check the space on the disk"
            ) from error
