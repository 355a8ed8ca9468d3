"""Measure the time of a frame beside Cutie (Cheng et al., CVPR 2024), frame by frame in turns in one process.

    python3 -m benchmarks.peers                  mean and median time of a frame
    python3 -m benchmarks.peers --profile        and what each network spends its time on

Ours are the shape of the shipped network (ResNet-18, decoder 96 wide, group norm) and the paper's two. All
networks have random weights, as weights do not change the time. They get the same synthetic frames and
masks at the same size, keep every fifth frame in memory, and hold at most 5 frames (Cutie's default). The
memory is full when the timed frames start. Every network returns the labels of each frame at its own size.
Cutie comes from the package rf-cutie, which is not one of this project's requirements:

    pip install --no-deps rf-cutie einops omegaconf hydra-core antlr4-python3-runtime==4.9.3

If it is not installed, the exit code is 2.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import (
    NETWORKS,
    add_device_and_size,
    describe_machine,
    peak_gflop_per_second,
    profile,
    vertical_bands,
)
from dataset.synthetic.scene import generate_clip
from libs.app.build import for_inference
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD, normalise, one_hot
from libs.core.precision import DTYPES
from libs.core.tables import markdown_table
from libs.method.propagate import FrameInput, Propagation
from models.stm import STM, Objects

MEMORY, EVERY = 5, 5  # most frames in memory; every EVERY-th frame stays
SHOWN = 8  # kinds of operations in a profile

Segment = Callable[[Tensor], Tensor]  # the next frame (1, 3, H, W), normalised, to its labels (H, W)

CUTIE = {"Cutie-small": "small", "Cutie-base": "base"}


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    needed = ("cutie", "einops", "omegaconf", "hydra")
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(
            f"Cutie cannot be built without the module {missing[0]}; run `pip install --no-deps rf-cutie "
            "einops omegaconf hydra-core antlr4-python3-runtime==4.9.3`"
        )
    device = torch.device(args.device)
    print(describe_machine(device))
    size = "x".join(map(str, args.size))
    print(
        f"{size}, every {EVERY}th frame kept, at most {MEMORY} frames in memory, {args.frames} timed frames"
    )
    seconds = {}
    for num_objects in args.objects:
        for amp in args.amp:
            seconds[num_objects, amp] = measure(num_objects, amp, args, device)
    print(table(seconds))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--objects", nargs="+", type=int, default=[1, 3], help="numbers of objects (default: 1 3)")
    add("--amp", nargs="+", default=["off", "bf16"], choices=DTYPES, help="precisions (default: off bf16)")
    add_device_and_size(parser)
    add("--frames", type=int, default=2 * EVERY, help=f"timed frames, a multiple of {EVERY} (default: 10)")
    add("--profile", action="store_true", help="print what each network spends its time on")
    args = parser.parse_args()
    if args.frames < EVERY or args.frames % EVERY:
        parser.error(f"--frames: expected a multiple of {EVERY}, so that each network keeps equally many")
    return args


@torch.no_grad()
def measure(
    num_objects: int, amp: str, args: argparse.Namespace, device: torch.device
) -> dict[str, list[float]]:
    """Measure the seconds of each timed frame, by network."""
    torch.manual_seed(0)
    frames, masks = scene(num_objects, MEMORY + args.frames, args.size, device)
    networks: dict[str, Segment] = {}
    for name, variant in CUTIE.items():
        networks[name] = cutie(variant, amp, frames[:MEMORY], masks, device)
    for name, network in NETWORKS.items():
        networks[name] = ours(STM(**network), amp, frames[:MEMORY], masks, device)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for frame in frames[MEMORY:].split(1):
        for name, segment in networks.items():
            start = time.perf_counter()
            segment(frame).cpu()  # a GPU is done when the labels are here
            seconds[name].append(time.perf_counter() - start)
    if args.profile:
        peak = peak_gflop_per_second(amp, device)
        for name, segment in networks.items():
            print(f"\n{name}, {num_objects} objects, {amp}; measured peak {peak:.0f} GFLOP/s")
            # The frame after a kept one, so that no frame of the profile is kept.
            print(profile_table(partial(segment, frames[-1:]), peak, device), flush=True)
    return seconds


def scene(num_objects: int, count: int, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return frames (T, 3, H, W), normalised, and masks (K, H, W) of the first one."""
    images, _ = generate_clip(0, 0, range(count), size)
    masks = one_hot(vertical_bands(num_objects, size)[None], num_objects + 1)[0]
    return normalise(images).to(device), masks.to(device)


