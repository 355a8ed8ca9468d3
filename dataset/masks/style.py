"""What the values in the masks of one video mean: decided once, for all of its masks.

`VideoIndex.binary` says it for a data set. If the index leaves it open, the first mask of the video that
shows anything decides. Every other mask is compared with it when it is read, so that no two masks of a video
are read in two ways.
"""

from dataclasses import dataclass

import numpy as np

from dataset.masks.files import MaskFile, decode_mask, pack, unpack
from dataset.masks.kinds import RESAVE, THRESHOLD, Kind, MaskContent, examine
from libs.core.errors import UnreadableError
from libs.core.masks import VOID, palette
from libs.core.shards import File
from libs.core.structures import VideoIndex

ONE_OBJECT = (Kind.ONE, Kind.SMOOTHED)
CLOSE = 32  # colours that differ by no more in any channel may be one colour that varies
PALETTE = {int(colour): label for label, colour in enumerate(pack(palette())) if label}


@dataclass(frozen=True)
class _First:
    """The first mask of a video that shows anything."""

    path: File
    shown: MaskContent
    colours: frozenset[int]


@dataclass(frozen=True)
class _Numbers:
    """The colours of the first `masks` masks of a video.

    labels: colour -> its label, and the mask that shows it first.
    """

    masks: int = 0
    labels: tuple[tuple[int, File], ...] = ()


class VideoStyle:
    """What the values in the masks of one video mean.

    The answer does not depend on the order in which the masks are read. It may be kept for later clips of the
    same video, and several threads may ask.
    """

    def __init__(self, index: VideoIndex):
        """Decide nothing yet; the first mask is decoded when it is needed."""
        self._index = index
        self._positions = sorted(index.masks)
        self._decided: _First | None = None
        self._numbers = _Numbers()

    def label(self, position: int, mask: MaskFile, shown: MaskContent) -> np.ndarray:
        """Turn a mask into its label map.

        Args:
            position: of its frame. shown: what `examine` says of the mask.
        Returns: (Hs, Ws) uint8; 0 is background, 255 is void.
        Raises: UnreadableError naming the mask and, if they do not fit together, the first one of the video.
        """
        if shown.kind is Kind.EMPTY:
            return np.zeros_like(mask.values)
        if self._index.binary is not None:
            _refuse_colours(mask, shown)
            if self._index.binary:
                return label_one_object(mask, shown)
            return self._label_numbers(position, mask, shown)
        first = self._find_first(position, mask, shown)
        if first.shown.kind in ONE_OBJECT and (shown.kind in ONE_OBJECT or shown.is_faint):
            return _threshold(mask)
        _refuse_unclear(mask, shown)
        is_void = shown.kind is Kind.ONE and mask.is_indexed
        if first.shown.kind is Kind.LABELS and (shown.kind is Kind.LABELS or is_void):
            return mask.values
        if first.shown.kind is Kind.COLOURS and mask.has_colours and shown.kind is not Kind.SMOOTHED:
            return self._number_colours(position, mask, shown, first)
        raise UnreadableError(
            f"{mask.path}: found {shown}, but {first.path} holds {first.shown}; "
            "save all masks of a video in one form"
        )

    def _label_numbers(self, position: int, mask: MaskFile, shown: MaskContent) -> np.ndarray:
        """The label map of a mask of a data set of label numbers, in which 255 is void."""
        _refuse_unclear(mask, shown)
        if shown.kind not in ONE_OBJECT or (mask.is_indexed and len(self._positions) == 1):
            return mask.values  # a photograph with a palette mask may show nothing but void
        first = self._find_first(position, mask, shown)
        if first.shown.kind in ONE_OBJECT:
            raise UnreadableError(
                f"{first.path}: found {first.shown}, but 255 is void here; write 1 for the object, or use a "
                "set in which 255 alone is an object (DAVIS16, FOLDER, STATIC)"
            )
        if shown.kind is Kind.SMOOTHED:
            raise UnreadableError(
                f"{mask.path}: found {shown}, but {first.path} holds {first.shown}; {RESAVE}"
            )
        return mask.values

    def _find_first(self, position: int, mask: MaskFile, shown: MaskContent) -> _First:
        """Find the first mask of the video that shows anything; the mask at `position` does.

        Raises: UnreadableError naming the first mask if it does not say what its values mean.
        """
        if self._decided is None:
            for other in self._positions[: self._positions.index(position)]:
                earlier = decode_mask(self._index.masks[other])
                shown_earlier = examine(earlier)
                if shown_earlier.kind is not Kind.EMPTY:
                    mask, shown = earlier, shown_earlier
                    break
            _refuse_unclear(mask, shown)
            self._decided = _First(mask.path, shown, frozenset(_colours(mask, shown)))
        return self._decided

    def _number_colours(self, position: int, mask: MaskFile, shown: MaskContent, first: _First) -> np.ndarray:
        """The label map of a mask of colours.

        Colours of the DAVIS palette keep their labels. Others are numbered in the order in which the masks of
        the video show them, and within a mask in the order of their RGB values.
        """
        numbers = PALETTE
        if first.colours <= PALETTE.keys():
            _refuse_other_colours(mask, shown, first)
        else:
            numbers = self._number_until(position, mask, shown)
        table = np.zeros(256, np.uint8)
        for value in shown.values:
            table[value] = numbers[mask.colour_of(value)]
        return table[mask.values]

    def _number_until(self, position: int, mask: MaskFile, shown: MaskContent) -> dict[int, int]:
        """The labels of all colours that the masks up to the given one show.

        Raises: UnreadableError naming a mask with a colour that may be a known one.
        """
        numbers = self._numbers
        for other in self._positions[numbers.masks : self._positions.index(position) + 1]:
            if other == position:
                numbers = _extend(numbers, mask, shown)
            else:
                earlier = decode_mask(self._index.masks[other])
                numbers = _extend(numbers, earlier, examine(earlier))
        self._numbers = numbers
        return {colour: label for label, (colour, _) in enumerate(numbers.labels, start=1)}


