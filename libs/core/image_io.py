"""Picture files: the one place where they are opened, and how they become arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, WebPImagePlugin  # noqa: F401 (registers the format)

from libs.core.errors import UnreadableError
from libs.core.files import atomic_write

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # by content; others, such as EPS, would start other programs
ORIENTATION = 0x0112  # EXIF: how the camera was held; from 5 on on its side
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST = 32766  # pixels; what OpenCV can resize


@contextmanager
def open_image(path: Path, kind: str = "picture") -> Iterator[Image.Image]:
    """The picture, to be decoded within the block.

    Raises: UnreadableError naming the file, whatever Pillow stumbles over, here or within the block.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("not a file")
        with Image.open(path, formats=FORMATS) as image:
            if max(image.size) > LONGEST:
                raise OSError(f"sides of {image.size[0]}x{image.size[1]} pixels, more than {LONGEST}")
            yield image
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # of damaged bytes come struct.error, TypeError, SyntaxError, ValueError ...
        raise UnreadableError(
            f"{path}: expected a readable {kind} ({', '.join(IMAGES)}): {error}; restore the file"
        ) from error


def read_image(path: Path, needed: tuple[int, int] | None = None) -> np.ndarray:
    """Picture as (Hs, Ws, 3) uint8 RGB, upright as EXIF tells.

    Args:
        needed: (height, width) that are enough; JPEG is then decoded to a half, a quarter or an eighth, but not below.
    Raises: UnreadableError naming the file.
    """
    with open_image(path) as image:
        if needed:
            image.draft(None, needed if _on_its_side(image) else needed[::-1])
        turn = TURNS.get(_orientation(image))
        return _rgb(image if turn is None else image.transpose(turn))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width), upright as EXIF tells, by the file's head, which is all that is read.

    Raises: UnreadableError naming the file.
    """
    with open_image(path) as image:
        return image.size if _on_its_side(image) else image.size[::-1]


def _on_its_side(image: Image.Image) -> bool:
    return _orientation(image) in (5, 6, 7, 8)


def _orientation(image: Image.Image) -> int:
    """1 to 8, by EXIF. (ImageOps.exif_transpose writes all tags anew, and stumbles where one of them is odd.)"""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF; the picture may be whole
        return 1


def _rgb(image: Image.Image) -> np.ndarray:
    """(Hs, Ws, 3) uint8; 16 bits of grey lose their lower half (Pillow would cut them off at 255)."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.array(image).clip(0, 65535) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        # A third of the default's time, 4 % larger.
        Image.fromarray(image).save(temporary, format="PNG", compress_level=3)
