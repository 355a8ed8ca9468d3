"""J by attribute of the objects: python3 -m analysis.attributes RUN

The attributes are measured from the true masks, the images and optical flow, so every data set with masks has
them. Where a data set lists attributes of its own (DAVIS, db_info.yaml), J is shown by these, too.
docs/analysis/attributes.md defines each.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from analysis.object_attributes import Ages, Attributes, measure_video
from analysis.pictures import Bar, save_intervals
from analysis.runs import Run, read_run, video_indices
from analysis.statistics import Interval, bootstrap_interval, format_interval
from dataset.video import open_video
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError, counted, named
from libs.core.log import Progress
from libs.evaluation.scores import write_rows

Key = tuple[str, int]  # video, object

# Name -> which objects have it: in words, and the attribute with the test of its value.
RULES: dict[str, tuple[str, str, Callable[[float], bool]]] = {
    "small": ("size below 1 % of the frame", "size", lambda value: value < 0.01),
    "fast": ("speed of at least 0.1", "speed", lambda value: value >= 0.1),
    "moving by itself": ("motion of at least 0.05", "motion", lambda value: value >= 0.05),
    "deforming": ("deformation of at least 0.25", "deformation", lambda value: value >= 0.25),
    "hidden": ("hidden in some frame", "hidden", lambda value: value > 0),
    "reappearing": ("at least one reappearance", "reappearances", lambda value: value > 0),
    "at the border": ("border of at least 0.2", "border", lambda value: value >= 0.2),
    "look-alikes near": ("lookalike below 3", "lookalike", lambda value: value < 3),
}
AGES = ((0, 5), (6, 10), (11, 20), (21, 40), (41, 80), (81, None))  # in frames


@dataclass(frozen=True)
class Line:
    """One line of a table: the mean of some values with its 95 % interval."""

    label: str
    count: int
    mean: float | None
    interval: Interval

    @staticmethod
    def of(label: str, values: Mapping[str, Sequence[float]]) -> "Line":
        """Sum up values of each video; the interval is a bootstrap over videos."""
        groups = [np.array(own) for own in values.values() if len(own)]
        if not groups:
            return Line(label, 0, None, None)
        joined = np.concatenate(groups)
        return Line(label, len(joined), float(joined.mean()), bootstrap_interval(groups))

    def __str__(self) -> str:
        if self.mean is None:
            return f"{self.label:34} {self.count:6}      -"
        return (
            f"{self.label:34} {self.count:6}  {100 * self.mean:5.1f}  ({format_interval(self.interval, '')})"
        )


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    out = args.out or args.run / "attributes.csv"
    if out.suffix != ".csv":
        raise InputError(
            f"--out {out}: expected a name that ends in .csv; the plot gets the same name with .png"
        )
    run = read_run(args.run)
    videos = [open_video(index, run.settings["given_masks"]) for index in video_indices(run, args.root)]
    progress = Progress("attributes", sum(video.length for video in videos), "frame")
    measured = [pair for video in videos for pair in measure_video(video, progress)]
    found = {(a.video, a.object): a for a, _ in measured}
    ages = {(a.video, a.object): own for a, own in measured}
    J = frame_scores(run)
    if not J:
        raise InputError(f"{run.folder}: no object is scored, so there is no J to show by attribute")
    tables = {"J by attribute, mean over objects": by_attribute(found, J)}
    listed = listed_attributes(args.root or Path(run.settings["root"]), run)
    if listed:
        unlisted = sorted({video for video, _ in J} - listed.keys())
        if unlisted:
            print(f"db_info.yaml lists no attribute of {counted(len(unlisted), 'video')}: {named(unlisted)}")
        tables["J by the attributes that the data set lists"] = by_list(listed, J)
    tables["J by frames since the object's mask was given"] = by_age(ages, J, 0)
    tables["J by frames since the object reappeared"] = by_age(ages, J, 1)
    for title, lines in tables.items():
        print_table(title, lines)
    write_rows(out, list(found.values()))
    plot(out.with_suffix(".png"), tables)
    print(f"attributes of {len(found)} objects written to {out}, a plot to {out.with_suffix('.png')}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m analysis.attributes", description=(__doc__ or "").split(":")[0]
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="result folder of test.py")
    add("--root", type=Path, metavar="DATA", help="folder that holds the data sets, if not that of the run")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="CSV file to write, beside a plot (default: attributes.csv in the run)",
    )
    return parser.parse_args()


def frame_scores(run: Run) -> dict[Key, dict[str, float]]:
    """J of each scored object in each frame."""
    return {
        (scores.name, number): dict(zip(names, values.tolist()))
        for record in run.records.values()
        for scores in record.report.scores
        for number, names, values in zip(scores.ids, scores.frames, scores.jaccard)
        if names
    }


def by_attribute(found: Mapping[Key, Attributes], J: Mapping[Key, Mapping[str, float]]) -> list[Line]:
    """Mean J of the objects with each attribute, and of those without it; not of those that have no value."""
    lines = []
    for name, (rule, attribute, has) in RULES.items():
        values = {key: getattr(a, attribute) for key, a in found.items()}
        for label, wanted in ((f"{name} ({rule})", True), (f"  not {name}", False)):
            keys = {key for key, value in values.items() if value is not None and has(value) == wanted}
            lines.append(_mean_of_objects(label, J, keys))
    return lines


def by_list(listed: Mapping[str, Sequence[str]], J: Mapping[Key, Mapping[str, float]]) -> list[Line]:
    """Mean J of the objects in videos with each listed attribute, and in other videos that have a list."""
    lines = []
    for name in sorted({name for names in listed.values() for name in names}):
        for label, wanted in ((name, True), (f"  not {name}", False)):
            keys = {key for key in J if key[0] in listed and (name in listed[key[0]]) == wanted}
            lines.append(_mean_of_objects(label, J, keys))
    return lines


def by_age(ages: Mapping[Key, Ages], J: Mapping[Key, Mapping[str, float]], which: int) -> list[Line]:
    """Mean J over frames, by how long ago something was.

    Args:
        which: 0: the object's mask was given; 1: it reappeared.
    """
    lines = []
    for low, high in AGES:
        values: dict[str, list[float]] = {}
        for key, own in J.items():
            for name, value in own.items():
                age = ages[key][name][which] if name in ages.get(key, {}) else None
                if age is not None and low <= age and (high is None or age <= high):
                    values.setdefault(key[0], []).append(value)
        lines.append(Line.of(f"{low} to {high} frames" if high else f"{low} frames and more", values))
    return lines


def listed_attributes(root: Path, run: Run) -> dict[str, list[str]]:
    """Video -> its attributes in the data set's db_info.yaml; empty if there is no such file.

    A video with an empty list is left out: nobody may have looked at it.
    """
    path = root / str(run.settings["valset"]) / "data/db_info.yaml"
    if not path.is_file():
        return {}
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))["sequences"]
        found = {str(row["name"]): [str(name) for name in row.get("attributes") or []] for row in rows}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a list `sequences` with name and attributes: {error!r}"
        ) from error
    return {name: names for name, names in found.items() if name in run.records and names}


def print_table(title: str, lines: Sequence[Line]) -> None:
    """Print lines in percent, with their intervals."""
    print(f"\n{title}: values, mean, 95 % interval (bootstrap over videos)")
    print("\n".join(map(str, lines)))


def plot(path: Path, tables: Mapping[str, Sequence[Line]]) -> None:
    """Plot tables as PNG. Lines without a value are left out, and tables without a line."""
    panels = {
        title: [
            Bar(f"{line.label.strip()} [{line.count}]", line.mean, line.interval)
            for line in lines
            if line.mean is not None
        ]
        for title, lines in tables.items()
    }
    save_intervals(path, {title: bars for title, bars in panels.items() if bars}, "J in percent")


def _mean_of_objects(label: str, J: Mapping[Key, Mapping[str, float]], keys: set[Key]) -> Line:
    values: dict[str, list[float]] = {}
    for key, own in J.items():
        if key in keys:
            values.setdefault(key[0], []).append(float(np.mean(list(own.values()))))
    return Line.of(label, values)


if __name__ == "__main__":
    run_with_error_messages(main)
