"""Masks to label maps. THE place where masks are read, for training, testing and the demo.

The masks of one video take one of three forms:

    label numbers   palette or grey PNG: 0 is background, 1..254 are objects, 255 is void
    one object      grey PNG of 0 and 255 (DAVIS 2016, saliency tools): here 255 is object 1, not void
    colours         RGB PNG: black is background, every other colour is an object

A mask goes through three files: dataset/masks/files.py decodes it, dataset/masks/kinds.py says what it shows
by itself, and dataset/masks/style.py decides what its values mean in its video. If each object has a folder
of masks, dataset/object_folders.py merges them into one label map.
"""

import warnings
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from dataset.masks.files import MaskFile, decode_mask
from dataset.masks.kinds import THRESHOLD, Kind, MaskContent, examine, list_present, list_values
from dataset.masks.style import VideoStyle, label_one_object
from dataset.object_folders import merge
from libs.core.errors import UnreadableError
from libs.core.masks import VOID
from libs.core.shards import File
from libs.core.structures import VideoIndex


def print_warning(message: str) -> None:
    """Print a warning of one line."""
    warnings.warn(message, stacklevel=2)


class Annotations:
    """The masks of one video, read on demand as label maps."""

    def __init__(
        self,
        index: VideoIndex,
        positions: Iterable[int] = (),
        style: VideoStyle | None = None,
        warn: Callable[[str], object] | None = print_warning,
    ):
        """Decode nothing yet.

        Args:
            positions: frames of a training clip. Their label maps are kept, because a clip reads some of them
                twice.
            style: that of the same video, if it has been decided before.
            warn: called once per video for each thing that is unusual in its masks; None: never.
        """
        self.index = index
        self._style = style or VideoStyle(index)
        self._warn = warn
        self._warned: set[str] = set()
        self._kept_positions = frozenset(positions)
        self._kept: dict[int, np.ndarray] = {}

    def read(self, position: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """Read the label map of one frame.

        Args:
            size: (height, width) of the frame, to compare with; None skips this check.
        Returns: (Hs, Ws) uint8; 0 is background, 255 is void.
        Raises: UnreadableError naming the file if it cannot be read, does not have the size of its frame, or
            has another form than the first mask of its video, which is named, too.
        """
        labels = self._kept.get(position)
        if labels is None:
            labels = self._read(position)
        if position in self._kept_positions:  # a clip has a few frames; a whole video is never kept
            self._kept[position] = labels
        if size is not None:
            check_size(self.index.masks[position], labels, size)
        return labels

    def warn_of_surroundings(self, position: int, labels: np.ndarray) -> None:
        """Warn if objects cover the whole border of a frame's mask, as they do if background has a label.

        Args:
            labels: (Hs, Ws) uint8, what `read` returned for this frame.
        """
        border = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
        if ((border > 0) & (border < VOID)).all():
            shown = list_values(list_present(border[None]))
            self._warn_once("border", _describe_border(self.index.masks[position], shown, labels))

    def _read(self, position: int) -> np.ndarray:
        objects = self.index.object_masks.get(position)
        if objects:
            return merge(objects, self._read_object, partial(self._warn_once, "overlap"))
        mask = decode_mask(self.index.masks[position])
        shown = examine(mask)
        labels = self._style.label(position, mask, shown)
        self._warn_of_edges(mask, shown)
        values = list_present(labels) if self._warn and self.index.binary is None else ()
        if len(values) > 1 and values[-1] == VOID:
            self._warn_once("void", _describe_void(self.index.name, values[:-1]))
        return labels

    def _read_object(self, path: File) -> np.ndarray:
        """Read where a mask of one object shows it, (Hs, Ws) bool."""
        mask = decode_mask(path)
        shown = examine(mask)
        if shown.kind in (Kind.LABELS, Kind.COLOURS) and len(shown.values) > 1:
            raise UnreadableError(
                f"{path}: expected one object, because each has a folder of masks here, found {shown}; "
                "save every object in its own folder"
            )
        self._warn_of_edges(mask, shown)
        return label_one_object(mask, shown) > 0

    def _warn_of_edges(self, mask: MaskFile, shown: MaskContent) -> None:
        if self._warn and shown.kind in (Kind.SMOOTHED, Kind.UNCLEAR):
            self._warn_once("smoothed", _describe_smoothed(mask))

    def _warn_once(self, topic: str, line: str) -> None:
        if self._warn and topic not in self._warned:
            self._warned.add(topic)
            self._warn(line)


def _describe_smoothed(mask: MaskFile) -> str:
    lost = int(((mask.values > 0) & (mask.values < THRESHOLD)).sum())
    return (
        f"{mask.path}: {mask.lossy or 'smoothed edges'}; read as one object, values from "
        f"{THRESHOLD} on ({lost} pixels below become background)"
    )


def _describe_border(path: File, shown: str, labels: np.ndarray) -> str:
    background = np.count_nonzero(labels == 0)
    return (
        f"{path}: its whole border is covered by objects (label {shown}), and {background} of {labels.size} "
        "pixels are background; if that is wrong, save the mask with black, or 0, as background"
    )


def _describe_void(video: str, others: tuple[int, ...]) -> str:
    return (
        f"video '{video}': its masks hold 255 beside other labels ({list_values(others)}), so 255 counts as "
        "void, which is background; give it another number if it is an object"
    )


def check_size(path: File, labels: np.ndarray, size: tuple[int, int]) -> None:
    """Check that a mask has the size (height, width) of its frame.

    Raises: UnreadableError naming the file if it has not.
    """
    if labels.shape != size:
        raise UnreadableError(
            f"{path}: expected a mask of its frame's size {size[1]}x{size[0]}, "
            f"found {labels.shape[1]}x{labels.shape[0]}"
        )
