"""Draw cycle-ERF maps: where a frame's mask matters to the reference mask (STM-Cycle, section 3.4).

    python3 -m analysis.erf --out DIR [--video VIDEO] [--mask MASK] [--root DATA] [--valset SET] [--cfg FILE]
        [--weights W ...] [--frames NAME ...] [--every N] [--object ID ...] [--probe empty] [--pixels all]
        [--band 5] [-- KEY VALUE ...]

Writes a picture for each object, a map for each object and frame, and erf.csv. Prints a table.
docs/analysis/erf.md says how to read them.
"""

import argparse
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
from torch import Tensor

from analysis.common import (
    Moment,
    check_wanted,
    load_configs,
    load_model,
    moments,
    new_parser,
    open_chosen,
    positive,
    warn_of_leftovers,
)
from analysis.pictures import Tile, grey, outline, save_grid, shrink
from libs.app.build import inference_settings
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.core.files import exclusive_run
from libs.core.image_io import write_image
from libs.core.structures import SourceFrame
from libs.core.tables import markdown_table
from libs.evaluation.scores import write_rows
from libs.evaluation.visualize import heatmap
from libs.method.cycle import mask_gradient
from libs.method.losses import HARD_PIXELS
from libs.method.propagate import Step

PROBES = ("empty", "uniform", "predicted")
PIXELS = {"all": 1.0, "hard": HARD_PIXELS}  # the fraction of the pixels in the cross entropy
REGIONS = ("inside", "border", "outside")
TINT = 0.5  # opacity of a mask in the first row of a picture
MEANS = ("loss", *REGIONS, *(f"{part}_area" for part in REGIONS))  # columns of erf.csv that are averaged
COLUMNS = 6  # most frames in a picture
BRIGHTEST = 98  # percentile of a map's positive values that is drawn as 1: a few pixels stand out far


# ---- the map ----------------------------------------------------------------------------------------------


def probe_masks(step: Step, probe: str) -> Tensor:
    """Choose the mask of a frame at which the gradient is taken.

    The memory encoder clamps 1 - mask to 0..1. On the ends of that range the derivative jumps, and autograd
    takes either side, depending on the version of torch. So masks are kept inside it, by the smallest
    step of the network's precision: what counts is the derivative for a mask that grows from 0.

    Args:
        probe: 'empty': background everywhere. 'uniform': 1/K in each of the K channels. 'predicted': the
            prediction, before any correction.
    Returns: (1, K, H, W).
    """
    masks = step.probs
    if probe == "empty":
        masks = torch.zeros_like(masks)
        masks[:, 0] = 1
    elif probe == "uniform":
        masks = torch.full_like(masks, 1 / masks.shape[1])
    least = torch.finfo(next(step.model.parameters()).dtype).eps
    return masks.clamp(least, 1 - least)


def cycle_erf(step: Step, masks: Tensor, fraction: float = 1.0) -> tuple[float, Tensor]:
    """Compute the cycle-ERF of one frame (STM-Cycle, equation 6): ReLU(-dL/dmask).

    L compares the reference frame's given mask with its prediction from this frame alone. The map is positive
    where more of an object's mask would lower L.

    Args:
        masks: (1, K, H, W) of the frame, see `probe_masks`.
        fraction: of the pixels over which the cross entropy of L averages, the worst ones; 1: all pixels.
    Returns: L, and the maps (K, H, W), one a channel. That of background is 0: the network does not read it.
    """
    loss, gradient = mask_gradient(step, masks, fraction)
    return loss, (-gradient[0]).relu()


# ---- where its energy is ----------------------------------------------------------------------------------


