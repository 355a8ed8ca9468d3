"""Draw predictions: palette PNGs, overlays, heat maps, GIF and MP4.

H, W are the pixels of the source. Every image is (H, W, 3) uint8 RGB. Every file appears only when it is
complete.
"""

import math
import os
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from PIL import Image

from libs.core.errors import InputError
from libs.core.files import atomic_write, temporary_name
from libs.core.image_io import save_index_png, write_image
from libs.core.masks import VOID, keep_objects, palette
from libs.core.structures import Prediction, RoundTrip

FORMATS = ("index", "segmentation", "heatmap", "mask")
HEAT_OPACITY = 0.6  # of the heat map where the probability is 1
CONTOUR_SCALE = 300  # pixels of an image's shorter side for each pixel of a contour's width
GIF_COLOURS = 255  # the last is for transparency, which spares what does not change
GIF_SAMPLED_FRAMES = 16  # evenly spaced; their colours make a GIF's palette
GIF_SAMPLED_PIXELS = 100_000  # of these frames together, which is enough and quick


def overlay(image: np.ndarray, labels: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Tint every object in its palette colour and draw its contour.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8; void is background.
        alpha: opacity of the tint; 0 leaves only the contours.
    Returns: (H, W, 3) uint8 RGB; pixels of no object keep the image's colour.
    """
    labels = np.where(labels == VOID, 0, labels)
    colours = palette()
    tinted = cv2.addWeighted(image, 1 - alpha, colours[labels], alpha, 0)
    drawn = np.where((labels > 0)[..., None], tinted, image)
    edges = _contours(labels)
    drawn[edges] = _brightest(colours)[labels[edges]]
    return drawn


def heatmap(image: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Colour every pixel by its probability, the more opaque the likelier.

    Args:
        image: (H, W, 3) uint8 RGB; probs: (H, W) float in 0..1.
    Returns: (H, W, 3) uint8 RGB.
    """
    probs = probs.clip(0, 1)
    heat_bgr = cv2.applyColorMap(np.round(255 * probs).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat = heat_bgr[..., ::-1]
    opacity = HEAT_OPACITY * probs[..., None]
    return np.round((1 - opacity) * image + opacity * heat).astype(np.uint8)


def render(prediction: Prediction, save_indexed_format: str) -> np.ndarray:
    """Draw a prediction.

    Args:
        save_indexed_format: one of FORMATS; 'index' is drawn as its palette colours.
    Returns: (H, W, 3) uint8 RGB.
    Raises: InputError if the format is unknown.
    """
    image, labels = prediction.frame.image, prediction.labels
    if save_indexed_format == "index":
        return palette()[labels]
    if save_indexed_format == "segmentation":
        return overlay(image, labels)
    if save_indexed_format == "mask":
        return overlay(image, keep_objects(labels, prediction.ids[:1]))
    if save_indexed_format == "heatmap":
        if prediction.object_probs is None:
            raise ValueError(f"frame {prediction.frame.name}: a heat map needs object_probs")
        return heatmap(image, prediction.object_probs.max(axis=0, initial=0))
    raise InputError(f"save_indexed_format: '{save_indexed_format}' is not one of {', '.join(FORMATS)}")


def save(path: Path, prediction: Prediction, save_indexed_format: str) -> None:
    """Write a prediction as PNG: 'index' as labels with a palette, the other FORMATS as RGB."""
    if save_indexed_format == "index":
        save_index_png(path, prediction.labels)
        return
    write_image(path, render(prediction, save_indexed_format))


def round_trip_image(returned: RoundTrip) -> np.ndarray:
    """Draw the reference frame twice, side by side: with its given mask, and with the mask predicted back.

    Returns: (H, 2 W + gap, 3) uint8 RGB.
    """
    image = returned.frame.image
    gap = np.full((image.shape[0], max(1, image.shape[1] // 100), 3), 255, np.uint8)
    return np.concatenate([overlay(image, returned.given), gap, overlay(image, returned.labels)], axis=1)


class GifWriter(AbstractContextManager):
    """Collects frames and writes an animated GIF at the end of its `with` block.

    All frames share one palette, so that colours that do not change do not flicker. The palette is computed
    from frames of the whole video, so all frames are held until the end, scaled down and compressed. Equal
    frames in a row become one frame that is shown longer.

    Args:
        fps: frames per second. GIF counts in 1/100 s, and viewers slow down what is faster than 50.
        max_width: in pixels; wider frames are scaled down.
    Raises: InputError if there was no frame, or if a frame has another size than the first one.
    """

    def __init__(self, path: Path, fps: float, max_width: int = 480) -> None:
        self.path = path
        self.fps = fps
        self.max_width = max_width
        self._frames: list[bytes] = []  # JPEG
        self._shape: tuple[int, ...] = ()  # before scaling

    def add(self, frame_rgb: np.ndarray) -> None:
        """Take the next frame, (H, W, 3) uint8 RGB."""
        self._shape = self._shape or frame_rgb.shape
        _check_shape(self.path, frame_rgb, self._shape)
        frame = Image.fromarray(frame_rgb)
        if frame.width > self.max_width:
            height = max(1, round(frame.height * self.max_width / frame.width))
            frame = frame.resize((self.max_width, height), Image.Resampling.LANCZOS)
        packed = BytesIO()
        frame.save(packed, format="JPEG", quality=95, subsampling=0)
        self._frames.append(packed.getvalue())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if not self._frames:
            raise InputError(f"{self.path}: no frames to write")
        shared = self._shared_palette()
        # Without dithering: its pattern would change from frame to frame.
        first, *rest = (
            self._frame(i).quantize(palette=shared, dither=Image.Dither.NONE)
            for i in range(len(self._frames))
        )
        with atomic_write(self.path) as temporary:
            first.save(
                temporary,
                format="GIF",
                save_all=True,
                append_images=rest,
                loop=0,
                duration=10 * max(2, round(100 / self.fps)),
            )

    def _frame(self, index: int) -> Image.Image:
        return Image.open(BytesIO(self._frames[index]))

    def _shared_palette(self) -> Image.Image:
        """The best colours for the whole video, from a few of its frames stacked into one image."""
        count = min(GIF_SAMPLED_FRAMES, len(self._frames))
        picks = np.linspace(0, len(self._frames) - 1, count).round().astype(int)
        stack = np.concatenate([np.asarray(self._frame(i)) for i in picks])
        step = math.ceil(math.sqrt(stack[..., 0].size / GIF_SAMPLED_PIXELS))
        sampled = Image.fromarray(stack[::step, ::step])
        return sampled.quantize(GIF_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=3)


class Mp4Writer(AbstractContextManager):
    """Writes frames to an MP4 file (MPEG-4 part 2) as they come, within its `with` block. It holds no frame.

    The codec needs even sizes, so odd ones get a copy of their last row or column.

    Raises: InputError if no file can be opened, if there was no frame, or if a frame has another size than
        the first.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._temporary = temporary_name(path, ".mp4")  # the name tells the library the format
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def add(self, frame_rgb: np.ndarray) -> None:
        """Take the next frame, (H, W, 3) uint8 RGB."""
        if self._writer is None:
            self._writer = self._open(frame_rgb)
        _check_shape(self.path, frame_rgb, self._shape)  # the writer would drop the frame in silence
        height, width = self._shape[:2]
        even = cv2.copyMakeBorder(frame_rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.release()
            if kind is None:
                self._check()
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _open(self, frame_rgb: np.ndarray) -> cv2.VideoWriter:
        """Start the file, for frames like this one."""
        self._shape = frame_rgb.shape
        size = tuple(pixels + pixels % 2 for pixels in (self._shape[1], self._shape[0]))  # (width, height)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._temporary), codec, self.fps, size)
        if not writer.isOpened():
            raise InputError(
                f"{self.path}: cannot write an MP4 file of {size[0]}x{size[1]} pixels at {self.fps} "
                "frames per second; check the folder, the size and the rate"
            )
        return writer

    def _check(self) -> None:
        """Read the number of frames back, because the writer reports no error, not even a full disk."""
        if self._count == 0:
            raise InputError(f"{self.path}: no frames to write")
        written = int(cv2.VideoCapture(str(self._temporary)).get(cv2.CAP_PROP_FRAME_COUNT))
        if written != self._count:
            raise InputError(
                f"{self.path}: {written} of {self._count} frames arrived on the disk; is it full?"
            )


def _check_shape(path: Path, frame_rgb: np.ndarray, expected: tuple[int, ...]) -> None:
    if frame_rgb.shape != expected:
        raise InputError(
            f"{path}: a frame of shape {frame_rgb.shape} after others of {expected}; all must be alike"
        )


def _contours(labels: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool of labels (H, W) uint8 that belong to an object and are next to another label."""
    width = max(1, round(min(labels.shape) / CONTOUR_SCALE))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    return (labels > 0) & (cv2.dilate(labels, kernel) != cv2.erode(labels, kernel))


def _brightest(colours: np.ndarray) -> np.ndarray:
    """The same hues (..., 3) uint8 at full brightness; black stays black."""
    peak = colours.max(axis=-1, keepdims=True).clip(1)
    return (colours.astype(np.float32) * (255 / peak)).round().astype(np.uint8)
