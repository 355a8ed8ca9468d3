"""Score a model on annotated videos, beside two baselines: a copy of the first mask, and optical flow.

    python3 -m benchmarks.scores --root DATA --valset DAVIS16 [--videos NAME ...] [-- KEY VALUE ...]

Prints J, F and J&F of each video in percent, with and without gradient correction, and the time of a frame.
Also prints how well the round trip IoU ranks the videos (Spearman). The round trip predicts the first mask
back from the video's last frame; its IoU is that of the first mask and this prediction.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from yacs.config import CfgNode

from analysis.statistics import spearman
from benchmarks.measure import describe_machine
from dataset.registry import recorded_videos
from dataset.sample import bundled_clip
from dataset.video import open_video
from libs.app.build import build_device, build_model, for_inference, inference_settings
from libs.app.config import load_config
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError, counted, named
from libs.core.log import Progress
from libs.core.masks import object_ids
from libs.core.structures import Video, VideoIndex
from libs.core.tables import markdown_table
from libs.evaluation.evaluator import RoundTripRow, count_frames, evaluate
from libs.evaluation.scores import VideoScorer, VideoScores, j_and_f, summarise

Named = TypeVar("Named", Video, VideoIndex)

LOOP = 10  # steps of gradient correction if the config has none; as in the paper
METHODS = ("model", "corrected", "flow")


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    cfg = load_config(args.cfg, [*args.options, "root", args.root, "valset", args.valset])
    report(cfg, scored_videos(cfg, args.splits, args.videos), args.methods)
    if args.sample:
        report(cfg, [open_video(bundled_clip())], args.methods)


def report(cfg: CfgNode, videos: list[Video], methods: list[str]) -> None:
    """Score some videos by each method and print a table, a line for each object if there is one video."""
    rows, round_trips = run_methods(cfg, videos, methods)
    print(table(videos, rows, {trip.video: trip.iou for trip in round_trips}))
    rank = spearman([trip.iou for trip in round_trips], [trip.J for trip in round_trips])
    if rank is not None:
        print(f"Spearman's rank correlation of the round trip IoU with J: {rank:.2f}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.scores",
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--cfg", type=Path, default=Path("configs/shipped.yaml"), metavar="FILE", help="YAML config")
    add("--root", default="data", metavar="DATA", help="folder that holds the data sets")
    add("--valset", default="DAVIS16", help="data set to score")
    add("--splits", nargs="+", default=["val"], help="splits of the data set")
    add("--videos", nargs="+", metavar="NAME", help="videos to score (default: all of the splits)")
    add("--sample", action="store_true", help="score the bundled clip of the demo as well")
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="what to score beside copying")
    add("options", nargs="*", metavar="KEY VALUE", help="override keys of the config")
    return parser.parse_args()


def scored_videos(cfg: CfgNode, splits: list[str], names: Sequence[str] | None = None) -> list[Video]:
    """Open the videos of these names that have masks to score with; without names all of them.

    Raises: InputError if there are none, or naming those that there are not.
    """
    found = [recorded_videos(Path(cfg.root), cfg.valset, split, cfg.davis_resolution)[0] for split in splits]
    indices = [index for videos in found for index in videos]
    videos = [open_video(index) for index in choose_videos(indices, names)]
    scored = [video for video in videos if video.scored]
    if not scored or (names and len(scored) < len(videos)):
        unscored = named(video.name for video in videos if not video.scored)
        raise InputError(
            f"{cfg.valset} below {cfg.root}: no mask beside the given one to score with in {unscored}"
        )
    if len(scored) < len(videos):
        print(f"{counted(len(videos) - len(scored), 'video')} without masks to score with are left out")
    return scored


def choose_videos(videos: list[Named], names: Sequence[str] | None) -> list[Named]:
    """Return the videos (or their indices) of these names, in this order; without names all of them.

    Raises: InputError naming what there is not.
    """
    if not names:
        return videos
    known = {video.name: video for video in videos}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"--videos: there is no {named(missing)}; expected some of {named(known)}")
    return [known[name] for name in names]


def run_methods(
    cfg: CfgNode, videos: list[Video], methods: list[str]
) -> tuple[dict[str, list[VideoScores]], list[RoundTripRow]]:
    """Score all videos by each method. Copying the first mask is scored along with the model."""
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    print(f"{len(videos)} videos; {describe_machine(device)}", flush=True)
    rows: dict[str, list[VideoScores]] = {}
    round_trips: list[RoundTripRow] = []
    for method in methods:
        if method == "flow":
            rows[method] = [score(video, carry_by_flow(video)) for video in videos]
        else:
            loop = (cfg.loop or LOOP) if method == "corrected" else 0
            settings = replace(inference_settings(cfg), loop=loop)
            progress = Progress(method, count_frames(videos), "frame")
            report = evaluate(model, videos, settings, score_copy=True, progress=progress)
            rows["copy"], rows[method] = report.copies, report.scores
            round_trips = report.round_trips
            print(f"{method}: {report.speed()}", flush=True)
        print(f"{method}: {line(rows[method])}", flush=True)
    return rows, round_trips


def carry_by_flow(video: Video) -> Iterator[np.ndarray]:
    """Carry given masks from frame to frame by dense optical flow (DIS, Kroeger et al., ECCV 2016).

    Yields: label maps (H, W) uint8, one for each frame.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before, labels = None, None
    for frame in video.read():
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        if before is None or labels is None:
            labels = np.zeros(grey.shape, np.uint8)
        else:
            back = flow.calc(grey, before, None)  # where each pixel of this frame was in the frame before
            y, x = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(np.float32)
            labels = cv2.remap(labels, x + back[..., 0], y + back[..., 1], cv2.INTER_NEAREST)
        if frame.given is not None:
            labels = np.where(frame.given > 0, frame.given, labels)
        before = grey
        yield labels


