"""Label maps of a video on disk, one palette PNG for each frame, written whole or not at all."""

import shutil
from pathlib import Path

import numpy as np

from libs.core.files import atomic_write
from libs.core.image_io import open_image, save_index_png


class MaskFiles:
    """Labels (H, W) uint8 by frame number. Nothing is held in memory but the numbers.

    Args:
        folder: of its own; it is emptied.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.times: set[int] = set()  # of the frames that have one

    def path(self, t: int) -> Path:
        """The file of frame t."""
        return self.folder / f"{t:05d}.png"

    def read(self, t: int) -> np.ndarray | None:
        """The labels of frame t; None if it has none."""
        if t not in self.times:
            return None
        with open_image(self.path(t), "mask") as image:
            return np.array(image)

    def write(self, t: int, labels: np.ndarray) -> None:
        """Set the labels of frame t."""
        save_index_png(self.path(t), labels)
        self.times.add(t)

    def pack(self, t: int) -> bytes | None:
        """The file of frame t, to be put back by `unpack`; None if there is none."""
        return self.path(t).read_bytes() if t in self.times else None

    def unpack(self, t: int, packed: bytes | None) -> None:
        """Put back what `pack` returned for frame t."""
        if packed is None:
            self.remove(t)
            return
        with atomic_write(self.path(t)) as temporary:
            temporary.write_bytes(packed)
        self.times.add(t)

    def remove(self, t: int) -> None:
        """Let frame t have no labels."""
        self.times.discard(t)
        self.path(t).unlink(missing_ok=True)
