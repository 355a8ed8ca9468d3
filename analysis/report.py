"""Write a report of a run of test.py as one HTML page: python3 -m analysis.report RUN

The page loads nothing from elsewhere. A run is a result folder, such as data/output/DAVIS17.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from analysis.html import embed_jpeg, write_page
from analysis.runs import PredictedMasks, Run, check_label_maps, read_run, video_indices
from analysis.statistics import spearman
from dataset.video import open_video
from libs.app.script import run_with_error_messages
from libs.core.log import Progress
from libs.core.masks import palette
from libs.core.structures import SourceFrame, Video
from libs.evaluation.curves import curves_over_time
from libs.evaluation.evaluator import CorrectionRow, DriftRow
from libs.evaluation.scores import VideoScores
from libs.evaluation.visualize import overlay

WIDTH = 216  # pixels of a thumbnail
COLUMNS = 10  # of a sheet of thumbnails
MOST = 120  # thumbnails of a video; of a longer one, frames evenly spread over time
WORST = 40  # frames in the list of the worst
QUALITY = 62  # of the thumbnails' JPEG: about 5 KB each


@dataclass(frozen=True)
class Curve:
    """One line or row of marks: positions of frames and values from 0 to 1."""

    number: int  # of the object
    kind: str  # 'J', 'F' or 'round trip'
    points: list[tuple[int, float]]

    @property
    def colour(self) -> str:
        """That of the object's mask."""
        return "rgb({}, {}, {})".format(*palette()[self.number])


@dataclass(frozen=True)
class VideoPage:
    """What the page shows of one video.

    frames: names of all frames. shown: positions of those with a thumbnail.
    sheet: data URI of the thumbnails, row by row. size: (height, width) of each.
    corrected: positions of the corrected frames.
    memorized: positions of the frames that the loop asks to keep; a memory rule or bound may drop some.
    """

    name: str
    score: float | None
    frames: list[str]
    shown: list[int]
    sheet: str
    size: tuple[int, int]
    curves: list[Curve]
    corrected: list[int]
    memorized: list[int]


@dataclass(frozen=True)
class WorstFrame:
    """A frame in the list of the worst."""

    video: str
    object: int
    frame: str
    position: int
    J: float
    F: float | None  # None if the benchmark has none


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    run = read_run(args.run)
    check_label_maps(run)
    videos = [open_video(index, run.settings["given_masks"]) for index in video_indices(run, args.root)]
    progress = Progress("report", sum(video.length for video in videos), "frame")
    pages = [video_page(run, video, progress) for video in videos]
    report = run.report
    write_page(
        args.out or args.run / "report.html",
        "report.html",
        name=run.name,
        settings=sorted(run.settings.items()),
        summary=report.summary,
        references=report.references,
        speed=report.speed() if report.frames else "",
        pages=pages,
        worst=worst_frames(run, pages),
        corrections=report.corrections,
        correction=summarise_corrections(report.corrections),
        drift=[row for row in report.drift if row.J is not None],
        rank=rank_correlation(report.drift),
    )
    print(f"report written to {args.out or args.run / 'report.html'}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m analysis.report", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="result folder of test.py")
    parser.add_argument(
        "--root", type=Path, metavar="DATA", help="folder that holds the data sets, if not that of the run"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page to write (default: report.html in the run)"
    )
    return parser.parse_args()


def video_page(run: Run, video: Video, progress: Progress) -> VideoPage:
    """Read a video once: draw its thumbnails, and list what is shown of it."""
    record = run.records[video.name]
    masks = PredictedMasks(run.folder, video.name)
    stride = max(1, math.ceil(record.report.frames / MOST))
    names: list[str] = []
    given: list[int] = []
    thumbnails: list[np.ndarray] = []
    for t, frame in enumerate(video.read()):
        names.append(frame.name)
        given += [t] if frame.given is not None else []
        if t % stride == 0:
            thumbnails.append(thumbnail(frame, masks.read(frame.name, _size(frame))))
        progress.advance()
    position = {name: t for t, name in enumerate(names)}
    return VideoPage(
        video.name,
        _mean_score(record.report.scores),
        names,
        list(range(0, len(names), stride)),
        embed_jpeg(sheet(thumbnails), QUALITY),
        thumbnails[0].shape[:2] if thumbnails else (1, 1),
        [
            Curve(number, kind, list(zip(*curve)))
            for kind, curves in curves_over_time(record.report, names).items()
            for number, curve in sorted(curves.items())
        ],
        corrected=[position[row.frame] for row in record.report.corrections],
        memorized=asked_to_keep(len(names), run.settings["save_freq"], given),
    )


