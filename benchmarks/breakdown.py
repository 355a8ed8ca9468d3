"""Measure what test.py spends its time on, for a frame of 480x854 of a synthetic video.

python3 -m benchmarks.breakdown [--arch resnet50] [--amp off] [--device cpu] [--size 240x427]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import add_device_and_size, describe_machine, time_one
from dataset.build import test_videos
from dataset.synthetic.export import write_tree
from libs.app.build import for_inference, settings_from
from libs.app.defaults import DEFAULTS
from libs.core.image_io import save_index_png
from libs.core.masks import object_ids, one_hot
from libs.core.precision import DTYPES
from libs.core.structures import Video
from libs.evaluation.inference import InferenceSettings, VideoSegmenter, segment_video
from libs.evaluation.scores import VideoScorer
from libs.evaluation.views import View
from models.stm import STM

LOOP, EVERY = 10, 5  # gradient correction as in the paper: 10 steps, at every fifth frame


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--arch", default="resnet50", help="network (default: resnet50)")
    add("--amp", default="off", choices=DTYPES, help="precision (default: off)")
    add_device_and_size(parser)
    args = parser.parse_args()
    device = torch.device(args.device)
    print(describe_machine(device))
    breakdown(args.arch, args.amp, device, args.size)


def breakdown(arch: str, amp: str, device: torch.device, size: tuple[int, int]) -> None:
    """Print the milliseconds of each part of test.py for a frame of 480x854 of a synthetic video."""
    model = for_inference(STM(arch).to(device), amp)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), train=0, val=1, frames=12, size=(480, 854))
        (video,) = test_videos(Path(folder), "DAVIS17", "val")
        num_objects = len(object_ids(next(video.read()).given))
        parts = time_parts(model, video, device, size, Path(folder) / "mask.png")
    total = sum(parts.values())
    print(f"{arch}, {num_objects} objects, {amp}:")
    for name, seconds in parts.items():
        print(f"  {name:24} {1000 * seconds:8.1f} ms {seconds / total:6.1%}")


def time_parts(
    model: STM, video: Video, device: torch.device, size: tuple[int, int], mask: Path
) -> dict[str, float]:
    """Measure the seconds per frame of each part of test.py; `mask`: file to write to."""
    settings = settings_from(InferenceSettings, DEFAULTS, input_size=size, loop=0, object_probs=False)
    corrected = replace(settings, save_freq=EVERY, loop=LOOP)
    frames, view, scorer = list(video.read()), View(size), VideoScorer("")
    prediction = list(segment_video(VideoSegmenter(model, settings), video))[-2]  # the last one is not scored
    labels, ids, truth = prediction.labels, prediction.ids, prediction.frame.truth
    masks = one_hot(torch.from_numpy(labels), max(ids) + 1)[None].to(device)
    small = torch.nn.functional.interpolate(masks, size)

    def time_video(chosen: InferenceSettings) -> float:
        """Measure the seconds that the whole video takes with these settings."""
        return time_one(lambda: list(segment_video(VideoSegmenter(model, chosen), video)), device, 1)

    plain, with_correction = time_video(settings), time_video(corrected)
    parts = {
        "reading and decoding": time_one(lambda: list(video.read()), device) / len(frames),
        "letterbox and normalise": time_one(lambda: view.image(frames[0]), device),
        "network": plain / len(frames),
        "correction": (with_correction - plain) / len(frames),
        "enlarging masks": time_one(lambda: view.undo(small, frames[0].image.shape[:2]).argmax(0), device),
        "scoring": time_one(lambda: scorer.feed("00000", labels, truth, ids), device),
        "writing": time_one(lambda: save_index_png(mask, labels), device),
    }
    parts["network"] -= parts["enlarging masks"]  # a part of the loop; the letterbox runs in another thread
    return parts


if __name__ == "__main__":
    main()
