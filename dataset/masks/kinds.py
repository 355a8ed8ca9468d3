"""What one mask shows by its values alone: labels, colours, one object, or smoothed edges.

A mask whose edges were smoothed (drawn with anti-aliasing, blurred, resized with interpolation, saved as
JPEG) has values along its edges that are no objects. They show by three signs: they form no area, they lie
along the outlines of the objects, and each is a blend of its neighbours.
"""

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from dataset.masks.files import BLOCK, MaskFile
from libs.core.errors import named
from libs.core.masks import VOID

NEAR_ZERO, NEAR_FULL = 5, 250  # beside smoothed edges, greys up to and from here count as 0 and 255
FLAT = 1e-3  # greys may fill this fraction of a smoothed object's area: blurred lines are flat, too
THRESHOLD = 128  # least grey that is object in a mask with smoothed edges
OUTLINED = 0.32  # smoothed edges lie along at least this fraction of the outline of the areas
MANY = 64  # more values than this that form no area are no objects
# Smoothed edges are a blend of two neighbours: at least this fraction of their pixels lies between them, on
# average about half-way.
BLENDED = 0.35
HALF_WAY = 0.35, 0.65
RINGING = 8  # pixels from an edge that JPEG changes, the side of its blocks
LOSSY_NOISE = 2  # largest change by JPEG elsewhere
LOSSY_FAINT = 32  # greys of a JPEG up to here are no object
LISTED = 5  # values that a message names
RESAVE = "save it again without smoothing, as PNG, or resize it with nearest neighbour"


class Kind(Enum):
    """What the values of one mask are. The values of the enum name them in messages."""

    EMPTY = "background only"
    ONE = "0 and 255 only (one object)"
    SMOOTHED = "one object with smoothed edges"
    LABELS = "label numbers"
    COLOURS = "colours"
    UNCLEAR = "smoothed edges"


@dataclass(frozen=True)
class MaskContent:
    """What one mask shows.

    values: those of the mask that occur, ascending, without 0.
    problem: of an UNCLEAR mask: what was found, and what to do.
    is_faint: an UNCLEAR mask has no area of one value, as that of a blurred object of a few pixels.
    """

    kind: Kind
    values: tuple[int, ...] = ()
    problem: str = ""
    is_faint: bool = False

    def __str__(self) -> str:
        listed = self.kind is Kind.LABELS
        return f"{self.kind.value} ({list_values(self.values)})" if listed else self.kind.value


def examine(mask: MaskFile) -> MaskContent:
    """Find out what one mask shows."""
    values = list_present(mask.values)
    if not values:
        return MaskContent(Kind.EMPTY)
    if mask.is_indexed:
        return MaskContent(Kind.ONE if values == (VOID,) else Kind.LABELS, values)
    if mask.colours is not None:
        return _unless_smoothed(Kind.COLOURS, mask, values)
    if values == (VOID,):
        return MaskContent(Kind.ONE, values)
    is_one_object = _has_ringing_only if mask.lossy else _is_one_smoothed_object
    if values[-1] >= NEAR_FULL and is_one_object(mask.values):
        return MaskContent(Kind.SMOOTHED, values)
    if mask.lossy:
        found = f"found {list_values(values)}: {mask.lossy} changes labels; save as PNG"
        return MaskContent(Kind.UNCLEAR, values, found, _is_faint(mask.values, LOSSY_FAINT))
    if mask.too_large is not None:
        found = (
            f"found the value {mask.too_large}; labels go up to 254, and 255 is void; renumber the objects"
        )
        return MaskContent(Kind.UNCLEAR, values, found, _is_faint(mask.values))
    return _unless_smoothed(Kind.LABELS, mask, values)


def list_present(values: np.ndarray) -> tuple[int, ...]:
    """List the values above 0 that occur in (Hs, Ws) uint8, ascending."""
    return tuple((np.flatnonzero(count_values(values)[1:]) + 1).tolist())


