"""Measure the speed and memory of training steps, against the naive oracle in the same process.

    python3 -m benchmarks.training                    time of a step
    python3 -m benchmarks.training --growth           the same with other frames, objects, grad_checkpoint
    python3 -m benchmarks.training --curves OUT.png   loss over 200 steps in float32 and bf16

A step is one clip of 3 frames with 2 objects, both losses, cycle on: forward, backward and Adam. Each time is
the median of 5 calls after a warm-up. The implementations take turns.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import (
    RUNS,
    add_device_and_size,
    count_gflop,
    describe_machine,
    peak_memory,
    time_in_turns,
    time_one,
    vertical_bands,
)
from dataset.synthetic.scene import generate_clip
from libs.core.masks import normalise
from libs.core.precision import DTYPES
from libs.core.structures import Clip
from libs.method.objective import Batch, training_losses
from libs.training.optim import Precision, build_optimizer
from models.compiled import compile_network
from models.stm import STM
from tests.helpers.oracle import Oracle

FRAMES, OBJECTS = 3, 2
GROWTH = (  # frames, objects, grad_checkpoint
    (2, 2, False),
    (3, 1, False),
    (3, 2, False),
    (3, 2, True),
    (3, 4, False),
    (5, 2, False),
)


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    device = torch.device(args.device)
    print(describe_machine(device))
    if args.growth:
        growth(args, device)
    elif args.curves:
        curves(args.curves, device, args.steps)
    else:
        table(args, device)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--arch", nargs="+", default=["resnet18", "resnet50"], help="networks (default: resnet18 resnet50)")
    add("--amp", nargs="+", default=["off", "bf16"], choices=DTYPES, help="precisions (default: off bf16)")
    add_device_and_size(parser)
    add("--compile", action="store_true", help="compile the network")
    add("--runs", type=int, default=RUNS, help=f"timed calls (default: {RUNS})")
    add("--growth", action="store_true", help="vary frames, objects and grad_checkpoint of the first network")
    add("--curves", type=Path, metavar="OUT.png", help="plot the loss in float32 and bf16")
    add("--steps", type=int, default=200, help="steps of --curves (default: 200)")
    return parser.parse_args()


def table(args: argparse.Namespace, device: torch.device) -> None:
    """Print a line for each network and precision; 'ratio' is the oracle's time divided by ours."""
    print("arch       amp  step ms  oracle ms  ratio  peak MB  oracle MB   loss  oracle's")
    for arch in args.arch:
        torch.manual_seed(0)
        torch._dynamo.reset()
        weights = STM(arch).state_dict()
        batch = scene(FRAMES, OBJECTS, device, args.size)
        steps = [naive({name: value.to(device) for name, value in weights.items()}, batch)]
        steps += [ours(arch, weights, batch, amp, args.compile) for amp in args.amp]
        losses = [step() for step in steps]  # of the first step, before any update: they should agree
        seconds = time_in_turns(steps, device, args.runs)
        peaks = [peak_memory(step, device) for step in steps]
        for i, amp in enumerate(args.amp, start=1):
            times = f"{1000 * seconds[i]:8.0f} {1000 * seconds[0]:10.0f} {seconds[0] / seconds[i]:6.2f}"
            memory = f"{peaks[i]:8.0f} {peaks[0]:10.0f}"
            print(f"{arch:9} {amp:>4} {times} {memory} {losses[i]:6.3f} {losses[0]:9.3f}", flush=True)


def banded_clip(frames: int, num_objects: int, size: tuple[int, int]) -> Clip:
    """Return a synthetic clip with vertical bands as objects, so that all are in every frame."""
    images, _ = generate_clip(0, 0, range(frames), size)
    labels = vertical_bands(num_objects, size).to(torch.uint8).expand(frames, *size).contiguous()
    return Clip("synthetic", normalise(images), labels, num_objects)


def scene(frames: int, num_objects: int, device: torch.device, size: tuple[int, int]) -> Batch:
    """Return a batch of one `banded_clip`."""
    return Batch.of([banded_clip(frames, num_objects, size)], device)