def asked_to_keep(count: int, save_freq: int, given: Sequence[int]) -> list[int]:
    """The frames that the time loop asks to keep in memory: from the first of the given masks on."""
    return sorted({*given, *(t for t in range(0, count, save_freq) if given and t >= given[0])})


def thumbnail(frame: SourceFrame, labels: np.ndarray | None) -> np.ndarray:
    """Draw a small frame: predicted objects tinted, the outlines of the true ones white.

    Args:
        labels: (H, W) uint8, predicted; None if there are none.
    Returns: (h, w, 3) uint8 RGB, WIDTH wide.
    """
    height, width = _size(frame)
    size = WIDTH, max(1, round(height * WIDTH / width))
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    if labels is not None:
        image = overlay(image, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST))
    truth = frame.truth if frame.truth is not None else frame.given
    if truth is not None:
        small = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST)
        for number in np.unique(small[small > 0]):
            outlines, _ = cv2.findContours(
                (small == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            image = cv2.drawContours(np.ascontiguousarray(image), outlines, -1, (255, 255, 255), 1)
    return image


def sheet(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """Lay thumbnails (h, w, 3) out row by row, COLUMNS in each: (rows * h, COLUMNS * w, 3) uint8."""
    if not thumbnails:
        return np.zeros((1, 1, 3), np.uint8)
    height, width = thumbnails[0].shape[:2]
    rows = math.ceil(len(thumbnails) / COLUMNS)
    laid = np.zeros((rows * height, COLUMNS * width, 3), np.uint8)
    for n, image in enumerate(thumbnails):
        top, left = n // COLUMNS * height, n % COLUMNS * width
        laid[top : top + height, left : left + width] = image
    return laid


def worst_frames(run: Run, pages: Sequence[VideoPage]) -> list[WorstFrame]:
    """The frames with the lowest J, at most one for each ten frames of an object."""
    found = []
    for page in pages:
        position = {name: t for t, name in enumerate(page.frames)}
        for scores in run.records[page.name].report.scores:
            for number, names, J, F in zip(scores.ids, scores.frames, scores.jaccard, scores.boundary):
                for first in range(0, len(names), 10):  # neighbours look alike
                    n = first + int(np.argmin(J[first : first + 10]))
                    both = float(J[n]), float(F[n]) if "F" in scores.scoring.measures else None
                    found.append(WorstFrame(page.name, number, names[n], position[names[n]], *both))
    return sorted(found, key=lambda row: (row.J, row.F or 0.0))[:WORST]


def summarise_corrections(rows: Sequence[CorrectionRow]) -> dict[str, float]:
    """Means over the corrected frames; J over those with ground truth. Empty if no frame was corrected."""
    if not rows:
        return {}
    found: dict[str, float] = {
        "frames": len(rows),
        "loss_before": float(np.mean([row.loss_before for row in rows])),
        "loss_after": float(np.mean([row.loss_after for row in rows])),
        "milliseconds": float(np.mean([row.milliseconds for row in rows])),
    }
    J = [(row.J_before, row.J_after) for row in rows if row.J_before is not None and row.J_after is not None]
    if J:
        before, after = map(np.array, zip(*J))
        found |= {"J_before": float(before.mean()), "J_after": float(after.mean())}
        found |= {"raised": int((after > before).sum()), "lowered": int((after < before).sum())}
    return found


def rank_correlation(drift: Sequence[DriftRow]) -> float | None:
    """Spearman's rank correlation of the round trip IoU with J, see `spearman`."""
    pairs = [(row.iou, row.J) for row in drift if row.J is not None]
    return spearman([iou for iou, _ in pairs], [J for _, J in pairs])


def _mean_score(scores: Sequence[VideoScores]) -> float | None:
    values = [value.mean for own in scores for row in own.objects for value in (row.J, row.F) if value]
    return float(np.mean(values)) if values else None


def _size(frame: SourceFrame) -> tuple[int, int]:
    return frame.image.shape[0], frame.image.shape[1]


if __name__ == "__main__":
    run_with_error_messages(main)
