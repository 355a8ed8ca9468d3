"""What one mask shows by its values alone: labels, colours, one object, or smoothed edges.

A mask whose edges were smoothed (drawn with anti-aliasing, blurred, resized with interpolation, saved as
JPEG) has values along its edges that are no objects. They show by three signs: they form no area, they lie
along the outlines of the objects, and each is a blend of its neighbours.
"""

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from dataset.mask_files import BLOCK, MaskFile
from libs.core.masks import VOID

NEAR_ZERO, NEAR_FULL = 5, 250  # beside smoothed edges, greys up to and from here count as 0 and 255
FLAT = 1e-3  # greys may fill this fraction of a smoothed object's area: blurred lines are flat, too
THRESHOLD = 128  # least grey that is object in a mask with smoothed edges
# Fraction of the outline of the areas along which smoothed edges lie, at least: if they have more values than
# there are areas, and if not.
MEDIATED, MOSTLY_MEDIATED = 0.25, 0.5
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
class Shown:
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


def examine(mask: MaskFile) -> Shown:
    """Find out what one mask shows."""
    values = list_present(mask.values)
    if not values:
        return Shown(Kind.EMPTY)
    if mask.is_indexed:
        return Shown(Kind.ONE if values == (VOID,) else Kind.LABELS, values)
    if mask.colours is not None:
        return _unless_smoothed(Kind.COLOURS, mask, values)
    if values == (VOID,):
        return Shown(Kind.ONE, values)
    is_one_object = _has_ringing_only if mask.lossy else _is_one_smoothed_object
    if values[-1] >= NEAR_FULL and is_one_object(mask.values):
        return Shown(Kind.SMOOTHED, values)
    if mask.lossy:
        found = f"found {list_values(values)}: {mask.lossy} changes labels; save as PNG"
        return Shown(Kind.UNCLEAR, values, found, _is_faint(mask.values, LOSSY_FAINT))
    if mask.too_large is not None:
        found = (
            f"found the value {mask.too_large}; labels go up to 254, and 255 is void; renumber the objects"
        )
        return Shown(Kind.UNCLEAR, values, found, _is_faint(mask.values))
    return _unless_smoothed(Kind.LABELS, mask, values)


def list_present(values: np.ndarray) -> tuple[int, ...]:
    """The values above 0 that occur in (Hs, Ws) uint8, ascending."""
    return tuple((np.flatnonzero(count_values(values)[1:]) + 1).tolist())


def count_values(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Count the pixels of each value of (Hs, Ws) uint8, of all pixels or those of (Hs, Ws) bool: (256,)."""
    inside = None if where is None else where.view(np.uint8)
    return cv2.calcHist([values], [0], inside, [256], [0, 256]).ravel()


def list_values(values: tuple[int, ...]) -> str:
    """The first few values, for a message."""
    more = f" ... ({len(values)} values)" if len(values) > LISTED else ""
    return ", ".join(map(str, values[:LISTED])) + more


def _unless_smoothed(kind: Kind, mask: MaskFile, values: tuple[int, ...]) -> Shown:
    """This kind, or UNCLEAR if most values are those of smoothed edges."""
    edges = _count_edge_values(mask.values, mask.levels) if len(values) > 1 else 0
    if not edges:
        return Shown(kind, values)
    problem = (
        f"expected one {'colour' if mask.colours else 'label'} per object, found {len(values)} of them, "
        f"{edges} of which only lie along edges: smoothed (anti-aliased) edges; {RESAVE}"
    )
    return Shown(Kind.UNCLEAR, values, problem, _is_faint(mask.values))


def _count_edge_values(values: np.ndarray, levels: np.ndarray) -> int:
    """Count the values of smoothed edges; 0 if the edges are not smoothed.

    Thin and tiny objects form no area either. But they do not lie along most of the outlines, or are no blend
    of their neighbours.

    Args:
        values: (Hs, Ws) uint8. levels: their greys, (Hs, Ws) uint8.
    """
    largest = cv2.dilate(values, BLOCK)
    inner = largest == cv2.erode(values, BLOCK)
    counts = count_values(values)
    occurs, forms_area = counts > 0, count_values(values, inner) > 0
    occurs[0] = False
    if (occurs & ~forms_area).sum() < 2:  # saves half of the time for most masks
        return 0
    least = cv2.erode(np.where(values, values, np.uint8(255)), BLOCK)  # 0 does not count
    touching = 2 * count_values(values, (largest != values) | (least != values)) >= counts
    edge = occurs & ~forms_area & touching
    edges, areas = int(edge.sum()), int(occurs.sum() - edge.sum())
    if edges < 2 or not _is_blended(levels, edge[values]):
        return 0
    if areas == 0 or edges > max(areas, MANY):
        return edges if edges > 2 else 0
    outline = (occurs & ~edge)[values] & ~inner
    fraction = MEDIATED if edges > areas else MOSTLY_MEDIATED
    return edges if _mediated(outline, edge[values]) >= fraction else 0


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
    return _mediated(full & ~inner, grey) >= MEDIATED


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


def _mediated(outline: np.ndarray, edges: np.ndarray) -> float:
    """The fraction of the outline of areas (Hs, Ws) bool along which smoothed edges (Hs, Ws) bool lie."""
    near = cv2.dilate(edges.view(np.uint8), BLOCK).view(bool)
    return float((outline & near).sum() / max(1, outline.sum()))


def _has_ringing_only(values: np.ndarray) -> bool:
    """Whether a JPEG is 0 and 255 but for the pixels near the edges of one object."""
    full = (values >= THRESHOLD).view(np.uint8)
    reach = np.ones((2 * RINGING + 1,) * 2, np.uint8)
    far = values[cv2.dilate(full, reach) == cv2.erode(full, reach)]
    has_grey = ((far > LOSSY_NOISE) & (far < 255 - LOSSY_NOISE)).any()
    grey = (values > LOSSY_FAINT) & (values < 255 - LOSSY_FAINT)
    is_flat = (_inner(values) & grey).sum() > FLAT * full.sum()
    return bool(full.any() and not has_grey and not is_flat)


def _is_faint(values: np.ndarray, noise: int = 0) -> bool:
    """Whether no area has a single value above `noise`."""
    return not (_inner(values) & (values > noise)).any()


def _inner(values: np.ndarray) -> np.ndarray:
    """(Hs, Ws) bool: which pixels have neighbours of their own value only."""
    return cv2.dilate(values, BLOCK) == cv2.erode(values, BLOCK)
