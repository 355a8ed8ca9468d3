"""Frames per second and memory of the test loop, against the naive oracle in the same process.

    python3 -m benchmarks.inference [--arch resnet18 resnet50] [--objects 1 3 5] [--amp off bf16] [--device cpu]
    python3 -m benchmarks.inference --growth 2000     resident memory over so many frames

Every figure is the median of 5 after a warm-up; random weights, drawn video, 8 frames in memory. A machine that does
other work gives other figures; the ratios, taken in one run, less so.
"""

import argparse
import platform
import resource
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from dataset.procedural import draw_clip
from libs.build import for_inference
from libs.cycle import GradientCorrection
from libs.masks import normalise, one_hot
from libs.memory_bank import MemoryBank
from libs.propagate import FrameInput, Reference, Step, propagate
from models.stm import STM, Objects
from tests.oracle import Oracle, join

SIZE, MEMORY, RUNS = (240, 427), 8, 5


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 3, 5])
    parser.add_argument("--amp", nargs="+", default=["off", "bf16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--growth", type=int, default=0, metavar="FRAMES")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {args.device}")
    for amp in args.amp:
        print(f"matrix peak, {amp}: {matrix_peak(amp, device):.0f} GFLOP/s")
    if args.growth:
        growth(args.growth, device)
        return
    print("arch      objects  amp   frame ms  frames/s  oracle ms  ratio  labels equal  correction step ms  peak MB")
    for arch in args.arch:
        for count in args.objects:
            compare(arch, count, args.amp, device)


@torch.no_grad()
def compare(arch: str, count: int, amps: list[str], device: torch.device) -> None:
    """One block of the table: a frame with `count` objects, in every number format, against the oracle."""
    torch.manual_seed(0)
    weights = STM(arch).eval().state_dict()
    frames, masks, objects = scene(count, device)
    naive_time, naive_labels = naive(Oracle({k: v.to(device) for k, v in weights.items()}), frames, masks)
    for amp in amps:
        model = STM(arch)
        model.load_state_dict(weights)
        model = for_inference(model.to(device), amp)
        seconds, labels, step = ours(model, frames, masks, objects)
        equal = (labels == naive_labels).float().mean().item()
        correction = timed(lambda: GradientCorrection(model, 1, 1, 150.0)(step), device)
        print(
            f"{arch:9} {count:7} {amp:>4} {1000 * seconds:9.0f} {1 / seconds:9.2f} {1000 * naive_time:10.0f} "
            f"{naive_time / seconds:6.2f} {equal:13.2%} {1000 * correction:19.0f} {peak_memory(device):8.0f}", flush=True,
        )


def scene(count: int, device: torch.device) -> tuple[Tensor, Tensor, Objects]:
    """Frames (T, 3, H, W) and masks (T, K, H, W) of MEMORY + 1 frames with `count` objects in vertical bands."""
    images, _ = draw_clip(0, 0, MEMORY + 1, SIZE)
    bands = torch.arange(SIZE[1]) * (2 * count + 1) // SIZE[1]
    labels = torch.where(bands % 2 == 1, bands // 2 + 1, 0).expand(MEMORY + 1, *SIZE)
    return normalise(images).to(device), one_hot(labels, count + 1).to(device), Objects.of([count]).to(device)


def ours(model: STM, frames: Tensor, masks: Tensor, objects: Objects) -> tuple[float, Tensor, Step]:
    """Seconds of one frame of the loop (memorize, encode, segment), its labels, and a step to correct."""
    bank = MemoryBank()
    bank.appear(objects)
    for t in range(MEMORY - 1):
        bank.add(model.memorize(frames[t : t + 1], masks[t : t + 1], objects), t, keep=True)

    def frame() -> Tensor:
        """One frame of the loop."""
        bank.add(model.memorize(frames[MEMORY - 1 : MEMORY], masks[MEMORY - 1 : MEMORY], objects), MEMORY - 1, keep=False)
        return model.segment(model.encode(frames[MEMORY:]), bank.read())

    seconds, logits = timed(frame, frames.device), frame()
    reference = Reference(model.encode(frames[:1]), masks[:1])
    return seconds, logits.argmax(1)[0], Step(1, frames[MEMORY:], objects, logits, reference=reference)


def naive(oracle: Oracle, frames: Tensor, masks: Tensor) -> tuple[float, Tensor]:
    """The same frame through the oracle."""
    ids, kept = range(1, masks.shape[1]), {}
    for t in range(MEMORY - 1):
        kept = join(kept, oracle.memorise(frames[t], masks[t], ids))

    def frame() -> Tensor:
        """One frame of the loop."""
        memory = join(kept, oracle.memorise(frames[MEMORY - 1], masks[MEMORY - 1], ids))
        return oracle.segment(frames[MEMORY], memory, masks.shape[1])

    return timed(frame, frames.device), frame().argmax(1)[0]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of RUNS calls after one more."""
    spans = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spans.append(time.perf_counter() - start)
    return median(spans[1:])


def matrix_peak(amp: str, device: torch.device) -> float:
    """GFLOP/s of a 2048 x 2048 matrix product, the most that the network could reach."""
    dtype = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    a, b = (torch.randn(2048, 2048, device=device).to(dtype) for _ in range(2))
    return 2 * 2048**3 / timed(lambda: a @ b, device) / 1e9


def peak_memory(device: torch.device) -> float:
    """Most memory so far, in MB: of the process, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.no_grad()
def growth(count: int, device: torch.device) -> None:
    """Resident memory over a long video with memory_frames 20, small, so that it is the loop that is measured."""
    model = for_inference(STM("resnet18", 32, 64, decoder_dim=32).to(device), "off")
    images, labels = draw_clip(0, 0, 8, (96, 160))
    frames, masks = normalise(images).to(device), one_hot(torch.from_numpy(labels), int(labels.max()) + 1).to(device)
    objects = Objects.of([masks.shape[1] - 1]).to(device)
    inputs = (FrameInput(frames[t % 8 : t % 8 + 1], masks[:1] if t == 0 else None, None if t else objects) for t in range(count))
    for step in propagate(model, inputs, save_freq=5, memory_frames=20):
        if step.t in (100, count // 2, count - 1):
            print(f"frame {step.t}: {resident():.0f} MB resident", flush=True)


def resident() -> float:
    """Resident memory of this process in MB (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
