"""Turn what a person draws into the mask of an object: a box and strokes to an outline, and a brush.

Points are (x, y) in pixels of the frame, masks (H, W) bool. Outlines come from OpenCV's GrabCut.
"""

from collections.abc import Sequence
from copy import copy

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from libs.core.errors import InputError

Point = tuple[float, float]

LONGEST = 640  # pixels of the longer side on which GrabCut runs; larger frames are scaled down
ITERATIONS = 5
MARGIN = 0.15  # around a mask to be refined: how far its outline may move, as a fraction of its box
FEWEST_PIXELS = 4  # of a box's side
SEED = 0  # GrabCut draws random numbers


class Outline:
    """The outline of one object in one frame, from a box or a first mask, refined by strokes.

    Args:
        image: (H, W, 3) uint8 RGB.
        others: where other objects are; these pixels are taken for background.
    """

    def __init__(self, image: np.ndarray, others: np.ndarray) -> None:
        height, width = image.shape[:2]
        self.size = (height, width)
        self._scale = min(1.0, LONGEST / max(height, width))
        self._image = self._shrink(image[..., ::-1], cv2.INTER_AREA)
        self._others = self._shrink(others.astype(np.uint8), cv2.INTER_NEAREST) > 0
        # What each pixel is taken for, in GrabCut's four values.
        self._hints = np.full(self._image.shape[:2], cv2.GC_BGD, np.uint8)
        self._strokes = np.full_like(self._hints, cv2.GC_PR_BGD)  # GC_FGD and GC_BGD where there is a stroke

    def copy(self) -> "Outline":
        """Return a second outline in the same state; both share the image."""
        twin = copy(self)
        twin._hints, twin._strokes = self._hints.copy(), self._strokes.copy()
        return twin

    def start_from_box(self, box: tuple[float, float, float, float]) -> None:
        """Look for the object within a box (x0, y0, x1, y1); forget earlier boxes and strokes.

        Raises: InputError if the box is too small.
        """
        (x0, x1), (y0, y1) = sorted((box[0], box[2])), sorted((box[1], box[3]))
        if min(x1 - x0, y1 - y0) < FEWEST_PIXELS:
            raise InputError("the box is too small; drag from one corner of the object to the opposite one")
        left, top = (max(0, int(v * self._scale)) for v in (x0, y0))
        right, bottom = (int(np.ceil(v * self._scale)) for v in (x1, y1))
        self._hints[:] = cv2.GC_BGD
        self._hints[top:bottom, left:right] = cv2.GC_PR_FGD
        self._strokes[:] = cv2.GC_PR_BGD

    def start_from_mask(self, mask: np.ndarray) -> None:
        """Refine the outline of a mask."""
        small = self._shrink(mask.astype(np.uint8), cv2.INTER_NEAREST) > 0
        self._hints[:] = cv2.GC_BGD
        self._allow_around(small)
        self._hints[small] = cv2.GC_PR_FGD

    def stroke(self, points: Sequence[Point], radius: float, inside: bool) -> None:
        """Mark pixels that surely lie inside or outside the object."""
        drawn = brush(self._hints.shape, [(x * self._scale, y * self._scale) for x, y in points],
                      max(0.5, radius * self._scale))  # fmt: skip
        self._strokes[drawn] = cv2.GC_FGD if inside else cv2.GC_BGD
        if inside:
            self._allow_around(drawn | (self._hints == cv2.GC_PR_FGD))

    def solve(self) -> np.ndarray:
        """Return the mask of the object, (H, W) bool.

        Raises: InputError if nothing is found, or if no background is left to compare with.
        """
        hints = np.where(self._others, cv2.GC_BGD, self._hints).astype(np.uint8)
        drawn = self._strokes != cv2.GC_PR_BGD
        hints[drawn] = self._strokes[drawn]
        inside = np.isin(hints, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if not inside.any() or inside.all():
            advice = "draw where no other object is" if not inside.any() else "leave background around it"
            raise InputError(f"no outline was found; {advice}, or paint it")
        cv2.setRNGSeed(SEED)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(self._image, hints, (0, 0, 0, 0), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
        found = np.isin(hints, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if not found.any():
            raise InputError("no outline was found; draw another box, or paint it")
        height, width = self.size
        return cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5

    def _allow_around(self, mask: np.ndarray) -> None:
        """Let the outline move within the box of a mask and a margin around it."""
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        if not len(rows):
            return
        margin = 3 + int(MARGIN * max(np.ptp(rows), np.ptp(columns)))
        around = (
            slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
            slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
        )
        hints = self._hints[around]
        hints[hints == cv2.GC_BGD] = cv2.GC_PR_BGD

    def _shrink(self, image: np.ndarray, interpolation: int) -> np.ndarray:
        if self._scale == 1:
            return np.ascontiguousarray(image)
        height, width = (max(1, round(side * self._scale)) for side in self.size)
        return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=interpolation)


def brush(size: tuple[int, ...], points: Sequence[Point], radius: float) -> np.ndarray:
    """Mark the pixels that are at most `radius` from a line through points. Returns (H, W) bool.

    Args:
        size: (H, W).
    """
    corners = np.round([*points, points[-1]]).astype(np.int32).clip(0, np.array(size[::-1]) - 1)
    margin = int(radius) + 1
    left, top = (corners.min(0) - margin).clip(0)
    right, bottom = corners.max(0) + margin + 1
    found = np.zeros(size, bool)
    around = found[top:bottom, left:right]  # distances of a whole frame would take long
    line = np.ones(around.shape, np.uint8)
    cv2.polylines(line, [(corners - (left, top)).reshape(-1, 1, 2)], False, 0, 1)
    around[:] = distance_transform_edt(line) <= radius  # OpenCV's exact one varies with several threads
    return found
