"""Frames per second and memory of the test loop, against the naive oracle in the same process.

    python3 -m benchmarks.inference [--arch resnet18 resnet50] [--objects 1 3 5] [--amp off bf16] [--device cpu] [--compile]
    python3 -m benchmarks.inference --growth 2000     resident memory over so many frames with memory_frames 20
    python3 -m benchmarks.inference --shares          what a frame of 480x854 spends on reading, network, correction, writing

Every time is the median of 5 after a warm-up, taken in turns; random weights, drawn video, 8 frames in memory, 240x427. A machine that
does other work gives other figures; the ratios, taken in one run, less so.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import (
    FORMATS,
    bands,
    count_gflop,
    machine,
    matrix_peak,
    peak_memory,
    resident,
    take_turns,
    timed,
)
from dataset.build import test_videos
from dataset.synthetic.export import write_tree
from dataset.synthetic.scene import draw_clip
from libs.app.build import for_inference
from libs.core.masks import normalise, one_hot
from libs.evaluation.inference import InferenceSettings, VideoSegmenter, segment_video
from libs.evaluation.scores import VideoScorer
from libs.evaluation.views import View
from libs.evaluation.visualize import save_index_png
from libs.method.cycle import GradientCorrection
from libs.method.memory_bank import MemoryBank
from libs.method.propagate import FrameInput, Reference, Step, propagate
from models.stm import STM, Objects
from tests.helpers.oracle import Oracle, join

SIZE, MEMORY = (240, 427), 8
LOOP, EVERY = 10, 5  # gradient correction as in the paper: so many steps, every so many frames


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 3, 5])
    parser.add_argument("--amp", nargs="+", default=["off", "bf16"], choices=FORMATS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--growth", type=int, default=0, metavar="FRAMES")
    parser.add_argument("--shares", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(machine(device))
    if args.growth:
        growth(args.growth, device)
    elif args.shares:
        for arch in args.arch:
            shares(arch, args.amp[0], device)
    else:
        table(args.arch, args.objects, args.amp, device, args.compile)


@torch.no_grad()
def table(archs: list[str], counts: list[int], amps: list[str], device: torch.device, compiled: bool) -> None:
    """A line for each network, number of objects and number format; 'ratio' is the oracle's time divided by ours."""
    peaks = {amp: matrix_peak(amp, device) for amp in amps}
    print("matrix peak: " + ", ".join(f"{amp} {peak:.0f} GFLOP/s" for amp, peak in peaks.items()))
    print(
        "                     ------ no correction ------  with correction        labels  peak MB        of the"
    )
    print(
        "arch      objects  amp  frame ms  frames/s  ratio  frames/s  ratio    equal  ours  oracle  GFLOP  peak"
    )
    for arch in archs:
        for count in counts:
            naive, *ours = race(arch, count, amps, device, compiled)
            for amp, found in zip(amps, ours):
                equal = (found.labels == naive.labels).float().mean().item()
                print(
                    f"{arch:9} {count:7} {amp:>4} {1000 * found.frame:9.0f} {1 / found.frame:9.2f} {naive.frame / found.frame:6.2f}"
                    f" {1 / found.corrected:9.2f} {naive.corrected / found.corrected:6.2f} {equal:8.2%} {found.peak:5.0f} {naive.peak:7.0f}"
                    f" {found.gflop:6.0f} {found.gflop / found.frame / peaks[amp]:5.0%}",
                    flush=True,
                )


@dataclass(frozen=True)
class Contestant:
    """One implementation on one scene: a frame of the loop to logits (1, K, H, W), and a step of correction on those."""

    frame: Callable[[], Tensor]
    correct: Callable[[Tensor, int], object]  # logits, steps


@dataclass(frozen=True)
class Measured:
    """What it took: seconds, MB, GFLOP of a frame without correction."""

    frame: float
    correction: float  # of one frame, LOOP steps
    peak: float
    gflop: float
    labels: Tensor  # (H, W)

    @property
    def corrected(self) -> float:
        """Seconds of a frame where every EVERY-th one is corrected."""
        return self.frame + self.correction / EVERY