def score(video: Video, predictions: Iterator[np.ndarray]) -> VideoScores:
    """Score label maps that come in the order of the video's frames."""
    scorer, ids = VideoScorer(video.name, video.scoring), set[int]()
    for frame, labels in zip(video.read(), predictions):
        if frame.given is not None:
            ids.update(object_ids(frame.given))
        if frame.truth is not None:
            scorer.feed(frame.name, labels, frame.truth, frame.scored)
    return scorer.result(ids)


def line(scores: list[VideoScores]) -> str:
    """Format the scores over all objects as 'J 12.3%, F 12.3%, J&F 12.3%'."""
    return ", ".join(f"{name} {value:.1%}" for name, value in _means(scores).items())


def table(videos: list[Video], rows: dict[str, list[VideoScores]], round_trips: dict[str, float]) -> str:
    """Format a Markdown table: for each video J / F / J&F of every method and the round trip IoU."""
    lines = [["video", *rows, "round trip IoU"]]
    if len(videos) == 1:
        for n, number in enumerate(next(iter(rows.values()))[0].ids):
            cells = [_cell([_only(scores[0], n)]) for scores in rows.values()]
            lines.append([f"{videos[0].name}, object {number}", *cells, ""])
    for i, video in enumerate(videos):
        cells = [_cell([scores[i]]) for scores in rows.values()]
        trip = f"{round_trips[video.name]:.2f}" if video.name in round_trips else "-"
        lines.append([video.name, *cells, trip])
    if len(videos) > 1:
        lines.append(["all", *(_cell(scores) for scores in rows.values()), ""])
    return markdown_table(lines)


def _only(scores: VideoScores, n: int) -> VideoScores:
    """The scores of the n-th object alone."""
    fields = ("ids", "jaccard", "boundary", "frames")
    return replace(scores, **{name: (getattr(scores, name)[n],) for name in fields})


def _cell(scores: list[VideoScores]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in _means(scores).values())


def _means(scores: list[VideoScores]) -> dict[str, float]:
    """J, and F and J&F unless the benchmark has J alone."""
    summary = summarise(scores)
    found = {"J": summary.J.mean}
    return found if summary.F is None else {**found, "F": summary.F.mean, "J&F": j_and_f(summary)}


if __name__ == "__main__":
    run_with_error_messages(main)
