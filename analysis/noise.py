"""Damage masks by known amounts, and measure what that costs with and without gradient correction.

    python3 -m analysis.noise --out DIR [--video VIDEO] [--mask MASK] [--root DATA] [--valset SET]
        [--cfg FILE] [--weights W] [--kinds KIND ...] [--amounts A ...] [--where WHERE ...] [--length N]
        [-- KEY VALUE ...]

Writes noise.csv, noise.txt and noise.png. docs/analysis/noise.md says how to read them.
"""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.common import load_configs, load_model, new_parser, open_chosen, positive
from analysis.damage import DamagedMemory, damage_given, damage_masks
from analysis.pictures import save_figure
from libs.app.build import inference_settings
from libs.app.defaults import DEFAULTS
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.core.files import atomic_write, exclusive_run
from libs.core.masks import object_ids
from libs.core.structures import Video
from libs.core.tables import markdown_table
from libs.evaluation.inference import InferenceSettings, VideoSegmenter, segment_video
from libs.evaluation.scores import VideoScorer, mean_jaccard, summarise, write_rows
from models.stm import STM

KINDS = {"shift": "tab:blue", "erode": "tab:green", "wrong": "tab:red"}  # with their colours in the plot
WHERE = ("given", "remembered")  # the masks that are damaged
UNDAMAGED = "none"  # kind of the run that the others are compared with