def count_values(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Count the pixels of each value of (Hs, Ws) uint8, of all pixels or those of (Hs, Ws) bool: (256,)."""
    inside = None if where is None else where.view(np.uint8)
    return cv2.calcHist([values], [0], inside, [256], [0, 256]).ravel()


def list_values(values: tuple[int, ...]) -> str:
    """Join the first few values for a message."""
    count = f" ({len(values)} values)" if len(values) > LISTED else ""
    return named(values, LISTED) + count


def _unless_smoothed(kind: Kind, mask: MaskFile, values: tuple[int, ...]) -> MaskContent:
    """Return this kind, or UNCLEAR if edges are smoothed."""
    edges = _count_edge_values(mask.values, mask.levels) if len(values) > 1 else 0
    if not edges:
        return MaskContent(kind, values)
    problem = (
        f"expected one {'colour' if mask.colours else 'label'} per object, found {len(values)} of them, "
        f"{edges} of which only lie along edges: smoothed (anti-aliased) edges; {RESAVE}"
    )
    return MaskContent(Kind.UNCLEAR, values, problem, _is_faint(mask.values))


def _count_edge_values(values: np.ndarray, levels: np.ndarray) -> int:
    """Count the values of smoothed edges; 0 if the edges are not smoothed.

    Thin and tiny objects form no area either. But they lie along little of the outlines, or are no blend of
    their neighbours.

    Args:
        values: (Hs, Ws) uint8. levels: their greys, (Hs, Ws) uint8.
    """
    inner = _inner(values)
    occurs, forms_area = count_values(values) > 0, count_values(values, inner) > 0
    occurs[0] = forms_area[0] = False
    edge = occurs & ~forms_area
    edges, areas = int(edge.sum()), int(forms_area.sum())
    if edges < 2 or not _is_blended(levels, edge[values]):
        return 0
    if areas == 0 or edges > max(areas, MANY):
        return edges
    outline = forms_area[values] & ~inner
    return edges if _outlined(outline, edge[values]) >= OUTLINED else 0


def _is_one_smoothed_object(values: np.ndarray) -> bool:
    """Whether a mask is 0 and 255 but for its edges."""
    table = np.arange(256, dtype=np.uint8)
    table[: NEAR_ZERO + 1], table[NEAR_FULL:] = 0, 255
    values = table[values]
    full, inner = values == 255, _inner(values)
    grey = (values > 0) & ~full
    area = int((inner & full).sum())
    is_flat = (inner & grey).sum() > FLAT * area
    is_most = grey.sum() > 2 * full.sum()  # as in a photograph
    if not area or is_flat or is_most or not _is_blended(values, grey):
        return False
    return _outlined(full & ~inner, grey) >= OUTLINED


def _is_blended(levels: np.ndarray, edges: np.ndarray) -> bool:
    """Whether greys (Hs, Ws) uint8 at smoothed edges (Hs, Ws) bool are a blend of their neighbours."""
    least, largest, level = (
        array[edges].astype(np.float32)
        for array in (cv2.erode(levels, BLOCK), cv2.dilate(levels, BLOCK), levels)
    )
    between = (least < level) & (level < largest)
    if not between.size or between.mean() < BLENDED:
        return False
    way = (level - least)[between] / (largest - least)[between]
    return bool(HALF_WAY[0] <= way.mean() <= HALF_WAY[1])


def _outlined(outline: np.ndarray, edges: np.ndarray) -> float:
    """The fraction of the outline of areas (Hs, Ws) bool along which smoothed edges (Hs, Ws) bool lie."""
    near = cv2.dilate(edges.view(np.uint8), BLOCK).view(bool)
    return float((outline & near).sum() / max(1, outline.sum()))


def _has_ringing_only(values: np.ndarray) -> bool:
    """Whether a JPEG that holds white is 0 and 255 but for the pixels near the edges of one object."""
    full = (values >= THRESHOLD).view(np.uint8)
    reach = np.ones((2 * RINGING + 1,) * 2, np.uint8)
    far = values[cv2.dilate(full, reach) == cv2.erode(full, reach)]
    has_grey = bool(((far > LOSSY_NOISE) & (far < 255 - LOSSY_NOISE)).any())
    grey = (values > LOSSY_FAINT) & (values < 255 - LOSSY_FAINT)
    is_flat = bool((_inner(values) & grey).sum() > FLAT * full.sum())
    return not has_grey and not is_flat


def _is_faint(values: np.ndarray, noise: int = 0) -> bool:
    """Whether no area has a single value above `noise`."""
    return not (_inner(values) & (values > noise)).any()


def _inner(values: np.ndarray) -> np.ndarray:
    """(Hs, Ws) bool: which pixels have neighbours of their own value only."""
    return cv2.dilate(values, BLOCK) == cv2.erode(values, BLOCK)
