"""Show what is read from memory for an object or a pixel: from which frames, and from where in them.

    python3 -m analysis.attention --out DIR [--video VIDEO] [--mask MASK] [--root DATA] [--valset SET]
        [--cfg FILE] [--weights W] [--frame NAME] [--object ID ...] [--pixel X Y] [-- KEY VALUE ...]

Writes two pictures for each object, and attention.csv. Prints a table.
docs/analysis/attention.md says how to read them.
"""

import argparse
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from analysis.common import (
    Moment,
    check_wanted,
    load_configs,
    load_model,
    moments,
    new_parser,
    open_chosen,
    warn_of_leftovers,
)
from analysis.pictures import Tile, grey, outline, save_figure, save_grid, shrink
from analysis.reading import KINDS, Reading, Row, focus_on, mask_of, read_object, spread
from libs.app.build import inference_settings
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError, counted
from libs.core.files import exclusive_run
from libs.core.tables import markdown_table
from libs.evaluation.scores import write_rows
from libs.evaluation.visualize import heatmap

LABELS = {"first": "first frame", "kept": "other kept frames", "previous": "previous frame"}
COLOURS = ("tab:blue", "tab:green", "tab:orange")  # of KINDS
TILES = 5  # most memory frames in a picture
ACROSS = 3  # images in a row of it
CROSS = 9  # pixels in a picture, length of the cross that marks --pixel


# ---- a video ----------------------------------------------------------------------------------------------


class Recorder:
    """Collects readings over a video.

    Args:
        objects: ids of the objects to look at; none: all.
        pixel: (x, y) in the source frames to read for, in place of the objects' pixels.
    """

    def __init__(self, objects: Sequence[int], pixel: Sequence[int] | None) -> None:
        self.objects, self.pixel = objects, pixel
        self.rows: list[Row] = []
        self.lost: list[tuple[str, int]] = []  # frame and object that has no pixel there
        self.names: dict[int, str] = {}  # index of a frame in the video -> its name
        self.moment: Moment | None = None
        self.newest: dict[int, tuple[np.ndarray, Reading]] = {}  # id -> mask and reading in the newest frame
        self._first: dict[int, int] = {}  # id -> index of the frame with the object's first mask
        self._images: dict[int, np.ndarray] = {}  # small, of the frames in memory

    def add(self, moment: Moment) -> None:
        """Read for each object in the next frame."""
        step = moment.step
        self.moment, self.newest = moment, {}
        self.names[step.t] = moment.frame.name
        for number in moment.ids:
            self._first.setdefault(number, step.t)
        # Only frames in memory are drawn: images of the others are dropped, however long the video is.
        held = {time for times in moment.bank.read_times() for time in times}
        self._images = {time: image for time, image in self._images.items() if time in held}
        if step.logits is not None:
            for number in moment.ids:
                if not self.objects or number in self.objects:
                    self._add_object(moment, number)
        self._images[step.t] = shrink(moment.frame.image)

    def _add_object(self, moment: Moment, number: int) -> None:
        """Read for one object, unless it has no pixel or no memory."""
        mask = mask_of(moment, number, self.pixel)
        if not mask.any():
            self.lost.append((moment.frame.name, number))
            return
        focus = focus_on(torch.from_numpy(mask).float(), moment.step.model.pad_to)
        reading = read_object(moment, number, focus)
        if reading is None:
            return
        self.newest[number] = mask, reading
        for time, mass in zip(reading.times, reading.masses.tolist()):
            kind = kind_of(time, moment.step.t, self._first[number])
            self.rows.append(Row(moment.frame.name, number, self.names[time], kind, mass))

    def tiles(self, number: int) -> list[list[Tile]]:
        """Draw the newest frame with what is read for, and the memory frames from which most is read.

        Returns: rows of ACROSS tiles, memory frames in the order of time.
        """
        moment = self.moment
        assert moment is not None
        mask, reading = self.newest[number]
        image = moment.frame.image
        shown = shrink(outline(image, moment.to_source(moment.predicted(number)) > 0.5, number, 0.5))
        if self.pixel:
            shown = cross(shown, self.pixel, image.shape[1])
        tiles = [Tile(shown, f"frame {moment.frame.name}")]
        most = np.argsort(-reading.masses)[:TILES]
        peak = reading.maps[most].max()
        for i in sorted(most.tolist(), key=lambda i: reading.times[i]):
            values = spread(reading.maps[i] / peak, mask.shape, moment.step.model.pad_to)
            small = self._images[reading.times[i]]
            values = cv2.resize(moment.to_source(values), small.shape[1::-1], interpolation=cv2.INTER_AREA)
            title = f"{self.names[reading.times[i]]}: {reading.masses[i]:.0%}"
            tiles.append(Tile(heatmap(grey(small), values), title))
        tiles += [Tile(None)] * (-len(tiles) % ACROSS)
        return [tiles[i : i + ACROSS] for i in range(0, len(tiles), ACROSS)]


