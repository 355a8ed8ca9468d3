"""Compare memory rules on long videos: annotated videos, played forward and backward again and again.

    python3 -m benchmarks.memory --root DATA [--frames 1000] [--videos NAME ...] [-- KEY VALUE ...]

Prints a Markdown table with a row for each memory. J is in percent. MB are those of the keys and values in
the memory after the last frame. Milliseconds are the mean of a frame, without reading and scoring it. The
numbers are means over the videos. The frames of a video are decoded once and held in memory.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from benchmarks.measure import describe_machine
from benchmarks.scores import scored_videos
from libs.app.build import build_device, build_model, for_inference, inference_settings
from libs.app.config import load_config
from libs.app.script import run_with_error_messages
from libs.core.errors import named
from libs.core.masks import object_ids
from libs.core.prefetch import prefetch
from libs.core.structures import SourceFrame
from libs.evaluation.inference import FrameReader, InferenceSettings, VideoSegmenter
from libs.evaluation.scores import mean_jaccard
from models.stm import STM

VIDEOS = 2  # the first ones of the set, unless --videos names others
COLUMNS = ("memory", "J", "J, last quarter", "MB", "ms a frame", "ms, last quarter")


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    options = ["amp", "auto", *args.options, "root", args.root, "valset", args.valset]
    cfg = load_config(args.cfg, options)
    videos = scored_videos(cfg, args.splits, args.videos)[: None if args.videos else VIDEOS]
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    print(f"{named(video.name for video in videos)}; {args.frames} frames each; {describe_machine(device)}")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    clips = {video.name: list(video.read()) for video in videos}
    for name, settings in memories(inference_settings(cfg), args.memory_frames, args.top_k):
        runs = [measure(model, settings, *clip, args.frames) for clip in clips.items()]
        print(row(name, runs), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.memory",
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--cfg", type=Path, default=Path("configs/shipped.yaml"), metavar="FILE", help="YAML config")
    add("--root", default="data", metavar="DATA", help="folder that holds the data sets")
    add("--valset", default="DAVIS16", help="data set to play")
    add("--splits", nargs="+", default=["val"], help="splits of the data set")
    add("--videos", nargs="+", metavar="NAME", help=f"videos to play (default: the first {VIDEOS})")
    add("--frames", type=int, default=300, metavar="N", help="length to which each video is played")
    add("--memory-frames", type=int, default=20, metavar="N", help="bound of the memory where it has one")
    add("--top-k", type=int, default=32, metavar="K", help="positions that are read where not all are")
    add("options", nargs="*", metavar="KEY VALUE", help="override keys of the config")
    return parser.parse_args()


def memories(
    settings: InferenceSettings, memory_frames: int, top_k: int
) -> Iterator[tuple[str, InferenceSettings]]:
    """Yield the name of each memory to compare, and the settings with it."""
    unbounded = replace(settings, memory_frames=0, memory_rule="all", top_k=0)
    yield "all", unbounded
    bounded = replace(unbounded, memory_frames=memory_frames, memory_rule="even")
    yield f"even, {memory_frames} frames", bounded
    yield f"surprise, {memory_frames} frames", replace(bounded, memory_rule="surprise")
    yield "first_last", replace(unbounded, memory_rule="first_last")
    yield "last", replace(unbounded, memory_rule="last")
    yield f"all, top_k {top_k}", replace(unbounded, top_k=top_k)
    yield f"even, {memory_frames} frames, top_k {top_k}", replace(bounded, top_k=top_k)


@dataclass(frozen=True)
class Run:
    """One video with one memory.

    jaccard: J of each scored frame.
    milliseconds: of each frame that is not the first.
    megabytes: keys and values in the memory after the last frame.
    """

    jaccard: list[float]
    milliseconds: list[float]
    megabytes: float


@torch.no_grad()
def measure(
    model: STM, settings: InferenceSettings, name: str, frames: Sequence[SourceFrame], count: int
) -> Run:
    """Segment a video that is played forward and backward up to `count` frames."""
    segmenter, reader = VideoSegmenter(model, settings), FrameReader(name, settings.views)
    jaccard, milliseconds = [], []
    for frame in prefetch(map(reader.read, palindrome(frames, count))):
        start = time.perf_counter()
        labels = segmenter.step(frame).labels  # on the CPU, so a GPU is done
        milliseconds.append(1000 * (time.perf_counter() - start))
        source = frame.source
        if source.truth is not None and source.scored:
            jaccard.append(mean_jaccard(labels, source.truth, source.scored))
    memories = [memory for loop in segmenter.loops for memory in loop.bank.read()]
    size = sum(memory.keys.nbytes + memory.values.nbytes for memory in memories)
    return Run(jaccard, milliseconds[1:], size / 1e6)


def palindrome(frames: Sequence[SourceFrame], count: int) -> Iterator[SourceFrame]:
    """Yield `count` frames: the video, then backward to its first frame, then forward again, and so on.

    Masks are given in the first pass only. Later their objects are scored, and their masks are ground truth.
    """
    period = max(1, 2 * (len(frames) - 1))
    for t in range(count):
        frame = replace(frames[min(t % period, -t % period)], name=f"{t:05d}")
        if t >= len(frames) and frame.given is not None:
            truth, scored = frame.truth, frame.scored
            if truth is None:
                truth, scored = frame.given, tuple(object_ids(frame.given))
            frame = replace(frame, given=None, truth=truth, scored=scored)
        yield frame


def row(name: str, runs: Sequence[Run]) -> str:
    """Format one row of the table."""
    cells = [f"{100 * mean(mean(run.jaccard) for run in runs):.1f}"]
    cells += [f"{100 * mean(mean(last_quarter(run.jaccard)) for run in runs):.1f}"]
    cells += [f"{mean(run.megabytes for run in runs):.1f}"]
    cells += [f"{mean(mean(run.milliseconds) for run in runs):.0f}"]
    cells += [f"{mean(mean(last_quarter(run.milliseconds)) for run in runs):.0f}"]
    return f"| {' | '.join([name, *cells])} |"


def last_quarter(values: Sequence[float]) -> Sequence[float]:
    """Return the last quarter of a list, at least one value."""
    return values[-max(1, len(values) // 4) :]


if __name__ == "__main__":
    run_with_error_messages(main)
