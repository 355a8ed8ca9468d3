"""Measure the speed and memory of inference, against the naive oracle in the same process.

    python3 -m benchmarks.inference                   time of a frame, with and without gradient correction
    python3 -m benchmarks.inference --growth 2000     resident memory over 2,000 frames with memory_frames 20

Each time is the median of 5 calls after a warm-up. The implementations take turns. Weights are random, the
video is synthetic, and 8 frames are in memory. Times depend on what else the machine does; ratios of
one run less so.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import (
    RUNS,
    add_device_and_size,
    count_gflop,
    describe_machine,
    matmul_gflop_per_second,
    peak_memory,
    resident,
    time_in_turns,
    vertical_bands,
)
from dataset.synthetic.scene import generate_clip
from libs.app.build import for_inference
from libs.core.masks import normalise, one_hot
from libs.core.precision import DTYPES
from libs.method.cycle import GradientCorrection
from libs.method.memory_bank import MemoryBank
from libs.method.propagate import FrameInput, Reference, Step, propagate
from models.stm import STM, Objects
from tests.helpers.oracle import Oracle, join

MEMORY = 8  # frames in memory
LOOP, EVERY = 10, 5  # gradient correction as in the paper: 10 steps, at every fifth frame
RATE = 150.0  # of the correction


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    device = torch.device(args.device)
    print(describe_machine(device))
    if args.growth:
        growth(args.growth, device)
    else:
        table(args, device)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--arch", nargs="+", default=["resnet18", "resnet50"], help="networks (default: resnet18 resnet50)")
    add("--objects", nargs="+", type=int, default=[1, 3, 5], help="numbers of objects (default: 1 3 5)")
    add("--amp", nargs="+", default=["off", "bf16"], choices=DTYPES, help="precisions (default: off bf16)")
    add_device_and_size(parser)
    add("--compile", action="store_true", help="compile the network")
    add("--runs", type=int, default=RUNS, help=f"timed calls (default: {RUNS})")
    help_text = "measure resident memory over so many frames, more than 100"
    add("--growth", type=int, default=0, metavar="FRAMES", help=help_text)
    return parser.parse_args()


@torch.no_grad()
def table(args: argparse.Namespace, device: torch.device) -> None:
    """Print a line for each network, number of objects and precision; 'ratio': the oracle's time by ours."""
    peaks = {amp: matmul_gflop_per_second(amp, device) for amp in args.amp}
    print("matrix product: " + ", ".join(f"{amp} {peak:.0f} GFLOP/s" for amp, peak in peaks.items()))
    print(
        "                   ------ no correction ------  with correction     labels  peak MB              of"
    )
    print(
        "arch     objects amp  frame ms  frames/s  ratio  frames/s  ratio    equal  ours oracle  GFLOP  peak"
    )
    for arch in args.arch:
        for num_objects in args.objects:
            oracle, *ours = measure(arch, num_objects, args, device)
            for amp, own in zip(args.amp, ours):
                equal = (own.labels == oracle.labels).float().mean().item()
                without = f"{1000 * own.frame:8.0f} {1 / own.frame:9.2f} {oracle.frame / own.frame:6.2f}"
                corrected = f"{1 / own.corrected:9.2f} {oracle.corrected / own.corrected:6.2f}"
                memory = f"{own.peak:5.0f} {oracle.peak:6.0f}"
                arithmetic = f"{own.gflop:6.0f} {own.gflop / own.frame / peaks[amp]:5.0%}"
                costs = f"{without} {corrected} {equal:8.2%} {memory} {arithmetic}"
                print(f"{arch:8} {num_objects:7} {amp:>4} {costs}", flush=True)


@dataclass(frozen=True)
class Implementation:
    """One implementation, ready to segment the last frame of one scene."""

    frame: Callable[[], Tensor]  # one frame of the loop; returns logits (1, K, H, W)
    correct: Callable[[Tensor, int], object]  # gradient correction of such logits, with so many steps


@dataclass(frozen=True)
class Measurement:
    """The costs of one frame."""

    frame: float  # seconds without correction
    correction: float  # seconds of LOOP steps of correction
    peak: float  # MB
    gflop: float  # without correction
    labels: Tensor  # (H, W)

    @property
    def corrected(self) -> float:
        """Mean seconds of a frame if one in EVERY is corrected."""
        return self.frame + self.correction / EVERY