def kind_of(time: int, t: int, first: int) -> str:
    """Name the kind of the memory frame `time`, when frame t is predicted: one of KINDS."""
    if time == first:
        return "first"
    return "previous" if time == t - 1 else "kept"


def cross(image: np.ndarray, pixel: Sequence[int], width: int) -> np.ndarray:
    """Mark a pixel of the source frame, `width` pixels wide, in its small image (h, w, 3) uint8."""
    at = [round((side + 0.5) * image.shape[1] / width) for side in pixel]
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        image = cv2.drawMarker(image.copy(), at, colour, cv2.MARKER_CROSS, CROSS, thickness)
    return image


# ---- attention over time ----------------------------------------------------------------------------------


def plot(path: Path, rows: list[Row], time_of: dict[str, int], title: str) -> None:
    """Plot the masses of one object over time: by the kind of memory frame, and for each memory frame.

    Args:
        time_of: name of a frame -> its index in the video.
    """
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    figure.suptitle(title, fontsize=10)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _plot_kinds(upper, rows, time_of)
    _plot_frames(lower, rows, time_of)
    lower.set_xlabel("frame")
    save_figure(path, figure)


def _plot_kinds(axes: Axes, rows: list[Row], time_of: dict[str, int]) -> None:
    """Stack the masses of the first frame, the kept ones and the previous one."""
    times = sorted({time_of[row.frame] for row in rows})
    place = {t: i for i, t in enumerate(times)}
    below, counts = np.zeros(len(times)), np.zeros(len(times))
    for kind, colour in zip(KINDS, COLOURS):
        mass = np.zeros(len(times))
        for row in rows:
            if row.kind == kind:
                mass[place[time_of[row.frame]]] += row.mass
                counts[place[time_of[row.frame]]] += 1
        axes.bar(times, mass, 1, bottom=below, color=colour, label=LABELS[kind])
        below += mass
    axes.step(times, 1 / counts, color="black", linewidth=1, where="mid", label="1 / memory frames")
    axes.set(ylabel="attention mass", ylim=(0, 1))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="small", ncols=4, frameon=False)


