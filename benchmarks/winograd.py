"""Compare Winograd convolutions with direct ones: time of a frame, labels and memory (CPU, float32).

    python3 -m benchmarks.winograd --root DATA [--networks shipped resnet18] [--ways direct winograd compiled]

Each way segments a video through `Segmenter`, frame by frame in turns with the others. Times are medians over
the frames after the third one, and the ratio is the time of direct convolutions divided by that of the way.
"shipped" has its trained weights. The paper's networks have random ones, whose labels any rounding may flip:
judge them by the largest difference of a logit in one synthetic frame, beside the largest logit.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.inference import scene, segment_last
from benchmarks.measure import NETWORKS, describe_machine
from benchmarks.scores import choose_videos
from dataset.build import test_videos
from libs.app.build import for_inference, load_network
from libs.app.script import run_with_error_messages
from libs.app.segmenter import Segmenter
from libs.core.named_weights import weights_file
from libs.core.structures import SourceFrame
from libs.core.tables import markdown_table
from models.stm import STM

WAYS: dict[str, dict[str, Any]] = {  # arguments of for_inference
    "direct": {"winograd": False},
    "winograd": {},
    "compiled": {"compiled": True},
}
WARM_UP = 3  # frames that are not timed
HEAD = (
    "network",
    "way",
    "ms a frame",
    "ratio",
    "labels equal",
    "logits differ by",
    "largest logit",
    "MB of weights",
)


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    video = choose_videos(test_videos(args.root, args.valset, "val"), [args.video])[0]
    frames = [frame for frame, _ in zip(video.read(), range(args.frames))]
    print(f"{video.name}, {len(frames)} frames; {describe_machine(torch.device('cpu'))}")
    rows: list[Sequence[object]] = [HEAD]
    for name in args.networks:
        rows += compare(name, dict.fromkeys(["direct", *args.ways]), frames)
    print(markdown_table(rows))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.winograd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = list(NETWORKS)
    add("--networks", nargs="+", default=names, choices=names, help="networks (default: all)")
    add("--ways", nargs="+", default=["direct", "winograd"], choices=WAYS, help="default: direct winograd")
    add("--root", type=Path, default=Path("data"), metavar="DATA", help="folder that holds the data sets")
    add("--valset", default="DAVIS16", help="data set of the video (default: DAVIS16)")
    add("--video", default="dog", metavar="NAME", help="video to segment (default: dog)")
    add("--frames", type=int, default=25, metavar="N", help="its first N frames (default: 25)")
    return parser.parse_args()


@dataclass
class Run:
    """What one way has computed and taken so far."""

    segmenter: Segmenter
    logits: Tensor  # (1, K, H, W) of one synthetic frame
    seconds: list[float] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)  # (H, W) of each frame


@torch.no_grad()
def compare(name: str, ways: Iterable[str], frames: Sequence[SourceFrame]) -> list[list[str]]:
    """Segment the frames in each way, in turns. Returns: a row for each; 'direct' must be among them."""
    runs = {way: prepare(name, way) for way in ways}
    for frame in frames:
        for run in runs.values():
            start = time.perf_counter()
            labels = run.segmenter.step(frame.image, frame.given)
            run.seconds.append(time.perf_counter() - start)
            run.labels.append(labels)
    first = runs["direct"]
    return [row(name, way, run, first) for way, run in runs.items()]


def prepare(name: str, way: str) -> Run:
    """Build a network in this way, with the same weights in each, and run it on one synthetic frame."""
    torch.manual_seed(0)
    model = load_network(weights_file("shipped")) if name == "shipped" else STM(**NETWORKS[name])
    model = for_inference(model, **WAYS[way])
    logits = segment_last(model, *scene(1, (240, 427), torch.device("cpu"), count=3))()
    return Run(Segmenter(model), logits)


def row(name: str, way: str, run: Run, direct: Run) -> list[str]:
    """Format a row of the table."""
    seconds, other = (median(one.seconds[WARM_UP:] or one.seconds) for one in (run, direct))
    equal = np.mean(np.stack(run.labels) == np.stack(direct.labels))
    difference = (run.logits - direct.logits).abs().max().item()
    tensors = [*run.segmenter.model.parameters(), *run.segmenter.model.buffers()]
    return [
        *(name, way, f"{1000 * seconds:.0f}", f"{other / seconds:.2f}", f"{equal:.4%}"),
        *(f"{difference:.1e}", f"{direct.logits.abs().max().item():.1f}"),
        f"{sum(tensor.nbytes for tensor in tensors) / 1e6:.0f}",
    ]


if __name__ == "__main__":
    run_with_error_messages(main)