# ---- one run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One run over the video. All scores are fractions; None: there is no such frame, or no such measure.

    iou: mean over the damaged masks, of the damaged mask with the one before, averaged over its objects.
    J, F: of what is predicted, as test.py scores it.
    memory_predicted, memory_damaged, memory_kept: mean J of the masks of predicted frames that stay in the
        memory: as predicted, after the damage, and as they are memorized. At the network's input.
    """

    video: str
    where: str
    kind: str
    amount: float
    loop: int  # steps of gradient correction
    iou: float | None
    J: float | None
    F: float | None
    memory_predicted: float | None
    memory_damaged: float | None
    memory_kept: float | None

    @property
    def score(self) -> float:
        """J&F, or the one of them that the benchmark has."""
        return float(np.mean([value for value in (self.J, self.F) if value is not None]))


@dataclass(frozen=True)
class Damage:
    """What is done to which masks. The fields are those of Row."""

    where: str
    kind: str
    amount: float

    def __call__(self, masks: Tensor) -> Tensor:
        """Damage masks (K, H, W)."""
        return masks if self.kind == UNDAMAGED else damage_masks(masks, self.kind, self.amount)


def measure(model: STM, settings: InferenceSettings, video: Video, damage: Damage) -> Row:
    """Segment a video while masks are damaged, and score what is predicted.

    Raises: InputError if no frame is scored.
    """
    ious: list[float] = []
    shown = damage_given(video, damage, ious) if damage.where == "given" else video
    memory = DamagedMemory(settings.correction(), damage if damage.where == "remembered" else _keep)
    scorer, compared = VideoScorer(video.name, video.scoring), []
    ids: tuple[int, ...] = ()
    for prediction in segment_video(VideoSegmenter(model, settings, memory), shown):
        frame, ids = prediction.frame, prediction.ids
        if frame.truth is not None:
            scorer.feed(frame.name, prediction.labels, frame.truth, frame.scored)
        if memory.newest is None:
            continue
        predicted, damaged, kept = (_labels(masks, ids) for masks in memory.newest)
        if damage.where == "remembered" and object_ids(predicted):
            ious.append(mean_jaccard(damaged, predicted, object_ids(predicted)))
        if frame.truth is not None:
            truth = settings.views[0].box(frame.image.shape[:2]).labels(frame.truth)
            compared.append([mean_jaccard(one, truth, frame.scored) for one in (predicted, damaged, kept)])
        memory.newest = None  # the next frame may be one whose mask is given
    if not scorer.frames:
        raise InputError(f"video '{video.name}': no frame after the given mask is scored; raise --length")
    total = summarise([scorer.result(ids)])
    J, F = (value.mean if value else None for value in (total.J, total.F))
    iou = float(np.mean(ious)) if ious else None
    in_memory = np.mean(compared, axis=0).tolist() if compared else [None] * 3
    what = video.name, damage.where, damage.kind, damage.amount
    return Row(*what, settings.loop, iou, J, F, *in_memory)


def _keep(masks: Tensor) -> Tensor:
    """Leave masks as they are."""
    return masks


def _labels(masks: Tensor, ids: Sequence[int]) -> np.ndarray:
    """Take the likeliest channel of each pixel: (1, K, H, W) to the ids of the objects, (H, W) uint8."""
    return np.array((0, *ids), np.uint8)[masks[0].argmax(0).cpu().numpy()]


# ---- how it is shown --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """The same damage without and with gradient correction."""

    without: Row
    corrected: Row


def pair_up(rows: Sequence[Row]) -> list[Pair]:
    """Put the rows of each damage together, in their order: first without correction, then with it."""
    return [Pair(*pair) for pair in zip(rows[::2], rows[1::2], strict=True)]


def summary(pairs: Sequence[Pair]) -> str:
    """Format the table, in percent; IoU as a fraction."""
    score = "J&F" if pairs[0].without.F is not None else "J"
    lines = [["masks", "damage", "amount", "IoU", f"{score} without", "with", "gain"]]
    lines[0] += ["J in memory: damaged", "corrected"]
    for pair in pairs:
        row, other = pair.without, pair.corrected
        gain = f"{100 * (other.score - row.score):+.1f}"
        iou = "-" if row.iou is None else f"{row.iou:.2f}"
        lines.append(
            [row.where, row.kind, f"{row.amount:g}", iou, _percent(row.score), _percent(other.score)]
        )
        lines[-1] += [gain, _percent(other.memory_damaged), _percent(other.memory_kept)]
    return markdown_table(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def plot(path: Path, pairs: Sequence[Pair]) -> None:
    """Plot scores over the amount of damage: dashed without correction, solid with it."""
    undamaged, damaged = pairs[0], pairs[1:]
    wheres = [where for where in WHERE if any(pair.without.where == where for pair in damaged)]
    of_memory = "remembered" in wheres and undamaged.corrected.memory_kept is not None
    figure = Figure(figsize=(4.2 * (len(wheres) + of_memory), 4), layout="constrained")
    figure.suptitle(f"damaged masks in '{undamaged.without.video}'", fontsize=10)
    panels = figure.subplots(1, len(wheres) + of_memory, squeeze=False)[0]
    for axes, where in zip(panels, wheres):
        own = [pair for pair in damaged if pair.without.where == where]
        lines = [("without correction", "--", lambda pair: pair.without.score)]
        lines += [("with correction", "-", lambda pair: pair.corrected.score)]
        _plot_panel(axes, undamaged, own, lines)
        score = "J&F" if undamaged.without.F is not None else "J"
        axes.set(title=f"{where} masks damaged", ylabel=f"{score} of the predictions")
    if of_memory:
        own = [pair for pair in damaged if pair.without.where == "remembered"]
        lines = [("damaged", "--", lambda pair: pair.corrected.memory_damaged)]
        lines += [("damaged, then corrected", "-", lambda pair: pair.corrected.memory_kept)]
        _plot_panel(panels[-1], undamaged, own, lines)
        panels[-1].set(title="the remembered masks themselves", ylabel="J in the memory")
    save_figure(path, figure)


def _plot_panel(axes: Axes, undamaged: Pair, own: Sequence[Pair], lines: Sequence[tuple]) -> None:
    """Draw a line for each kind of damage and each of `lines`: label, style, and what is drawn of a pair."""
    for kind, colour in KINDS.items():
        chosen = [pair for pair in own if pair.without.kind == kind]
        chosen = [undamaged, *sorted(chosen, key=lambda pair: pair.without.amount)]
        for _, style, value in lines if len(chosen) > 1 else ():
            amounts = [pair.without.amount for pair in chosen]
            axes.plot(
                amounts, [value(pair) for pair in chosen], style, color=colour, marker="o", markersize=4
            )
    for label, style, _ in lines:
        axes.plot([], [], style, color="grey", label=label)
    for kind in dict.fromkeys(pair.without.kind for pair in own):
        axes.plot([], [], color=KINDS[kind], label=kind)
    axes.set(xlabel="amount of damage", ylim=(0, 1))
    axes.legend(fontsize="small")


# ---- the command ------------------------------------------------------------------------------------------


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    (cfg,) = load_configs(args).values()
    video = open_chosen(args, cfg)
    without, corrected = both_settings(inference_settings(cfg))
    if not video.scored:
        raise InputError(f"video '{video.name}': expected true masks to score with, beside the given one")
    with exclusive_run(args.out):
        model, rows, shown = load_model(cfg), [], first_frames(video, args.length)
        for damage in plan(args):
            rows += [measure(model, settings, shown, damage) for settings in (without, corrected)]
            write_rows(args.out / "noise.csv", rows)  # an interruption loses no finished row
            print(f"{damage.where} {damage.kind} {damage.amount:g}: done", flush=True)
        write(args.out, rows)
    print(summary(pair_up(rows)))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser("noise", __doc__ or "", weights=1)
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="kinds of damage")
    add("--amounts", nargs="+", type=fraction, default=[0.25, 0.5], metavar="A", help="how much, 0 to 1")
    add("--where", nargs="+", choices=WHERE, default=list(WHERE), help="which masks are damaged")
    add("--length", type=positive, default=30, metavar="N", help="segment the first N frames only")
    return parser.parse_args()


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found '{text}'")


def both_settings(settings: InferenceSettings) -> tuple[InferenceSettings, InferenceSettings]:
    """Return the settings without and with gradient correction; of as many steps as the config says, if any.

    Raises: InputError if they ask for several views.
    """
    if len(settings.views) > 1:
        raise InputError("keys 'tta_scales' and 'tta_flip': expected no test-time augmentation here")
    # What is predicted is scored, not what correction makes of it: damaged masks would count otherwise.
    settings = replace(settings, save_corrected=False, object_probs=False)
    return replace(settings, loop=0), replace(settings, loop=settings.loop or DEFAULTS["loop"])


def first_frames(video: Video, length: int) -> Video:
    """Return the first `length` frames of a video."""
    return replace(video, length=min(video.length, length), read=lambda: islice(video.read(), length))


def plan(args: argparse.Namespace) -> list[Damage]:
    """List what is measured, the run without damage first."""
    chosen = [
        Damage(where, kind, amount) for where in args.where for kind in args.kinds for amount in args.amounts
    ]
    return [Damage("-", UNDAMAGED, 0.0), *dict.fromkeys(chosen)]


def write(out: Path, rows: Sequence[Row]) -> None:
    """Write the table as text and the plot, and print where they are."""
    pairs = pair_up(rows)
    with atomic_write(out / "noise.txt") as temporary:
        temporary.write_text(summary(pairs) + "\n", encoding="utf-8")
    plot(out / "noise.png", pairs)
    print(f"wrote {out / 'noise.csv'}, noise.txt and noise.png")


if __name__ == "__main__":
    run_with_error_messages(main)