def _plot_frames(axes: Axes, rows: list[Row], time_of: dict[str, int]) -> None:
    """Draw a heat map: a row for each kept frame, and one for the previous frame, whichever that is."""
    times = sorted({time_of[row.frame] for row in rows})
    kept = sorted({time_of[row.memory_frame] for row in rows if row.kind != "previous"})
    height = {time: i for i, time in enumerate(kept)}
    masses = np.full((len(kept) + 1, times[-1] - times[0] + 1), np.nan)
    for row in rows:
        i = len(kept) if row.kind == "previous" else height[time_of[row.memory_frame]]
        masses[i, time_of[row.frame] - times[0]] = row.mass
    extent = (times[0] - 0.5, times[-1] + 0.5, -0.5, len(kept) + 0.5)
    image = axes.imshow(masses, "viridis", origin="lower", aspect="auto", extent=extent)
    # The square root, because masses differ by orders of magnitude.
    image.set_norm(PowerNorm(0.5, 0, float(np.nanmax(masses))))
    image.set_interpolation("nearest")
    every = -(-len(kept) // 10)
    axes.set_yticks([*range(0, len(kept), every), len(kept)], [*map(str, kept[::every]), "previous"])
    axes.set_ylabel("memory frame")
    axes.figure.colorbar(image, ax=axes, label="attention mass")


# ---- the command ------------------------------------------------------------------------------------------


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    (cfg,) = load_configs(args).values()
    if cfg.top_k:
        raise InputError("key 'top_k': expected 0 here, as the maps show a read from the whole memory")
    video = open_chosen(args, cfg)
    check_wanted(video, [args.frame] if args.frame else [], args.object, args.pixel)
    with exclusive_run(args.out):
        recorder = Recorder(args.object, args.pixel)
        record(recorder, moments(load_model(cfg), inference_settings(cfg), video), args.frame)
        if not recorder.rows:
            raise InputError(f"video '{video.name}': nothing was read from memory for these objects")
        write(args.out, video.name, recorder)
    print(summary(recorder.rows))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser("attention", __doc__ or "", weights=1)
    add = parser.add_argument
    add(
        "--frame", metavar="NAME", help="frame to draw memory frames for; the run ends there, else at the end"
    )
    add("--object", nargs="+", type=int, default=[], metavar="ID", help="objects; without it, all of them")
    help_text = "read for this pixel of the source frames; without it, for the pixels of each object"
    add("--pixel", nargs=2, type=int, metavar=("X", "Y"), help=help_text)
    return parser.parse_args()


def record(recorder: Recorder, steps: Iterable[Moment], last: str | None) -> None:
    """Read in all frames of a video up to the one of this name. Warns of objects that have no pixel."""
    for moment in steps:
        recorder.add(moment)
        if moment.frame.name == last:
            break
    if recorder.lost:
        frame, number = recorder.lost[0]
        warnings.warn(
            f"an object without a pixel to read for is left out in {counted(len(recorder.lost), 'frame')} "
            f"(first object {number} in frame {frame})",
            stacklevel=2,
        )


def write(out: Path, video: str, recorder: Recorder) -> None:
    """Write the table and the pictures, and print where they are."""
    table, written = out / "attention.csv", set()
    write_rows(table, recorder.rows)
    print(f"wrote the attention masses to {table}")
    time_of = {name: time for time, name in recorder.names.items()}
    for number in sorted({row.object for row in recorder.rows}):
        title = f"'{video}': where object {number} is read from"
        if recorder.pixel:
            x, y = recorder.pixel
            title = f"'{video}': what pixel {x}, {y} reads in the memory of object {number}"
        own = [row for row in recorder.rows if row.object == number]
        paths = [out / f"attention_object{number}.png"]
        plot(paths[0], own, time_of, f"{title}, over time")
        if number in recorder.newest:
            paths.append(out / f"memory_object{number}.png")
            save_grid(paths[1], recorder.tiles(number), title)
        written |= set(paths)
        print(f"wrote {' and '.join(map(str, paths))}")
    warn_of_leftovers(out, ("attention_object*.png", "memory_object*.png"), written)


def summary(rows: list[Row]) -> str:
    """Format the mean masses over the frames, a line for each object."""
    lines = [["object", "frames", *(LABELS[kind] for kind in KINDS), "memory frames"]]
    for number in sorted({row.object for row in rows}):
        own = [row for row in rows if row.object == number]
        frames = len({row.frame for row in own})
        masses = [sum(row.mass for row in own if row.kind == kind) / frames for kind in KINDS]
        cells = [f"{mass:.1%}" for mass in masses]
        lines.append([str(number), str(frames), *cells, f"{len(own) / frames:.1f}"])
    return markdown_table(lines)


if __name__ == "__main__":
    run_with_error_messages(main)
