"""Image files: the one place where they are opened, and how they become arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, WebPImagePlugin  # noqa: F401 (registers the format)

from libs.core.errors import UnreadableError
from libs.core.files import atomic_write
from libs.core.foreign_files import recognize
from libs.core.masks import palette
from libs.core.shards import File

IMAGES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Formats by content. Some others, such as EPS, would start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
ORIENTATION = 0x0112  # EXIF tag: how the camera was held
SIDEWAYS = (5, 6, 7, 8)  # its values for a camera held on its side
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST = 32766  # pixels per side that OpenCV can resize


@contextmanager
def open_image(path: File, kind: str = "image") -> Iterator[Image.Image]:
    """Open an image, to be decoded within the block.

    Args:
        kind: what the file should be, for the error message.
    Raises: UnreadableError naming the file, whatever error Pillow raises, here or within the block.
    """
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise OSError("not a file")  # opening a pipe would wait for data
        with Image.open(path if isinstance(path, Path) else path.open(), formats=FORMATS) as image:
            if max(image.size) > LONGEST:
                raise OSError(f"sides of {image.size[0]}x{image.size[1]} pixels, more than {LONGEST}")
            if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO adds previews
                raise UnreadableError(
                    f"{path}: expected one image in the file, found several pages; save each as a file"
                )
            if image.format == "TIFF":
                image.filename = ""  # Pillow would map the file into memory, and mix up rows of turned images
            yield image
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # damaged bytes raise struct.error, TypeError, SyntaxError, ValueError ...
        foreign = recognize(path) if path.is_file() else ""
        reason = (
            f"; {foreign}" if foreign else f" ({', '.join(IMAGES)}): {error}; restore or convert the file"
        )
        raise UnreadableError(f"{path}: expected a readable {kind}{reason}") from error


def read_image(path: File, needed: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image as (Hs, Ws, 3) uint8 RGB, upright according to EXIF.

    Args:
        needed: (height, width) that are enough. JPEG is then decoded to a half, a quarter or an eighth of its
            size, but to no less than `needed`; other formats are not reduced.
    Raises: UnreadableError naming the file.
    """
    with open_image(path) as image:
        if needed:
            image.draft(None, needed if _is_sideways(image) else needed[::-1])
        return _to_rgb(upright(image))


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF says."""
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def image_size(path: File) -> tuple[int, int]:
    """(height, width) of an image, upright according to EXIF; reads only the file's header.

    Raises: UnreadableError naming the file.
    """
    with open_image(path) as image:
        width, height = image.size
        return (width, height) if _is_sideways(image) else (height, width)


def _is_sideways(image: Image.Image) -> bool:
    return _orientation(image) in SIDEWAYS


def _orientation(image: Image.Image) -> int:
    """1 to 8, by EXIF; 1 for TIFF, which Pillow turns by itself.

    (ImageOps.exif_transpose rewrites all tags, and fails if one of them is malformed.)
    """
    if image.format == "TIFF":
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF; the image itself may be intact
        return 1


def _to_rgb(image: Image.Image) -> np.ndarray:
    """(Hs, Ws, 3) uint8; 16-bit grey keeps its upper 8 bits (Pillow would clip it at 255)."""
    if image.mode == "F":
        raise OSError("expected 8 or 16 bits for each channel, found floating-point numbers")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.array(image).clip(0, 65535) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG, atomically."""
    _write_png(path, Image.fromarray(image))


def save_grey_png(path: Path, values: np.ndarray) -> None:
    """Write (H, W) uint8 or uint16 as a grey PNG of 8 or 16 bits, atomically."""
    _write_png(path, Image.fromarray(values))


def _write_png(path: Path, image: Image.Image) -> None:
    with atomic_write(path) as temporary:
        # A third of the default's time, 4 % larger.
        image.save(temporary, format="PNG", compress_level=3)


def save_index_png(path: Path, labels: np.ndarray) -> None:
    """Write labels (H, W) uint8 as they are, as PNG with the DAVIS palette, atomically."""
    image = Image.fromarray(labels)
    image.putpalette(palette().tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")
