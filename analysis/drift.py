"""How well the round trip IoU finds bad masks: python3 -m analysis.drift RUN ...

Needs runs of test.py with `drift_every`. A mask is bad if its J is below 0.5. A threshold on the IoU is
chosen on one half of the videos and shown on the other.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from analysis.pictures import save_figure
from analysis.runs import read_run
from analysis.statistics import spearman
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.evaluation.evaluator import DriftRow

BAD = 0.5  # J below this is bad


@dataclass(frozen=True)
class Curve:
    """A ROC curve: for each threshold, the fractions of bad and of good masks with a lower or equal IoU.

    area: under the curve, the probability that a bad mask has a lower IoU than a good one (ties count half).
    """

    thresholds: np.ndarray  # (n,) rising
    found: np.ndarray  # (n,) of the bad masks
    false_alarms: np.ndarray  # (n,) of the good masks
    area: float


@dataclass(frozen=True)
class Alarm:
    """What a threshold does on some masks: fractions of the bad ones, of the good ones, and of the alarms."""

    found: float
    false_alarms: float
    precision: float  # fraction of the alarms that are right


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    rows = [row for folder in args.runs for row in read_run(folder).report.drift if row.J is not None]
    chosen_on, shown_on = split_videos(rows)
    for half in (chosen_on, shown_on):
        check_both_kinds(half, rows)
    curve = roc(*ious_and_bad(chosen_on))
    threshold = best_threshold(curve)
    ious, bad = ious_and_bad(shown_on)
    result, other = alarm(ious, bad, threshold), roc(ious, bad)
    rank = spearman([row.iou for row in rows], [row.J or 0.0 for row in rows])
    print(f"{len(rows)} masks with J, of which {sum(map(is_bad, rows))} are bad (J below {BAD})")
    print(f"rank correlation of IoU and J: {'-' if rank is None else f'{rank:.2f}'}")
    print(f"threshold chosen on {len({row.video for row in chosen_on})} videos: IoU {threshold:.2f}")
    print(
        f"on the {len({row.video for row in shown_on})} other videos: area under the curve {other.area:.2f}; "
        f"finds {result.found:.0%} of the bad masks, with alarms for {result.false_alarms:.0%} of the good "
        f"ones; {result.precision:.0%} of its alarms are right"
    )
    plot(args.out, {"videos it was chosen on": curve, "other videos": other}, threshold)
    print(f"curves written to {args.out}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m analysis.drift", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="result folders of test.py")
    parser.add_argument(
        "--out", type=Path, default=Path("drift.png"), metavar="FILE", help="the plot to write"
    )
    return parser.parse_args()


def is_bad(row: DriftRow) -> bool:
    """Whether the mask from which the reference was predicted back is bad."""
    return row.J is not None and row.J < BAD


def split_videos(rows: Sequence[DriftRow]) -> tuple[list[DriftRow], list[DriftRow]]:
    """Divide the rows by video: the first, third, ... in the order of their names, and the others."""
    names = sorted({row.video for row in rows})
    first = set(names[::2])
    return [row for row in rows if row.video in first], [row for row in rows if row.video not in first]


def check_both_kinds(half: Sequence[DriftRow], rows: Sequence[DriftRow]) -> None:
    """Check that a half of the videos has bad and good masks.

    Raises: InputError if not.
    """
    bad = sum(map(is_bad, half))
    if not 0 < bad < len(half):
        raise InputError(
            f"expected bad and good masks in each half of the videos, found {bad} bad ones of {len(half)} in "
            f"one half ({len(rows)} in all); give runs over more videos, with `drift_every 5`"
        )


def ious_and_bad(rows: Sequence[DriftRow]) -> tuple[np.ndarray, np.ndarray]:
    """Round trip IoU (n,) float, and whether each mask is bad, (n,) bool."""
    return np.array([row.iou for row in rows]), np.array([is_bad(row) for row in rows])


def roc(ious: np.ndarray, bad: np.ndarray) -> Curve:
    """Compute the ROC curve of the alarm "IoU is at most the threshold".

    Args:
        ious: (n,); bad: (n,) bool, with both kinds.
    """
    thresholds = np.unique(ious)
    found = np.array([(ious[bad] <= limit).mean() for limit in thresholds])
    false_alarms = np.array([(ious[~bad] <= limit).mean() for limit in thresholds])
    x, y = np.concatenate([[0], false_alarms]), np.concatenate([[0], found])
    area = float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())
    return Curve(thresholds, found, false_alarms, area)


def best_threshold(curve: Curve) -> float:
    """The threshold with the largest distance from chance, found - false alarms (Youden's index)."""
    return float(curve.thresholds[np.argmax(curve.found - curve.false_alarms)])


def alarm(ious: np.ndarray, bad: np.ndarray, threshold: float) -> Alarm:
    """What an alarm at this threshold finds; precision is 0 if there is no alarm."""
    raised = ious <= threshold
    precision = float(bad[raised].mean()) if raised.any() else 0.0
    return Alarm(float(raised[bad].mean()), float(raised[~bad].mean()), precision)


def plot(path: Path, curves: dict[str, Curve], threshold: float) -> None:
    """Plot ROC curves as a PNG file, with the point of the threshold on each."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        x, y = [0.0, *curve.false_alarms], [0.0, *curve.found]
        (line,) = axes.plot(x, y, label=f"{name}, area {curve.area:.2f}")
        n = int(np.searchsorted(curve.thresholds, threshold, side="right"))
        axes.plot(x[n], y[n], "o", color=line.get_color())
    axes.plot([0, 1], [0, 1], color="#bbb", linestyle="--", zorder=0)
    axes.set(
        xlabel=f"good masks with an alarm (J of at least {BAD})",
        ylabel=f"bad masks with an alarm (J below {BAD})",
        title=f"round trip IoU; points: threshold {threshold:.2f}",
    )
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(path, figure)


if __name__ == "__main__":
    run_with_error_messages(main)
