"""Mask files to arrays: one value per pixel, whatever kind of image file holds it.

What the values mean is decided in dataset/masks/style.py.
"""

import os
from dataclasses import dataclass
from typing import IO, cast

import cv2
import numpy as np
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from libs.core.errors import UnreadableError
from libs.core.image_io import open_image, upright
from libs.core.masks import VOID
from libs.core.shards import File

OPAQUE = 128  # least alpha of a pixel that counts; what is more transparent is background
WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # 16-bit grey; older versions of Pillow open it as I
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *WIDE)
LOSSY = ("JPEG", "MPO")
MAX_WIDE = (1 << 16) - 1
BLOCK = np.ones((3, 3), np.uint8)  # an area: a value that fills no such block is a line or an edge


@dataclass(frozen=True)
class MaskFile:
    """A decoded mask file.

    values: (Hs, Ws) uint8; 0 is black or transparent. Without `colours` they are label numbers or greys, with
        them value i stands for colours[i - 1].
    mode: Pillow's name of the kind of image.
    palette: (N, 3) uint8 RGB of an indexed image; None for others.
    colours: packed RGB, ascending; None if each pixel is a label number or a grey.
    lossy: name of the compression because of which the values may differ from those that were saved.
    too_large: a value above 255, if there is one. Then `values` are the upper 8 of 16 bits, or 1.
    """

    path: File
    values: np.ndarray
    mode: str
    palette: np.ndarray | None = None
    colours: tuple[int, ...] | None = None
    lossy: str = ""
    too_large: int | None = None

    @property
    def is_indexed(self) -> bool:
        """Whether the pixels are palette indices, which no tool smooths."""
        return self.palette is not None

    @property
    def has_colours(self) -> bool:
        """Whether the file can hold colours, if only greys were found."""
        return self.mode in ("RGB", "RGBA")

    @property
    def levels(self) -> np.ndarray:
        """(Hs, Ws) uint8: the values as greys."""
        if not self.colours:
            return self.values
        greys = [sum(unpack(colour)) // 3 for colour in (0, *self.colours)]
        return np.array(greys, np.uint8)[self.values]

    def colour_of(self, value: int) -> int:
        """The packed RGB colour of a value; of a grey, too."""
        return self.colours[value - 1] if self.colours else value * 0x010101


def decode_mask(path: File) -> MaskFile:
    """Decode a mask file.

    Raises: UnreadableError naming the file, also if it is of a kind that cannot be a mask.
    """
    with open_image(path, "mask") as image:
        return decode_image(image, path)


def decode_image(image: Image.Image, path: File) -> MaskFile:
    """Decode a mask that is open; `path` is for messages.

    Raises: UnreadableError naming the file if it is of a kind that cannot be a mask.
    """
    mode, lossy = image.mode, _find_lossy(image)
    if mode not in MODES:
        raise UnreadableError(
            f"{path}: expected a palette, grey or RGB mask, found mode {mode}; "
            "save it as a PNG of label numbers"
        )
    pixels = np.array(upright(image))
    if mode in ("LA", "RGBA"):
        _refuse_translucent(path, pixels)
    hidden = _transparent(image, pixels)
    if mode in ("LA", "PA"):
        pixels = pixels[..., 0]
    if hidden is not None:
        pixels[hidden] = 0
    if mode in ("P", "PA"):
        colours = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
        _check_background(path, pixels, colours, _is_first_entry_transparent(image))
        return MaskFile(path, pixels, mode, palette=colours)
    if mode == "1":
        return MaskFile(path, pixels.astype(np.uint8) * 255, mode)
    if mode in WIDE:
        return _narrow(path, pixels, mode)
    if mode in ("L", "LA") or _is_grey(pixels):
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        return MaskFile(path, np.ascontiguousarray(grey), mode, lossy=lossy)
    if lossy:
        raise UnreadableError(f"{path}: {lossy} changes colours; save as PNG")
    return _number_colours(path, pixels, mode)


def pack(colours: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 RGB to (...) int32, one number per colour."""
    red, green, blue = (colours[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue


def unpack(colour: int) -> tuple[int, int, int]:
    """The inverse of `pack` for one colour."""
    return colour >> 16, colour >> 8 & 255, colour & 255


def _find_lossy(image: Image.Image) -> str:
    """Name the compression that may have changed the values; empty if none has."""
    if isinstance(image, WebPImageFile):
        return "lossy WebP" if _is_lossy_webp(cast(IO[bytes], image.fp)) else ""
    if image.format in LOSSY or image.info.get("compression") == "jpeg":
        return "JPEG"
    return "lossy WebP" if image.info.get("compression") == "webp" else ""


def _is_lossy_webp(file: IO[bytes]) -> bool:
    """Whether the first chunk with pixels is that of lossy compression."""
    file.seek(12)
    while len(header := file.read(8)) == 8:
        if header[:3] == b"VP8" and header[3:4] in (b" ", b"L"):
            return header[3:4] == b" "
        size = int.from_bytes(header[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    return False


def _refuse_translucent(path: File, pixels: np.ndarray) -> None:
    """Refuse coloured areas that are rather transparent, but visible; smoothed edges form no area.

    Args:
        pixels: (Hs, Ws, C) uint8, the last channel is alpha.
    Raises: UnreadableError naming the file and an alpha if there is such an area.
    """
    alpha = np.ascontiguousarray(pixels[..., -1])
    faint = (alpha > 0) & (alpha < OPAQUE)
    if not faint.any():
        return
    flat = faint & pixels[..., :-1].any(-1) & (cv2.dilate(alpha, BLOCK) == cv2.erode(alpha, BLOCK))
    if flat.any():
        raise UnreadableError(
            f"{path}: found areas that are more transparent than opaque (alpha {alpha[flat][0]}), as in an "
            "overlay; save the mask without transparency"
        )


def _transparent(image: Image.Image, pixels: np.ndarray) -> np.ndarray | None:
    """(Hs, Ws) bool: which pixels are transparent; None if the file has no transparency."""
    if image.mode in ("LA", "PA", "RGBA"):
        return pixels[..., -1] < OPAQUE
    key = image.info.get("transparency")  # chunk tRNS of a PNG
    if key is None:
        return None
    if isinstance(key, bytes):  # an alpha for each palette entry, the rest opaque
        return (_entry_alpha(key) < OPAQUE)[pixels]
    if image.mode == "1":
        key = bool(key)
    return (pixels == np.array(key)).all(-1) if pixels.ndim == 3 else pixels == key


def _entry_alpha(key: bytes) -> np.ndarray:
    """(256,) uint8 alpha of the palette entries."""
    alpha = np.full(256, 255, np.uint8)
    alpha[: len(key)] = np.frombuffer(key, np.uint8)
    return alpha


def _is_first_entry_transparent(image: Image.Image) -> bool:
    key = image.info.get("transparency")
    return key[0] < OPAQUE if isinstance(key, bytes) and key else key == 0


def _check_background(path: File, values: np.ndarray, palette: np.ndarray, transparent: bool) -> None:
    """Check that entry 0 of a palette is the background.

    Args:
        transparent: whether entry 0 is, which makes it the background in any colour.
    Raises: UnreadableError if another entry looks like the background.
    """
    if transparent or not palette.size or not palette[0].any():
        return
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256)[: len(palette)])
    black = [int(entry) for entry in used if not palette[entry].any()]
    if black:
        raise UnreadableError(
            f"{path}: palette entry 0 is {tuple(palette[0].tolist())} and entry {black[0]} is black: it is "
            "unclear which is background; save it with entry 0 as background"
        )


def _narrow(path: File, pixels: np.ndarray, mode: str) -> MaskFile:
    """A 16-bit mask: its values if they fit into 8 bits, else the upper 8 bits, at least 1 unless 0."""
    least, most = int(pixels.min()), int(pixels.max())
    if least < 0 or most > MAX_WIDE:
        raise UnreadableError(f"{path}: found the value {least if least < 0 else most}; labels are 1 to 254")
    if most <= VOID:
        return MaskFile(path, pixels.astype(np.uint8), mode)
    # Labels below 256 become 1, lest they look like background beside a large value such as 65535.
    upper = np.maximum(pixels >> 8, pixels > 0).astype(np.uint8)
    return MaskFile(path, upper, mode, too_large=most)


def _is_grey(pixels: np.ndarray) -> bool:
    """Whether all pixels (Hs, Ws, 3 or 4) have R = G = B."""
    red, green, blue = (pixels[..., i] for i in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def _number_colours(path: File, pixels: np.ndarray, mode: str) -> MaskFile:
    """Number the colours of an RGB or RGBA mask in their order; black is 0.

    Raises: UnreadableError if there are more colours than labels.
    """
    conversion = cv2.COLOR_RGB2BGRA if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    packed = cv2.cvtColor(pixels, conversion).view("<u4")[..., 0] & 0xFFFFFF
    # Tables of all colours are much faster than sorting the pixels.
    occurs = np.zeros(1 << 24, bool)
    occurs[packed] = True
    occurs[0] = False
    found = np.flatnonzero(occurs)
    if len(found) >= VOID:
        raise UnreadableError(
            f"{path}: expected one colour per object, found {len(found)} colours: smoothed (anti-aliased) "
            "edges, or no mask at all; save it again without smoothing, as PNG"
        )
    number = np.zeros(1 << 24, np.uint8)
    number[found] = np.arange(1, len(found) + 1)
    return MaskFile(path, number[packed], mode, colours=tuple(found.tolist()))
