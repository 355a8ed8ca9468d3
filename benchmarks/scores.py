"""Score a model on annotated videos beside what needs no training: copying the first mask, and carrying it by optical flow.

    python3 -m benchmarks.scores --root data --valset DAVIS16 [--splits val] [--without VIDEO ...] [-- KEY VALUE ...]

Prints J, F and J&F of each video in percent, with and without gradient correction; how long a frame takes; and how well
the IoU of the first mask with itself, predicted back from the video's end, ranks the videos (Spearman).
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import machine
from dataset.registry import recorded_videos
from dataset.video import open_video
from libs.app.build import build_device, build_model, for_inference, inference_settings
from libs.app.config import load_config
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.core.log import Progress
from libs.core.structures import Video
from libs.evaluation.evaluator import count_frames, evaluate
from libs.evaluation.scores import VideoScorer, VideoScores, j_and_f, summarise

LOOP = 10  # steps of gradient correction where the config has none: the paper's
METHODS = ("model", "corrected", "flow")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.scores", description=__doc__.split("\n")[0])
    parser.add_argument("--cfg", type=Path, default=Path("configs/shipped.yaml"))
    parser.add_argument("--root", default="data")
    parser.add_argument("--valset", default="DAVIS16")
    parser.add_argument("--splits", nargs="+", default=["val"])
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="VIDEO", help="leave these out, such as those trained on"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="keys of the config")
    args = parser.parse_args()
    cfg = load_config(args.cfg, [*args.options, "root", args.root, "valset", args.valset])
    indices = [index for split in args.splits for index in recorded_videos(Path(cfg.root), cfg.valset, split)]
    videos = [open_video(index) for index in indices if index.name not in args.without]
    videos = [video for video in videos if video.scored]
    if not videos:
        raise InputError(
            f"{cfg.valset} below {cfg.root}: no video with a mask for every frame is left to score"
        )
    device, rows, trips = build_device(cfg.gpu_id), {}, []
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    print(f"{len(videos)} videos; {machine(device)}", flush=True)
    for method in args.methods:
        if method == "flow":
            rows[method] = [score(video, carried(video)) for video in videos]
        else:
            settings = replace(
                inference_settings(cfg), loop=(cfg.loop or LOOP) if method == "corrected" else 0
            )
            progress = Progress(method, count_frames(videos), "frame")
            report = evaluate(model, videos, settings, score_copy=True, progress=progress)
            rows["copy"], rows[method], trips = report.copies, report.scores, report.round_trips
            print(f"{method}: {report.speed()}", flush=True)
        print(f"{method}: {line(rows[method])}", flush=True)
    print(table(videos, rows, {trip.video: trip.iou for trip in trips}))
    if len(trips) > 2:
        rank = spearman([trip.iou for trip in trips], [trip.J for trip in trips])
        print(f"Spearman's rank correlation of the IoU predicted back with J: {rank:.2f}")


def carried(video: Video) -> Iterator[np.ndarray]:
    """The first mask, carried from frame to frame by dense optical flow (OpenCV's DIS, Kroeger et al., ECCV 2016)."""
    flow, before, labels = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), None, None
    for frame in video.read():
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        if before is None:
            labels = frame.given
        else:
            back = flow.calc(grey, before, None)  # where each pixel of this frame was in the frame before
            y, x = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(np.float32)
            labels = cv2.remap(labels, x + back[..., 0], y + back[..., 1], cv2.INTER_NEAREST)
        before = grey
        yield labels


def score(video: Video, predictions: Iterator[np.ndarray]) -> VideoScores:
    """J and F of label maps that come in the order of the frames."""
    scorer = VideoScorer(video.name, list(video.ids))
    for frame, labels in zip(video.read(), predictions):
        scorer.feed(labels, frame.truth)
    return scorer.result()


def line(scores: list[VideoScores]) -> str:
    """'J 12.3, F 12.3, J&F 12.3' over all objects."""
    summary = summarise(scores)
    return f"J {summary.J.mean:.1%}, F {summary.F.mean:.1%}, J&F {j_and_f(summary):.1%}"


def table(videos: list[Video], rows: dict[str, list[VideoScores]], back: dict[str, float]) -> str:
    """A line a video in Markdown: J / F / J&F of every method, and the IoU predicted back."""
    lines = [["video", *rows, "predicted back"], ["---"] * (len(rows) + 2)]
    for i, video in enumerate(videos):
        cells = [_cell([scores[i]]) for scores in rows.values()]
        lines.append([video.name, *cells, f"{back[video.name]:.2f}" if video.name in back else "-"])
    lines.append(["all", *(_cell(scores) for scores in rows.values()), ""])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(scores: list[VideoScores]) -> str:
    summary = summarise(scores)
    return " / ".join(f"{100 * value:.1f}" for value in (summary.J.mean, summary.F.mean, j_and_f(summary)))


def spearman(one: list[float], other: list[float]) -> float:
    """Rank correlation; equal numbers share their mean rank."""
    ranks = [
        [np.mean(np.flatnonzero(np.sort(values) == value)) for value in values] for values in (one, other)
    ]
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    run_with_error_messages(main)