def race(arch: str, count: int, amps: list[str], device: torch.device, compiled: bool) -> list[Measured]:
    """The oracle, and this code in each number format: taking turns, so that a machine's moods meet all of them."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    weights = STM(arch).eval().state_dict()
    stage = scene(count, device)
    contestants = [naive({k: v.to(device) for k, v in weights.items()}, *stage)]
    for amp in amps:
        model = STM(arch)
        model.load_state_dict(weights)
        contestants.append(ours(for_inference(model.to(device), amp, compiled), *stage))
    logits = [contestant.frame() for contestant in contestants]
    frames = take_turns([contestant.frame for contestant in contestants], device)
    one, two = (
        take_turns([partial(c.correct, x, steps) for c, x in zip(contestants, logits)], device)
        for steps in (1, 2)
    )
    peaks = [peak_memory(contestant.frame, device) for contestant in contestants]
    return [
        Measured(
            frames[i],
            one[i] + (LOOP - 1) * (two[i] - one[i]),
            peaks[i],
            count_gflop(c.frame),
            logits[i].argmax(1)[0],
        )
        for i, c in enumerate(contestants)
    ]


def scene(count: int, device: torch.device) -> tuple[Tensor, Tensor, Objects]:
    """Frames (T, 3, H, W) and masks (T, K, H, W) of MEMORY + 1 frames with `count` objects in vertical bands."""
    images, _ = draw_clip(0, 0, range(MEMORY + 1), SIZE)
    labels = bands(count, SIZE).expand(MEMORY + 1, *SIZE)
    return normalise(images).to(device), one_hot(labels, count + 1).to(device), Objects.of([count]).to(device)


def ours(model: STM, frames: Tensor, masks: Tensor, objects: Objects) -> Contestant:
    """This code."""
    bank = MemoryBank()
    bank.appear(objects)
    for t in range(MEMORY - 1):
        bank.add(model.memorize(frames[t : t + 1], masks[t : t + 1], objects), t, keep=True)

    def frame() -> Tensor:
        """Memorize, encode, segment."""
        bank.add(
            model.memorize(frames[MEMORY - 1 : MEMORY], masks[MEMORY - 1 : MEMORY], objects),
            MEMORY - 1,
            keep=False,
        )
        return model.segment(model.encode(frames[MEMORY:]), bank.read())

    reference = Reference(model.encode(frames[:1]), masks[:1])

    def correct(logits: Tensor, steps: int) -> Tensor:
        """As test.py does it."""
        step = Step(model, 1, frames[MEMORY:], objects, logits, logits.softmax(1), reference)
        return GradientCorrection(1, steps, 150.0)(step).masks

    return Contestant(frame, correct)


def naive(weights: dict[str, Tensor], frames: Tensor, masks: Tensor, objects: Objects) -> Contestant:
    """The oracle."""
    oracle, ids, kept = Oracle(weights), objects.channel.tolist(), {}
    for t in range(MEMORY - 1):
        kept = join(kept, oracle.memorize(frames[t], masks[t], ids))

    def frame() -> Tensor:
        """Memorize, encode, segment."""
        memory = join(kept, oracle.memorize(frames[MEMORY - 1], masks[MEMORY - 1], ids))
        return oracle.segment(frames[MEMORY], memory, masks.shape[1])

    def correct(logits: Tensor, steps: int) -> Tensor:
        """As test.py does it."""
        with torch.enable_grad():
            return oracle.correct(
                frames[MEMORY], logits[0].softmax(0), frames[0], masks[0], ids, steps, 150.0
            )

    return Contestant(frame, correct)


def shares(arch: str, amp: str, device: torch.device) -> None:
    """Milliseconds of each part of test.py for a frame of 480x854 with as many objects as the drawn clip has."""
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), train=0, val=1, frames=12, size=(480, 854))
        (video,) = test_videos(Path(folder), "DAVIS17", "val")
        frames, settings = list(video.read()), InferenceSettings(SIZE)
        model = for_inference(STM(arch).to(device), amp)
        predictions, view, scorer = (
            list(segment_video(VideoSegmenter(model, settings), video)),
            View(SIZE),
            VideoScorer("", list(video.ids)),
        )
        masks = one_hot(torch.from_numpy(predictions[-1].labels), len(video.ids) + 1)[None].to(device)
        small = torch.nn.functional.interpolate(masks, SIZE)
        corrected = InferenceSettings(SIZE, save_freq=EVERY, loop=LOOP)
        correction = timed(lambda: list(segment_video(VideoSegmenter(model, corrected), video)), device, 1)
        plain = timed(lambda: list(segment_video(VideoSegmenter(model, settings), video)), device, 1)
        parts = {
            "reading and decoding": timed(lambda: list(video.read()), device) / len(frames),
            "letterbox and normalise": timed(lambda: view.image(frames[0]), device),
            "network": plain / len(frames),
            "correction": (correction - plain) / len(frames),
            "enlarging masks": timed(lambda: view.undo(small, frames[0].image.shape[:2]).argmax(0), device),
            "scoring": timed(lambda: scorer.feed(predictions[-1].labels, frames[-1].truth), device),
            "writing": timed(
                lambda: save_index_png(Path(folder) / "mask.png", predictions[-1].labels), device
            ),
        }
    parts["network"] -= parts["letterbox and normalise"] + parts["enlarging masks"]
    total = sum(parts.values())
    print(
        f"{arch}, {len(video.ids)} objects, {amp}: "
        + ", ".join(f"{k} {1000 * v:.1f} ms ({v / total:.0%})" for k, v in parts.items())
    )


@torch.no_grad()
def growth(count: int, device: torch.device) -> None:
    """Resident memory over a long video with memory_frames 20, small, so that it is the loop that is measured."""
    model = for_inference(STM("resnet18", 32, 64, decoder_dim=32).to(device))
    images, labels = draw_clip(0, 0, range(8), (96, 160))
    frames, masks = (
        normalise(images).to(device),
        one_hot(torch.from_numpy(labels), int(labels.max()) + 1).to(device),
    )
    objects = Objects.of([masks.shape[1] - 1]).to(device)
    inputs = (
        FrameInput(frames[t % 8 : t % 8 + 1], masks[:1] if t == 0 else None, None if t else objects)
        for t in range(count)
    )
    at_100 = 0.0
    for step in propagate(model, inputs, save_freq=5, memory_frames=20):
        at_100 = resident() if step.t == 100 else at_100
        if step.t in (100, count // 2, count - 1):
            print(
                f"frame {step.t}: {resident():.0f} MB resident, {resident() - at_100:+.1f} since frame 100",
                flush=True,
            )


if __name__ == "__main__":
    main()
