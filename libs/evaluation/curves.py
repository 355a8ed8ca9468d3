"""Plot how good the masks of one video are over time: J if there is ground truth, and the round trip IoU."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from libs.core.files import atomic_write
from libs.core.masks import palette
from libs.evaluation.evaluator import Report

Curve = tuple[list[int], list[float]]  # positions of frames, and the value in each


def save_curves(path: Path, report: Report, frames: Sequence[str]) -> None:
    """Plot J and the round trip IoU of each object against the frame number, as a PNG file.

    No file is written if there is neither.

    Args:
        report: on one video.
        frames: names of all its frames, in order.
    """
    position = {name: t for t, name in enumerate(frames)}
    J: dict[int, Curve] = {
        number: ([position[name] for name in names], values.tolist())
        for video in report.scores
        for number, names, values in zip(video.ids, video.frames, video.jaccard)
    }
    back: dict[int, Curve] = {}
    for row in report.drift:
        times, values = back.setdefault(row.object, ([], []))
        times.append(position[row.frame])
        values.append(row.iou)
    panels = {
        "J: IoU with the ground truth": J,
        "round trip IoU: the given mask, predicted back from each frame": back,
    }
    shown = {title: curves for title, curves in panels.items() if curves}
    if not shown:
        return
    figure = Figure(figsize=(8, 2.6 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, curves) in zip(rows, shown.items()):
        _draw(axes, title, curves)
    rows[-1].set_xlabel("frame")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw(axes: Axes, title: str, curves: dict[int, Curve]) -> None:
    """Draw a line for each object, in the colour that its mask has."""
    for number, (times, values) in sorted(curves.items()):
        marker = "." if len(times) < 50 else ""
        axes.plot(times, values, marker=marker, color=palette()[number] / 255, label=f"object {number}")
    axes.set(title=title, ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")