def ours(
    arch: str,
    weights: dict[str, Tensor],
    batch: Batch,
    amp: str,
    compiled: bool = False,
    grad_checkpoint: bool = False,
) -> Callable[[], float]:
    """Prepare a training step of this code, which returns its loss."""
    model = STM(arch, grad_checkpoint=grad_checkpoint)
    model.load_state_dict(weights)
    model.to(batch.frames.device, memory_format=torch.channels_last)
    if compiled:
        compile_network(model, fixed=False)
    optimizer = build_optimizer(model.parameters(), "adam", 1e-5, (0.9, 0.999), 5e-4)
    precision = Precision(amp, batch.frames.device)

    def step() -> float:
        """Forward, backward, update."""
        with precision():
            losses = training_losses(model, batch, "recurrent")
        precision.scaler.scale(losses.total).backward()
        precision.update(optimizer, 0.0)
        return losses.total.item()

    return step


def naive(weights: dict[str, Tensor], batch: Batch) -> Callable[[], float]:
    """Prepare a training step of the oracle, which returns its loss."""
    statistics = ("running_mean", "running_var", "num_batches_tracked", ".mean", ".std")
    state = {
        name: value.clone().requires_grad_(not name.endswith(statistics)) for name, value in weights.items()
    }
    trained = [value for value in state.values() if value.requires_grad]
    optimizer, oracle = build_optimizer(trained, "adam", 1e-5, (0.9, 0.999), 5e-4), Oracle(state)

    def step() -> float:
        """Forward, backward, update."""
        total = oracle.train_clip(batch.frames[0], batch.masks[0], batch.num_objects[0])[2]
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total.item()

    return step


def growth(args: argparse.Namespace, device: torch.device) -> None:
    """Print time and memory of a step with more frames, more objects, and with grad_checkpoint."""
    arch = args.arch[0]
    torch.manual_seed(0)
    weights = STM(arch).state_dict()
    print(f"{arch}, float32\nframes  objects  grad_checkpoint  step ms  peak MB  GFLOP")
    for frames, num_objects, checkpointed in GROWTH:
        batch = scene(frames, num_objects, device, args.size)
        step = ours(arch, weights, batch, "off", grad_checkpoint=checkpointed)
        seconds = time_one(step, device, min(args.runs, 3))
        costs = f"{1000 * seconds:8.0f} {peak_memory(step, device):8.0f} {count_gflop(step):6.0f}"
        print(f"{frames:6} {num_objects:8} {checkpointed!s:>16} {costs}", flush=True)


def curves(path: Path, device: torch.device, count: int) -> None:
    """Plot the loss over `count` steps: float32 and bf16 on the same clips, and float32 on other clips.

    The third curve tells how much the loss varies anyway.
    """
    from matplotlib.figure import Figure

    runs = {"float32": ("off", 0), "float32, other clips": ("off", 1), "bf16": ("bf16", 0)}
    losses = {name: np.array(train_small(amp, seed, count, device)) for name, (amp, seed) in runs.items()}
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name, own in losses.items():
        last = f"{name}: mean of the last {len(own[-50:])} steps {own[-50:].mean():.3f}"
        axes.plot(np.convolve(own, np.ones(10) / 10, "valid"), label=last)
        print(last)
    axes.set(title="loss, mean of 10 steps", xlabel="step")
    axes.legend()
    figure.savefig(path)
    gap, noise = (
        np.abs(losses["float32"] - losses[other]).mean() for other in ("bf16", "float32, other clips")
    )
    print(f"mean difference to float32: bf16 {gap:.3f}, other clips {noise:.3f}; wrote {path}")


def train_small(amp: str, seed: int, count: int, device: torch.device) -> list[float]:
    """Train a small ResNet-18 from random weights on synthetic clips of 64x112. Returns: the losses."""
    torch.manual_seed(0)
    model = STM("resnet18", 64, 128, freeze_bn=False, decoder_dim=64).to(device)
    model.init_memory_encoder_from_query()
    precision = Precision(amp, device)
    optimizer, losses = build_optimizer(model.parameters(), "adam", 1e-3, (0.9, 0.999), 1e-4), []
    for step in range(count):
        clips = []
        for i in range(4):
            images, labels = generate_clip(seed, 4 * step + i, range(2), (64, 112))
            num_objects = max(1, int(labels.max()))
            clips.append(Clip("synthetic", normalise(images), torch.from_numpy(labels), num_objects))
        with precision():
            total = training_losses(model, Batch.of(clips, device), "mask").total
        precision.scaler.scale(total).backward()
        precision.update(optimizer, 1.0)
        losses.append(total.item())
    return losses


if __name__ == "__main__":
    main()