def regions(mask: np.ndarray, band: int) -> dict[str, np.ndarray]:
    """Divide an image into the inside of an object, its border and the rest.

    Args:
        mask: (H, W) bool, of the object.
        band: pixels on either side of the contour that are border; 0: no border.
    Returns: (H, W) bool for each of REGIONS. They do not overlap, and together they are the whole image.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    grown, shrunk = (change(mask.astype(np.uint8), kernel) > 0 for change in (cv2.dilate, cv2.erode))
    return {"inside": shrunk, "border": grown & ~shrunk, "outside": ~grown}


def fractions(values: np.ndarray, parts: dict[str, np.ndarray]) -> list[float | None]:
    """Return the fraction of the sum of `values` (H, W) in each part (H, W) bool; None if the sum is 0."""
    total = float(values.sum())
    return [float(values[part].sum()) / total if total > 0 else None for part in parts.values()]


@dataclass(frozen=True)
class Row:
    """What is measured of one map. Energies and areas are fractions, each three of sum 1."""

    weights: str
    frame: str
    object: int
    mask: str  # 'ground truth' or 'predicted': the mask of the object whose inside is measured
    loss: float
    total: float  # sum of the map at the network's input
    inside: float | None  # energies; None if the map is 0 or the object is not in the frame
    border: float | None
    outside: float | None
    inside_area: float
    border_area: float
    outside_area: float


@dataclass(frozen=True)
class Measured:
    """One map of one frame, with what the picture shows of it."""

    row: Row
    reference: Tile  # the reference frame with the object's mask
    shown: np.ndarray  # (h, w, 3) uint8, the frame with the object's mask
    drawn: np.ndarray  # (h, w, 3) uint8, the frame with the map


def own_mask(moment: Moment, number: int) -> tuple[str, np.ndarray]:
    """Return what the mask of an object is, ground truth if there is any, and the mask.

    Returns: 'ground truth' or 'predicted'; (H, W) bool at the network's input.
    """
    frame = moment.frame
    if frame.truth is None or number not in frame.scored:
        return "predicted", moment.predicted(number)
    box = moment.view.box(moment.source_size)
    return "ground truth", box.labels((frame.truth == number).astype(np.uint8)) > 0


def describe(moment: Moment, number: int, values: np.ndarray, loss: float, weights: str, band: int) -> Row:
    """Measure the map (H, W) of one object."""
    box = moment.view.box(moment.source_size).box  # without the bars of the letterbox
    kind, mask = own_mask(moment, number)
    parts = regions(mask[box], band)
    energies = fractions(values[box], parts) if mask.any() else [None] * len(parts)
    areas = [float(part.mean()) for part in parts.values()]
    total = float(values[box].sum())
    return Row(weights, moment.frame.name, number, kind, loss, total, *energies, *areas)


# ---- how it is drawn --------------------------------------------------------------------------------------


def draw(moment: Moment, number: int, values: np.ndarray) -> np.ndarray:
    """Draw the map (H, W) of one object over its frame, with the object's contour.

    Returns: (Hs, Ws, 3) uint8.
    """
    positive = values[values > 0]
    peak = np.percentile(positive, BRIGHTEST) if positive.size else 1.0
    heat = heatmap(grey(moment.frame.image), moment.to_source(values / peak))
    return outline(heat, moment.to_source(own_mask(moment, number)[1]) > 0.5, number)


def grid(found: list[Measured], weights: list[str]) -> list[list[Tile]]:
    """Arrange the maps of one object: the masks in the first row, then a row for each of the weights."""
    own = [[one for one in found if one.row.weights == name] for name in weights]
    count = len(own[0])
    picks = np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(int).tolist()
    masks = [Tile(own[0][i].shown, f"frame {own[0][i].row.frame}") for i in picks]
    rows = [[own[0][0].reference, *masks]]
    for name, maps in zip(weights, own):
        rows.append([Tile(None, name), *(Tile(maps[i].drawn, caption(maps[i].row)) for i in picks)])
    return rows


def caption(row: Row) -> str:
    """Format the energies of a map."""
    if row.inside is None or row.border is None:
        return "object not found" if row.total else "the map is 0"
    return f"{row.inside:.0%} inside, {row.border:.0%} border"


# ---- the command ------------------------------------------------------------------------------------------


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    configs = load_configs(args)
    video = open_chosen(args, next(iter(configs.values())))
    check_wanted(video, args.frames, args.object)
    with exclusive_run(args.out):
        found: list[Measured] = []
        for name, cfg in configs.items():
            settings = inference_settings(cfg)
            found += measure_video(moments(load_model(cfg), settings, video), name, args)
        if not found:
            raise InputError(f"--every: no frame of '{video.name}' was chosen; give a smaller number")
        write(args, video.name, list(configs), found)
    warn_of_empty([one.row for one in found])
    print(summary([one.row for one in found]))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser("erf", __doc__ or "")
    add = parser.add_argument
    add("--frames", nargs="+", default=[], metavar="NAME", help="frames to measure, in place of --every")
    add("--every", type=positive, default=10, metavar="N", help="measure frames N, 2N, ...; 0 is the first")
    add("--object", nargs="+", type=int, default=[], metavar="ID", help="objects; without it, all of them")
    add("--probe", choices=PROBES, default="empty", help="mask at which the gradient is taken")
    add("--pixels", choices=PIXELS, default="all", help="pixels in the cross entropy: all, or the worst 40%%")
    add("--band", type=positive, default=5, metavar="N", help="half the width of the border, in pixels")
    return parser.parse_args()


def measure_video(steps: Iterable[Moment], weights: str, args: argparse.Namespace) -> list[Measured]:
    """Measure the chosen frames of a video, and write their maps. Frames with a given mask are left out."""
    waiting, found = set(args.frames), []
    reference: SourceFrame | None = None
    for moment in steps:
        if moment.step.given:
            reference = moment.frame
            continue
        assert reference is not None  # the first frame with objects has a given mask
        chosen = moment.frame.name in waiting if args.frames else moment.step.t % args.every == 0
        if not chosen:
            continue
        found += measure_frame(moment, reference, weights, args)
        waiting.discard(moment.frame.name)
        if args.frames and not waiting:
            break
    return found


def measure_frame(
    moment: Moment, reference: SourceFrame, weights: str, args: argparse.Namespace
) -> list[Measured]:
    """Compute, measure, draw and write the map of each chosen object in one frame."""
    loss, maps = cycle_erf(moment.step, probe_masks(moment.step, args.probe), PIXELS[args.pixels])
    found = []
    for number in moment.ids:
        if args.object and number not in args.object:
            continue
        channel = 1 + moment.ids.index(number)
        values = maps[channel].double().cpu().numpy()
        row = describe(moment, number, values, loss, weights, args.band)
        drawn = draw(moment, number, values)
        write_image(args.out / map_file(row), drawn)
        given = moment.to_source(moment.step.reference.masks[0, channel].cpu().numpy()) > 0.5
        mask = moment.to_source(own_mask(moment, number)[1]) > 0.5
        of_reference = shrink(outline(reference.image, given, number, TINT))
        shown = shrink(outline(moment.frame.image, mask, number, TINT))
        found.append(Measured(row, Tile(of_reference, f"reference {reference.name}"), shown, shrink(drawn)))
    return found


def map_file(row: Row) -> Path:
    """Name of the file of one map, below the folder of the results."""
    return Path("maps", row.weights.replace("/", "_"), f"{row.frame}_object{row.object}.png")


def write(args: argparse.Namespace, video: str, weights: list[str], found: list[Measured]) -> None:
    """Write the table and the pictures, and print where they are."""
    table = args.out / "erf.csv"
    write_rows(table, [one.row for one in found])
    print(f"wrote {len(found)} maps below {args.out / 'maps'} and their numbers to {table}")
    written = {args.out / map_file(one.row) for one in found}
    for number in sorted({one.row.object for one in found}):
        path = args.out / f"erf_object{number}.png"
        written.add(path)
        own = [one for one in found if one.row.object == number]
        title = f"cycle-ERF of object {number} in '{video}', {args.probe} probe"
        save_grid(path, grid(own, weights), title)
        print(f"wrote {path}")
    warn_of_leftovers(args.out, ("erf_object*.png", "maps/*/*.png"), written)


def warn_of_empty(rows: list[Row]) -> None:
    """Warn of maps without energies."""
    zero = [row for row in rows if not row.total]
    lost = [row for row in rows if row.total and row.inside is None]
    reasons = [(zero, "are 0 everywhere"), (lost, "are of an object that is not in the frame")]
    parts = [f"{len(some)} {reason} (first {some[0].frame})" for some, reason in reasons if some]
    if parts:
        warnings.warn(
            f"{len(zero) + len(lost)} of {len(rows)} maps have no fractions and do not count in the table: "
            f"{', '.join(parts)}",
            stacklevel=2,
        )


def summary(rows: list[Row]) -> str:
    """Format the means over the frames, a line for each of the weights and objects; areas in parentheses."""
    lines = [["weights", "object", "maps", "loss", *(f"{part} (area)" for part in REGIONS)]]
    for weights, number in dict.fromkeys((row.weights, row.object) for row in rows):
        own = [row for row in rows if (row.weights, row.object) == (weights, number)]
        own = [row for row in own if row.inside is not None]
        cells = ["-"] * (1 + len(REGIONS))
        if own:
            means = {key: mean(getattr(row, key) for row in own) for key in MEANS}
            parts = [f"{means[part]:.1%} ({means[f'{part}_area']:.1%})" for part in REGIONS]
            cells = [f"{means['loss']:.3f}", *parts]
        lines.append([weights, str(number), str(len(own)), *cells])
    return markdown_table(lines)


if __name__ == "__main__":
    run_with_error_messages(main)