def ours(model: STM, amp: str, frames: Tensor, masks: Tensor, device: torch.device) -> Segment:
    """Prepare a network of this project, with the first frames in memory."""
    loop = Propagation(for_inference(model.to(device), amp), save_freq=1, memory_frames=MEMORY)
    loop.step(FrameInput(frames[:1], masks[None], Objects.of([len(masks) - 1]).to(device)))

    def segment(frame: Tensor) -> Tensor:
        """Return the labels of the next frame."""
        step = loop.step(FrameInput(frame))
        assert step is not None  # there are objects from the first frame on
        return step.masks[0].argmax(0)

    for frame in frames[1:].split(1):
        segment(frame)
    loop.save_freq = EVERY
    return segment


def cutie(variant: str, amp: str, frames: Tensor, masks: Tensor, device: torch.device) -> Segment:
    """Prepare Cutie, with the first frames in memory."""
    warnings.filterwarnings("ignore", message=".*amp.autocast", category=FutureWarning)  # Cutie's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that read its configuration
        core = _build_cutie(variant, device)
    # It normalises images itself. To undo ours takes less than a millisecond.
    average, deviation = (torch.tensor(x, device=device).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    half = DTYPES[amp] != torch.float32

    def segment(frame: Tensor, given: Tensor | None = None) -> Tensor:
        """Return the labels of the next frame."""
        image = frame[0] * deviation + average
        with torch.autocast(device.type, DTYPES[amp] if half else None, enabled=half):
            return core.step(image, given, idx_mask=False).argmax(0)

    segment(frames[:1], masks[1:])
    for frame in frames[1:].split(1):
        segment(frame)
    core.mem_every = EVERY
    return segment


def _build_cutie(variant: str, device: torch.device) -> Any:
    """Build Cutie's loop around a network with random weights; nothing is downloaded."""
    from cutie.inference.inference_core import InferenceCore
    from cutie.model import big_modules
    from cutie.model.cutie import CUTIE as Network
    from hydra import compose, initialize_config_dir

    for name in ("resnet18", "resnet50"):  # its encoders download ImageNet weights otherwise
        build = getattr(big_modules.resnet, name)
        if not isinstance(build, partial):
            unloaded = partial(_without_weights, build)
            setattr(big_modules.resnet, name, unloaded)
    folder = str(Path(big_modules.__file__).parents[1] / "config")
    with initialize_config_dir(version_base="1.3.2", config_dir=folder):
        overrides = [f"model={variant}", "mem_every=1", f"max_mem_frames={MEMORY}", "use_long_term=False"]
        cfg = compose("eval_config", overrides=overrides)
    return InferenceCore(Network(cfg).to(device).eval(), cfg)


def _without_weights(build: Callable[..., Any], pretrained: bool, **options: Any) -> Any:
    """Build a ResNet with random weights, whatever `pretrained` says."""
    return build(pretrained=False, **options)


def profile_table(call: Callable[[], object], peak: float, device: torch.device) -> str:
    """Format what a frame spends its time on."""
    costs = profile(call, device, runs=2)
    rows: list[list[object]] = [["operation", "calls", "ms", "GFLOP", "of peak"]]
    for kind, cost in list(costs.items())[:SHOWN]:
        of_peak = f"{cost.gflop / cost.seconds / peak:.0%}" if cost.gflop else ""
        rows.append([kind, cost.calls, f"{1000 * cost.seconds:.1f}", f"{cost.gflop:.1f}", of_peak])
    seconds, gflop = (sum(getattr(cost, field) for cost in costs.values()) for field in ("seconds", "gflop"))
    least = f"{1000 * gflop / peak:.0f} ms at the peak"
    rows.append(
        ["all", sum(cost.calls for cost in costs.values()), f"{1000 * seconds:.1f}", f"{gflop:.1f}", least]
    )
    return markdown_table(rows)


def table(seconds: dict[tuple[int, str], dict[str, list[float]]]) -> str:
    """Format mean / median ms of a frame for each network, and Cutie-small's mean divided by its own."""
    head = [f"{count} object{'s' * (count > 1)}, {amp}" for count, amp in seconds]
    rows: list[list[object]] = [["network", *head]]
    for name in next(iter(seconds.values())):
        cells = []
        for own in seconds.values():
            ratio = mean(own["Cutie-small"]) / mean(own[name])
            cells.append(f"{1000 * mean(own[name]):.0f} / {1000 * median(own[name]):.0f} ({ratio:.2f})")
        rows.append([name, *cells])
    title = "Mean / median ms of a frame, and how many times as fast as Cutie-small:"
    return f"\n{title}\n\n{markdown_table(rows)}"


if __name__ == "__main__":
    run_with_error_messages(main)
