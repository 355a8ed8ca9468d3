"""Draw the time line of a video: which frames have masks, and the round trip IoU of each object below it."""

from collections.abc import Collection, Mapping
from itertools import groupby

import numpy as np

from libs.core.masks import palette

WIDTH, STRIP, CURVES = 1000, 16, 90  # pixels: both, and the heights of the two parts
TOP = 4
GREY, GREEN, STALE = "#d4d4d8", "#86b894", "#e0b877"


def draw_timeline(
    length: int,
    shown: int,
    *,
    masks: Collection[int] = (),
    stale: Collection[int] = (),
    given: Collection[int] = (),
    drift: Mapping[int, Mapping[int, float]] = {},
) -> str:
    """Return an SVG; frame t has its centre at (t + 0.5) / length of the width.

    Args:
        length: number of frames; shown: the one with the cursor.
        masks, stale, given: frames that have masks, those from before a change, those drawn by hand.
        drift: frame -> object -> IoU.
    """
    unit = WIDTH / max(1, length)
    state = ["stale" if t in stale else "mask" if t in masks else "none" for t in range(length)]
    colours = {"none": GREY, "mask": GREEN, "stale": STALE}
    parts, start = [], 0
    for kind, run in groupby(state):
        count = len(list(run))
        parts.append(_box(start * unit, TOP, count * unit, STRIP, f'fill="{colours[kind]}" class="{kind}"'))
        start += count
    width = max(unit, 3)
    for t in sorted(given):
        x = (t + 0.5) * unit - width / 2
        parts.append(_box(x, TOP, width, STRIP, 'fill="#1d4ed8" class="given"'))
    parts += _curves(unit, drift)
    x, bottom = (shown + 0.5) * unit, TOP + STRIP + CURVES
    cursor = f'class="cursor" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}" stroke="#111" stroke-width="2"'
    parts.append(f"<line {cursor}/>")
    return f'<svg viewBox="0 0 {WIDTH} {bottom + TOP}" role="img">{"".join(parts)}</svg>'


def frame_at(fraction: float, length: int) -> int:
    """The frame at a fraction of the time line's width, 0 to 1."""
    return min(length - 1, max(0, int(fraction * length)))


def colour_of(number: int) -> str:
    """The colour of an object, as bright as in overlays: '#ff0000'."""
    rgb = palette()[number].astype(float)
    bright = np.round(rgb * 255 / max(1.0, rgb.max())).astype(int)
    return "#" + "".join(f"{value:02x}" for value in bright)


def _curves(unit: float, drift: Mapping[int, Mapping[int, float]]) -> list[str]:
    """The IoU of each object over time, between lines for 0 and 1."""
    top = TOP + STRIP + 6
    height = CURVES - 10

    def y(iou: float) -> float:
        """The height at which an IoU is drawn."""
        return top + (1 - iou) * height

    parts = [
        f'<line x1="0" x2="{WIDTH}" y1="{y(iou):.1f}" y2="{y(iou):.1f}" stroke="#e4e4e7"/>'
        f'<text x="2" y="{y(iou) + 4:.1f}" font-size="11" fill="#71717a">{iou:g}</text>'
        for iou in (0, 0.5, 1)
    ]
    for number in sorted({number for ious in drift.values() for number in ious}):
        points = [((t + 0.5) * unit, y(drift[t][number])) for t in sorted(drift) if number in drift[t]]
        path = " ".join(f"{x:.1f},{height:.1f}" for x, height in points)
        line = f'fill="none" stroke="{colour_of(number)}" stroke-width="2" points="{path}"'
        parts.append(f'<polyline class="iou" data-object="{number}" {line}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{v:.1f}" r="3" fill="{colour_of(number)}"/>' for x, v in points]
    return parts


def _box(x: float, y: float, width: float, height: float, more: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" {more}/>'
