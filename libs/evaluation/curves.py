"""Plot how good the masks of one video are over time: J if there is ground truth, and the round trip IoU."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from libs.core.files import atomic_write
from libs.core.masks import palette
from libs.evaluation.evaluator import Report

Curve = tuple[list[int], list[float]]  # positions of frames, and the value in each


def curves_over_time(report: Report, frames: Sequence[str]) -> dict[str, dict[int, Curve]]:
    """Collect what is known of each object over time.

    Args:
        report: on one video.
        frames: names of all its frames, in order.
    Returns: 'J', 'F' and 'round trip' -> id of an object -> its curve.
    """
    position = {name: t for t, name in enumerate(frames)}
    found: dict[str, dict[int, Curve]] = {"J": {}, "F": {}, "round trip": {}}
    for video in report.scores:
        for number, names, J, F in zip(video.ids, video.frames, video.jaccard, video.boundary):
            times = [position[name] for name in names]
            found["J"][number] = times, J.tolist()
            if "F" in video.scoring.measures:  # else F has no meaning
                found["F"][number] = times, F.tolist()
    for row in report.drift:
        times, values = found["round trip"].setdefault(row.object, ([], []))
        times.append(position[row.frame])
        values.append(row.iou)
    return found


def save_curves(path: Path, report: Report, frames: Sequence[str]) -> None:
    """Plot J and the round trip IoU of each object against the frame number, as a PNG file.

    No file is written if there is neither. Args: see curves_over_time.
    """
    found = curves_over_time(report, frames)
    panels = {
        "J: IoU with the ground truth": found["J"],
        "round trip IoU: the given mask, predicted back from each frame": found["round trip"],
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
