"""Mask files to label maps. THE place that decides which object a value in a mask file means.

A mask file takes one of three forms (`MaskStyle`):

    label numbers   palette or grey PNG: 0 is background, 1..254 are objects, 255 is void
    one object      grey PNG of 0 and 255 (DAVIS 2016, saliency tools): here 255 is object 1, not void
    colours         RGB PNG: black is background, every other colour is an object

`VideoIndex.binary` says whether a data set has the second form. If the index leaves that open, `Annotations`
looks at the masks of the video and decides once for all of them.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.core.errors import UnreadableError
from libs.core.image_io import open_image
from libs.core.masks import VOID, palette
from libs.core.structures import VideoIndex

# More labels or colours than this in one video are the smoothed edges of a mask, not objects.
MAX_VALUES = 64
LISTED = 5  # labels that a message names
OPAQUE = 128  # least alpha of a pixel that counts; what is more transparent is background


@dataclass(frozen=True)
class MaskStyle:
    """How the masks of one video encode objects; the default is label numbers.

    binary: every value above 0 is object 1.
    colours: the colours of objects 1, 2, ... as packed RGB (see `_pack`); None if masks hold label numbers.
    """

    binary: bool = False
    colours: tuple[int, ...] | None = None


class Annotations:
    """The masks of one video: decides their style when it is created, then reads label maps on demand."""

    def __init__(self, index: VideoIndex, positions: Iterable[int] = ()):
        """Decide the style of the masks; decodes masks only if the index leaves the style open.

        Args:
            positions: frames of a training clip. Their masks are decoded once and kept, because a clip reads
                some of them twice; and they take part in the decision, because a data set's given mask may
                lack values that they show.
        Raises: UnreadableError naming a mask that cannot be read or has smoothed edges.
        """
        self.index = index
        self._kept_positions = frozenset(positions)
        self._kept: dict[int, np.ndarray] = {}
        self._style = self._decide_style() if index.binary is None else MaskStyle(index.binary)

    def read(self, position: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """Read the label map of one frame.

        Args:
            size: (height, width) of the frame, to compare with; None skips this check.
        Returns: (Hs, Ws) uint8; 0 is background, 255 is void.
        Raises: UnreadableError naming the file if it cannot be read or does not have the size of its frame.
        """
        path = self.index.masks[position]
        labels = _to_labels(self._decode(position), self._style, path)
        if size is not None:
            check_size(path, labels, size)
        return labels

    def _decide_style(self) -> MaskStyle:
        """Find the style from the values in the given masks and in those of the clip.

        255 is an object if no other value exists beside 0; beside other labels it is void. Colours of the
        DAVIS palette keep their labels; other colours are numbered in the order of their RGB values.
        """
        values: set[int] = set()
        coloured = False
        for position in sorted({*self.index.given, *self._kept_positions}):
            distinct = self._distinct_values(position)
            coloured |= _is_coloured(distinct)
            values |= set(distinct.tolist()) - {0}
            if len(values) > MAX_VALUES:
                raise UnreadableError(
                    f"{self.index.masks[position]}: expected one label or colour per object, "
                    f"found {len(values)} of them: the mask has smoothed (anti-aliased) edges; "
                    "save it again without smoothing, as PNG"
                )
        if not coloured:
            if VOID in values and len(values) > 1 and not self._kept_positions:  # once, not for each clip
                others = ", ".join(map(str, sorted(values - {VOID})[:LISTED]))
                warnings.warn(
                    f"video '{self.index.name}': its masks hold 255 beside other labels ({others}), so 255 "
                    "counts as void, which is background; give it another number if it is an object",
                    stacklevel=4,
                )
            return MaskStyle(binary=values == {VOID})
        known = [int(colour) for colour in _pack(palette())[1:VOID]]
        return MaskStyle(colours=tuple(known if values <= set(known) else sorted(values)))

    def _distinct_values(self, position: int) -> np.ndarray:
        """Each value of a mask once."""
        return np.unique(self._decode(position))

    def _decode(self, position: int) -> np.ndarray:
        if position in self._kept:
            return self._kept[position]
        raw = _decode(self.index.masks[position])
        if position in self._kept_positions:  # a clip has a few frames; a whole video is never kept
            self._kept[position] = raw
        return raw


def read_labels(path: Path) -> np.ndarray:
    """Read one mask file of label numbers that belongs to no video.

    Returns: label map (Hs, Ws) uint8; 0 is background, 255 is void.
    Raises: UnreadableError naming the file, also if it holds colours.
    """
    return _to_labels(_decode(path), MaskStyle(), path)


def check_size(path: Path, labels: np.ndarray, size: tuple[int, int]) -> None:
    """Check that a mask has the size (height, width) of its frame.

    Raises: UnreadableError naming the file if it has not.
    """
    if labels.shape != size:
        raise UnreadableError(
            f"{path}: expected a mask of its frame's size {size[1]}x{size[0]}, "
            f"found {labels.shape[1]}x{labels.shape[0]}"
        )


def _to_labels(raw: np.ndarray, style: MaskStyle, path: Path) -> np.ndarray:
    """Values of a mask file (see `_decode`) to labels of the same shape, uint8."""
    if not _is_coloured(raw):
        labels = raw
    elif style.colours is None:
        raise UnreadableError(
            f"{path}: expected a mask of label numbers (palette or grey PNG), found colours (mode RGB)"
        )
    else:
        labels = np.zeros(raw.shape, np.uint8)
        for number, colour in enumerate(style.colours, start=1):
            labels[raw == colour] = number
    # Here 255 becomes an object: DAVIS 2016 and saliency tools store their one object as 255.
    return (labels > 0).astype(np.uint8) if style.binary else labels


def _decode(path: Path) -> np.ndarray:
    """Decode a mask file to (Hs, Ws): label numbers as uint8, or colours as packed RGB in int32."""
    with open_image(path, "mask") as image:
        if image.mode in ("P", "L"):
            return np.array(image)
        if image.mode == "1":
            return np.array(image.convert("L"))
        if image.mode == "RGB":
            return _pack(np.array(image))
        if image.mode == "LA":  # one mask of DAVIS 2016 is of this kind
            grey = np.array(image)
            return np.where(grey[..., 1] < OPAQUE, 0, grey[..., 0])
        if image.mode == "RGBA":
            rgba = np.array(image)
            return np.where(rgba[..., 3] < OPAQUE, 0, _pack(rgba[..., :3]))
        raise UnreadableError(
            f"{path}: expected a palette, grey or RGB mask of 8 bits, found mode {image.mode}"
        )


def _pack(colours: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 RGB to (...) int32, one number per colour."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _is_coloured(raw: np.ndarray) -> bool:
    """Whether values of `_decode` are packed colours rather than label numbers."""
    return raw.dtype == np.int32
