"""Compare two runs of test.py, object by object: python3 -m analysis.compare RUN_A RUN_B

A run is a result folder, such as data/output/DAVIS17; B may be any folder of masks, <video>/<frame>.png.
Prints the mean difference with its interval and a test, and writes them with pictures of the largest changes
to an HTML page.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from analysis.html import embed_jpeg, write_page
from analysis.runs import PredictedMasks, Run, check_label_maps, read_run, video_indices
from analysis.score import score_folder
from analysis.statistics import Interval, bootstrap_interval, format_interval
from dataset.video import open_video
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError, counted, named
from libs.core.masks import keep_objects
from libs.core.structures import VideoIndex
from libs.evaluation.evaluator import Report
from libs.evaluation.results import Record
from libs.evaluation.scores import overall
from libs.evaluation.visualize import overlay

TIE = 0.0005  # differences smaller than this are ties: they vanish in a table of percent
LARGEST = 10  # changes that are shown
IGNORED = ("root", "output_dir", "drift_every")  # keys that change no mask
HEIGHT = 180  # pixels of a picture


@dataclass(frozen=True)
class Pair:
    """One object in both runs: its scores (see `overall`) as fractions, means over the seeds of each side."""

    video: str
    object: int
    a: float
    b: float

    @property
    def difference(self) -> float:
        """B minus A."""
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """What the pairs of all objects say.

    interval: 95 %, of the mean difference, by the bootstrap over videos; None for a single video.
    p: of the Wilcoxon signed-rank test on the objects' differences, two-sided.
    """

    pairs: list[Pair]
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval
    p: float
    wins: int
    ties: int
    losses: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0 and the test agrees at 5 %."""
        return self.p < 0.05 and self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def reason(self) -> str:
        """What the difference is judged by, as the end of a sentence."""
        test = f"the test gives p = {self.p:.3g}"
        if self.interval is None:
            return f"one video has no interval, and {test}"
        low, high = self.interval
        return f"the interval {'includes' if low <= 0 <= high else 'excludes'} 0, and {test}"


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    first = read_run(args.a)
    sides = [
        [read_side(folder, first, args.root) for folder in folders]
        for folders in ([args.a, *args.more_a], [args.b, *args.more_b])
    ]
    comparison = compare(*(object_scores(side) for side in sides))
    differing = differing_keys(sides[0][0], sides[1][0])
    score = sides[0][0].report.summary.overall_name
    print(format_text(comparison, differing, score))
    for run in (sides[0][0], sides[1][0]):
        check_label_maps(run)
    changes = largest_changes(comparison, sides[0][0], sides[1][0], args.root)
    names = [", ".join(run.name for run in side) for side in sides]
    write_page(
        args.out,
        "compare.html",
        comparison=comparison,
        score=score,
        names=names,
        differing=differing,
        changes=changes,
    )
    print(f"page written to {args.out}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m analysis.compare", description=(__doc__ or "").split(":")[0]
    )
    add = parser.add_argument
    add("a", type=Path, metavar="RUN_A", help="result folder of test.py")
    add("b", type=Path, metavar="RUN_B", help="another one")
    add("--more-a", nargs="+", type=Path, default=[], metavar="RUN", help="runs like A with other seeds")
    add("--more-b", nargs="+", type=Path, default=[], metavar="RUN", help="runs like B with other seeds")
    add(
        "--root",
        type=Path,
        metavar="DATA",
        help="folder that holds the data sets, if it is no longer that of A",
    )
    add("--out", type=Path, default=Path("compare.html"), metavar="FILE", help="the page to write")
    return parser.parse_args()


def read_side(folder: Path, first: Run, root: Path | None) -> Run:
    """Read a run; a folder without completion records is scored against the data set of the first run."""
    if (folder / ".done").is_dir():
        return read_run(folder)
    scores = score_folder(folder, video_indices(first, root))
    return Run(folder, records={own.name: Record("", Report(scores=[own])) for own in scores})


def object_scores(runs: Sequence[Run]) -> dict[tuple[str, int], float]:
    """(video, object) -> J&F of one side, the mean over its runs.

    J alone counts if the benchmark has no F. Objects that are not scored are left out.

    Raises: InputError if the runs do not score the same objects, or none.
    """
    found = [_scores(run) for run in runs]
    for run, scores in zip(runs[1:], found[1:]):
        if scores.keys() != found[0].keys():
            differing = named(sorted({video for video, _ in scores.keys() ^ found[0].keys()}))
            raise InputError(
                f"{run.folder}: does not score the same objects as {runs[0].folder}: {differing}"
            )
    if not found[0]:
        raise InputError(f"{runs[0].folder}: no object is scored, so there is nothing to compare")
    return {key: float(np.mean([scores[key] for scores in found])) for key in found[0]}


def _scores(run: Run) -> dict[tuple[str, int], float]:
    scores = {(row.video, row.object_id): overall(row) for row in run.report.summary.objects}
    return {key: score for key, score in scores.items() if score is not None}