def measure(arch: str, num_objects: int, args: argparse.Namespace, device: torch.device) -> list[Measurement]:
    """Measure the oracle, then this code in each precision. All use the same weights and frames."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    weights = STM(arch).eval().state_dict()
    frames, masks, objects = scene(num_objects, args.size, device)
    on_device = {name: value.to(device) for name, value in weights.items()}
    implementations = [naive(on_device, frames, masks, objects)]
    for amp in args.amp:
        model = STM(arch)
        model.load_state_dict(weights)
        model = for_inference(model.to(device), amp, args.compile)
        implementations.append(ours(model, frames, masks, objects))
    logits = [one.frame() for one in implementations]
    seconds = time_in_turns([one.frame for one in implementations], device, args.runs)

    def time_correction(steps: int) -> list[float]:
        """Measure the seconds of this many steps of correction, for each implementation."""
        calls = [partial(one.correct, own, steps) for one, own in zip(implementations, logits)]
        return time_in_turns(calls, device, args.runs)

    # All steps cost the same, except that the first one prepares: two short runs give the time of LOOP steps.
    # Runs of 1 and 2 steps would multiply what the machine's noise adds to them by LOOP - 1.
    one_step, four_steps = time_correction(1), time_correction(4)
    return [
        Measurement(
            frame=seconds[i],
            correction=one_step[i] + (LOOP - 1) / 3 * (four_steps[i] - one_step[i]),
            peak=peak_memory(one.frame, device),
            gflop=count_gflop(one.frame),
            labels=logits[i].argmax(1)[0],
        )
        for i, one in enumerate(implementations)
    ]


def scene(
    num_objects: int, size: tuple[int, int], device: torch.device, count: int = MEMORY + 1
) -> tuple[Tensor, Tensor, Objects]:
    """Return `count` frames (T, 3, H, W), their masks (T, K, H, W), and the objects."""
    images, _ = generate_clip(0, 0, range(count), size)
    labels = vertical_bands(num_objects, size).expand(count, *size)
    masks = one_hot(labels, num_objects + 1)
    return normalise(images).to(device), masks.to(device), Objects.of([num_objects]).to(device)


def segment_last(
    model: STM, frames: Tensor, masks: Tensor, objects: Objects, ahead: int = 1
) -> Callable[[], Tensor]:
    """Prepare the last `ahead` frames: all frames but these and the one before them are in memory.

    Returns: a call that encodes them in one batch, then memorizes the frame before each one and segments it.
        It returns the logits (1, K, H, W) of the last one.
    """
    bank = MemoryBank()
    bank.appear(objects)
    before = len(frames) - ahead - 1
    for t in range(before):
        bank.add(model.memorize(frames[t : t + 1], masks[t : t + 1], objects), t, keep=True)

    def segment() -> Tensor:
        """Segment these frames."""
        torch.compiler.cudagraph_mark_step_begin()  # CUDA graphs may overwrite what the last call computed
        queries = model.encode(frames[before + 1 :])
        logits = masks
        for i in range(ahead):
            newest = slice(before + i, before + i + 1)
            memory = model.memorize(frames[newest], masks[newest], objects)
            bank.add(memory, before + i, keep=False)
            logits = model.segment(queries[i : i + 1], bank.read())
        return logits

    return segment


def ours(model: STM, frames: Tensor, masks: Tensor, objects: Objects) -> Implementation:
    """Prepare this code: all frames but the last two are in memory."""
    last = slice(MEMORY, MEMORY + 1)
    reference = Reference(model.encode(frames[:1]), masks[:1])

    def correct(logits: Tensor, steps: int) -> Tensor:
        """Correct the mask of the last frame, as test.py does."""
        step = Step(model, 1, frames[last], objects, logits, logits.softmax(1), reference)
        return GradientCorrection(1, steps, RATE)(step).masks

    return Implementation(segment_last(model, frames, masks, objects), correct)


def naive(weights: dict[str, Tensor], frames: Tensor, masks: Tensor, objects: Objects) -> Implementation:
    """Prepare the oracle in the same way."""
    oracle, ids, kept = Oracle(weights), objects.channel.tolist(), {}
    for t in range(MEMORY - 1):
        kept = join(kept, oracle.memorize(frames[t], masks[t], ids))

    def frame() -> Tensor:
        """Memorize the frame before, then segment the last one."""
        memory = join(kept, oracle.memorize(frames[MEMORY - 1], masks[MEMORY - 1], ids))
        return oracle.segment(frames[MEMORY], memory, masks.shape[1])

    def correct(logits: Tensor, steps: int) -> Tensor:
        """Correct the mask of the last frame."""
        probs = logits[0].softmax(0)
        with torch.enable_grad():
            return oracle.correct(frames[MEMORY], probs, frames[0], masks[0], ids, steps, RATE)

    return Implementation(frame, correct)


@torch.no_grad()
def growth(count: int, device: torch.device) -> None:
    """Print the resident memory over a long video with memory_frames 20.

    Network and frames are small, so that what the loop keeps would show.
    """
    model = for_inference(STM("resnet18", 32, 64, decoder_dim=32).to(device))
    images, labels = generate_clip(0, 0, range(8), (96, 160))
    frames = normalise(images).to(device)
    masks = one_hot(torch.from_numpy(labels), int(labels.max()) + 1).to(device)
    objects = Objects.of([masks.shape[1] - 1]).to(device)
    first = FrameInput(frames[:1], masks[:1], objects)
    inputs = (first if t == 0 else FrameInput(frames[t % 8 : t % 8 + 1], None, None) for t in range(count))
    at_100 = 0.0
    for step in propagate(model, inputs, save_freq=5, memory_frames=20):
        at_100 = resident() if step.t == 100 else at_100
        if step.t >= 100 and step.t in (100, count // 2, count - 1):
            since = f"{resident() - at_100:+.1f} since frame 100"
            print(f"frame {step.t}: {resident():.0f} MB resident, {since}", flush=True)


if __name__ == "__main__":
    main()
