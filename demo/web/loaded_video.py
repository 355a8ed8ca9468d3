"""The video of a tab: its frames are image files, of a folder or taken out of a video file."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from dataset.folder import list_frames
from dataset.video_file import SUFFIXES, decode_video, frame_rate
from libs.core.errors import InputError, UnreadableError
from libs.core.file_list import stems
from libs.core.image_io import image_size, read_image
from libs.core.shards import File

MOST_PIXELS = 16_000_000  # of a frame
MOST_BYTES = 8 * 10**9  # of the frames of one video file, on disk
FREE_BYTES = 10**9  # that stay free on the disk
FRAMES_PER_SECOND = 12.0  # of a folder, which states none
PACKING = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # a third of the default's time


@dataclass(frozen=True)
class LoadedVideo:
    """A video on disk. No frame is held in memory.

    name: safe as the name of a file.
    frames: image files, in order; names: of the frames, without suffix; size: (height, width) of all frames.
    """

    name: str
    frames: Sequence[File]
    size: tuple[int, int]
    fps: float = FRAMES_PER_SECOND
    names: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(stems(self.frames)))

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, t: int) -> np.ndarray:
        """Read frame t: (H, W, 3) uint8 RGB.

        Raises: UnreadableError naming the file if it cannot be read or has another size than the first frame.
        """
        image = read_image(self.frames[t])
        if image.shape[:2] != self.size:
            expected, found = (f"{width}x{height}" for height, width in (self.size, image.shape[:2]))
            raise UnreadableError(
                f"{self.frames[t]}: expected the size of the first frame, {expected}, found {found}; "
                "scale all frames alike"
            )
        return image


def load_video(
    path: Path, scratch: Path, progress: Callable[[int], None] = lambda count: None
) -> LoadedVideo:
    """Open a folder of frames, or take the frames out of a video file.

    Args:
        scratch: an empty folder, in which the frames of a video file are kept as PNG.
        progress: called with the number of frames taken out so far; what it raises ends the work.
    Raises: InputError naming the file if it holds no frame, or frames that are too large or too many.
    """
    if path.is_dir():
        frames: Sequence[File] = list_frames(path.name, path)
        size = image_size(frames[0])
        _check_size(frames[0], size)
        return LoadedVideo(_safe(path.name), frames, size)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path.name}: expected a video file ({', '.join(SUFFIXES[:5])} and others); convert the file"
        )
    rate = frame_rate(path) or FRAMES_PER_SECOND  # first: the file may be removed while it is read
    frames, size = _extract(path, scratch, progress)
    return LoadedVideo(_safe(path.stem), frames, size, rate)


def _extract(
    path: Path, scratch: Path, progress: Callable[[int], None]
) -> tuple[list[Path], tuple[int, int]]:
    """Write the frames of a video file as PNG. Returns the files, and (height, width) of the frames."""
    scratch.mkdir(parents=True, exist_ok=True)
    frames: list[Path] = []
    written, size = 0, (0, 0)
    for name, image in decode_video(path):
        size = size if frames else (image.shape[0], image.shape[1])
        _check_size(path, size)
        if image.shape[:2] != size:
            raise UnreadableError(f"{path}: the size of its frames changes at frame {name}; cut it there")
        packed = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), PACKING)[1]
        written += len(packed)
        if written > MOST_BYTES or shutil.disk_usage(scratch).free < FREE_BYTES + len(packed):
            raise InputError(
                f"{path}: its first {len(frames)} frames fill {written / 1e9:.1f} GB of temporary files; "
                "cut or scale down the video, or free some space"
            )
        frames.append(scratch / f"{name}.png")
        frames[-1].write_bytes(packed.tobytes())
        progress(len(frames))
    return frames, size


def _check_size(path: File, size: tuple[int, int]) -> None:
    """Raises: InputError if frames of (height, width) are too large."""
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(
            f"{path}: expected frames of at most {MOST_PIXELS // 10**6} megapixels, found "
            f"{size[1]}x{size[0]}; scale them down"
        )


def _safe(name: str) -> str:
    """A name without what file systems and pages may misread."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "video"