def compare(a: dict[tuple[str, int], float], b: dict[tuple[str, int], float]) -> Comparison:
    """Compare the objects that both sides score.

    Raises: InputError if there are none.
    """
    pairs = [Pair(*key, a[key], b[key]) for key in a if key in b]
    if not pairs:
        raise InputError("the runs have no scored object in common")
    left_out = sorted({video for video, _ in a.keys() ^ b.keys()})
    if left_out:
        count = counted(len(a.keys() ^ b.keys()), "object")
        print(f"{count} in one of the runs only are left out: {named(left_out)}")
    differences = np.array([pair.difference for pair in pairs])
    videos = list(dict.fromkeys(pair.video for pair in pairs))
    by_video = [np.array([pair.difference for pair in pairs if pair.video == video]) for video in videos]
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0  # the test needs one difference
    return Comparison(
        pairs,
        float(np.mean([pair.a for pair in pairs])),
        float(np.mean([pair.b for pair in pairs])),
        float(differences.mean()),
        bootstrap_interval(by_video),
        p,
        wins=int((differences >= TIE).sum()),
        ties=int((np.abs(differences) < TIE).sum()),
        losses=int((differences <= -TIE).sum()),
    )


def differing_keys(a: Run, b: Run) -> list[tuple[str, Any, Any]]:
    """The keys in which the settings of two runs differ, with both values; none if one has no settings."""
    if not (a.settings and b.settings):
        return []
    keys = sorted((a.settings.keys() | b.settings.keys()) - set(IGNORED))
    values = [(key, a.settings.get(key), b.settings.get(key)) for key in keys]
    return [(key, one, other) for key, one, other in values if one != other]


def format_text(comparison: Comparison, differing: Sequence[tuple[str, Any, Any]], score: str) -> str:
    """The result as text.

    Args:
        score: what was compared, 'J&F' or 'J'.
    """
    spread = format_interval(comparison.interval)
    if comparison.interval:
        spread = f"95 % interval {spread} (bootstrap over videos)"
    videos = len({pair.video for pair in comparison.pairs})
    verdict = "significant" if comparison.is_significant else "not significant"
    lines = [
        f"{score} over {counted(len(comparison.pairs), 'object')} in {counted(videos, 'video')}: "
        f"A {100 * comparison.mean_a:.1f}, B {100 * comparison.mean_b:.1f}",
        f"B - A: {100 * comparison.difference:+.1f} points, {spread}, "
        f"Wilcoxon p = {comparison.p:.3g}: {verdict}",
        f"B is better in {comparison.wins}, equal in {comparison.ties}, worse in {comparison.losses}",
    ]
    lines += [f"setting {key}: A {one}, B {other}" for key, one, other in differing]
    for pair in _largest(comparison):
        change = f"{100 * pair.a:.1f} -> {100 * pair.b:.1f} ({100 * pair.difference:+.1f})"
        lines.append(f"  {pair.video} {pair.object}: {change}")
    return "\n".join(lines)


def _largest(comparison: Comparison) -> list[Pair]:
    """The pairs with the largest differences that are no ties, the largest first."""
    changed = [pair for pair in comparison.pairs if abs(pair.difference) >= TIE]
    return sorted(changed, key=lambda pair: -abs(pair.difference))[:LARGEST]


def largest_changes(comparison: Comparison, a: Run, b: Run, root: Path | None) -> list[dict[str, Any]]:
    """List the largest changes: the pair, the frame in which J differs most, and three pictures of it."""
    largest = _largest(comparison)
    indices = {index.name: index for index in video_indices(a, root)} if largest else {}
    changes = []
    for pair in largest:
        frame, J_a, J_b = _most_different_frame(pair, a, b)
        images = _pictures(indices[pair.video], frame, pair.object, [a.folder, b.folder])
        changes.append({"pair": pair, "frame": frame, "J": (J_a, J_b), "images": images})
    return changes


def _most_different_frame(pair: Pair, a: Run, b: Run) -> tuple[str, float, float]:
    """The scored frame of an object in which J of both runs differs most, and both J."""
    frames, values = zip(*(_frame_scores(run, pair) for run in (a, b)))
    J_a, J_b = (dict(zip(names, J)) for names, J in zip(frames, values))
    frame = max((name for name in frames[0] if name in J_b), key=lambda name: abs(J_a[name] - J_b[name]))
    return frame, J_a[frame], J_b[frame]


def _frame_scores(run: Run, pair: Pair) -> tuple[tuple[str, ...], list[float]]:
    (scores,) = run.records[pair.video].report.scores
    row = scores.ids.index(pair.object)
    return scores.frames[row], scores.jaccard[row].tolist()


def _pictures(index: VideoIndex, frame_name: str, number: int, folders: Sequence[Path]) -> list[str]:
    """The frame with the object's true mask and with that of each folder, as data URIs."""
    frame = next(frame for frame in open_video(index).read() if frame.name == frame_name)
    assert frame.truth is not None  # it is scored
    size = frame.truth.shape[0], frame.truth.shape[1]
    predicted = [PredictedMasks(folder, index.name, index.binary or None) for folder in folders]
    masks = [frame.truth, *(masks.read(frame_name, size) for masks in predicted)]
    step = max(1, size[0] // HEIGHT)
    return [
        embed_jpeg(overlay(frame.image, keep_objects(mask, (number,)))[::step, ::step])
        if mask is not None
        else ""
        for mask in masks
    ]


if __name__ == "__main__":
    run_with_error_messages(main)