def _extend(numbers: _Numbers, mask: MaskFile, shown: MaskContent) -> _Numbers:
    """Number the new colours of the next mask.

    Raises: UnreadableError if one of them may be a known colour that varies, or if there are too many.
    """
    _refuse_unclear(mask, shown)
    known = {colour for colour, _ in numbers.labels}
    new = [colour for colour in _colours(mask, shown) if colour not in known]
    for colour in new:
        for other, path in numbers.labels:
            if max(abs(a - b) for a, b in zip(unpack(colour), unpack(other))) <= CLOSE:
                raise UnreadableError(
                    f"{mask.path}: the colour {unpack(colour)} resembles {unpack(other)} of {path}: colours "
                    "vary between frames; save the masks as palette PNG"
                )
    labels = (*numbers.labels, *((colour, mask.path) for colour in new))
    if len(labels) >= VOID:
        raise UnreadableError(f"{mask.path}: expected at most {VOID - 1} colours in the masks of a video")
    return _Numbers(numbers.masks + 1, labels)


def _colours(mask: MaskFile, shown: MaskContent) -> list[int]:
    """The packed colours that a mask shows, ascending; none if it is not one of colours."""
    return [mask.colour_of(value) for value in shown.values] if mask.has_colours else []


def label_one_object(mask: MaskFile, shown: MaskContent) -> np.ndarray:
    """The label map of a mask in which every value above 0 is the same object.

    Raises: UnreadableError naming the mask if it is unclear.
    """
    _refuse_unclear(mask, shown)
    return _threshold(mask) if shown.kind is Kind.SMOOTHED else (mask.values > 0).astype(np.uint8)


def _threshold(mask: MaskFile) -> np.ndarray:
    """The label map of a mask of one object."""
    return (mask.values >= THRESHOLD).astype(np.uint8)


def _refuse_unclear(mask: MaskFile, shown: MaskContent) -> None:
    if shown.kind is Kind.UNCLEAR:
        raise UnreadableError(f"{mask.path}: {shown.problem}")


def _refuse_colours(mask: MaskFile, shown: MaskContent) -> None:
    if shown.kind is Kind.COLOURS:
        raise UnreadableError(
            f"{mask.path}: expected a mask of label numbers (palette or grey PNG), found colours (mode "
            f"{mask.mode}); save it as a palette PNG, or use FOLDER, which reads colours"
        )


def _refuse_other_colours(mask: MaskFile, shown: MaskContent, first: _First) -> None:
    others = [unpack(colour) for colour in _colours(mask, shown) if colour not in PALETTE]
    if others:
        raise UnreadableError(
            f"{mask.path}: found the colour {others[0]}, but {first.path} holds only colours of the DAVIS "
            "palette: colours vary between frames; save the masks as palette PNG"
        )
