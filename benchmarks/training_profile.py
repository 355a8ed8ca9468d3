"""Measure what a training step spends its time on, by part of the method.

    python3 -m benchmarks.training_profile [--networks shipped resnet18] [--amp off bf16]

A step is that of benchmarks/training.py, run by the trainer of train.py: one clip of 3 frames with 2 objects,
both losses, cycle on. The backward pass of an operation counts to its part. The time of a step is the median
of several; the time of an operation is the least of several, so the parts add up to less.
"""

import argparse
import inspect
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.measure import (
    NETWORKS,
    RUNS,
    Cost,
    Profiler,
    add_device_and_size,
    describe_machine,
    matmul_gflop_per_second,
    peak_gflop_per_second,
    profile,
    time_one,
)
from benchmarks.scaling import small_trainer
from benchmarks.training import FRAMES, OBJECTS, banded_clip
from libs.app.build import training_layout
from libs.core.precision import DTYPES
from libs.core.structures import Clip
from libs.core.tables import markdown_table
from models.stm import STM

CONVOLUTION, OTHER = "convolution", "other element-wise"
PLACES = {  # functions that tell the part of what they run, (module, name or '' for all of the module)
    ("models.memory_read", "read"): "read",
    ("models.memory_read", "soft_aggregate"): "soft aggregation",
    ("libs.method.losses", ""): "losses",
    ("libs.training.optim", "update"): "optimizer",
    ("libs.method.objective", "of"): "data: stacking clips",
}
NAMES = {"convolution": CONVOLUTION, "norm": "norm", "copy": "copies", "clone": "copies"}  # part of a name


class StepProfiler(Profiler):
    """Sums up by part and dtype. What the backward pass runs counts to the part that it differentiates."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.places: dict[int, str | None] = {}  # number of a node of the graph -> place

    def kind(self, name: str, flop: int, result: object) -> Hashable:
        """(part, dtype of the result)."""
        node = torch._C._current_autograd_node()
        if node is None:
            place = _place()
            # Nodes are numbered as they are made, and the one of this operation is the newest, if it has one.
            self.places.setdefault(torch._C._autograd._get_sequence_nr() - 1, place)
        else:
            place = self.places.get(node._sequence_nr())
        by_name = (part for text, part in NAMES.items() if text in name)
        floats = (x.dtype for x in tree_leaves(result) if isinstance(x, Tensor) and x.is_floating_point())
        return place or next(by_name, OTHER), next(floats, None)


def _place() -> str | None:
    """The part that the innermost known function on the stack belongs to."""
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        place = PLACES.get((module, frame.f_code.co_name)) or PLACES.get((module, ""))
        if place:
            return place
        frame = frame.f_back
    return None


def main() -> None:
    """Print a table for each network and precision, below the measured peaks."""
    args = parse_arguments()
    device = torch.device(args.device)
    print(describe_machine(device))
    peaks = {amp: peak_gflop_per_second(amp, device) for amp in args.amp}
    for amp, peak in peaks.items():
        product = matmul_gflop_per_second(amp, device)
        print(f"{amp}: matrix product {product:.0f} GFLOP/s, peak (or a convolution, if faster) {peak:.0f}")
    clip = banded_clip(FRAMES, OBJECTS, args.size)
    for name in args.networks:
        for amp in args.amp:
            step = prepare(name, amp, clip, device)
            seconds = time_one(step, device, args.runs)
            costs = profile(step, device, max(1, args.runs // 2), StepProfiler)
            print(f"\n{name}, {amp}, {1000 * seconds:.0f} ms a step:\n")
            print(markdown_table(rows(costs, seconds, peaks[amp])), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.training_profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    some = ["shipped", "resnet18"]
    add("--networks", nargs="+", default=some, choices=NETWORKS, help=f"default: {' '.join(some)}")
    add("--amp", nargs="+", default=["off", "bf16"], choices=DTYPES, help="precisions (default: off bf16)")
    add_device_and_size(parser)
    add("--runs", type=int, default=RUNS, help=f"timed steps (default: {RUNS})")
    return parser.parse_args()


def prepare(name: str, amp: str, clip: Clip, device: torch.device) -> Callable[[], object]:
    """Prepare a step of train.py on one clip, from stacking to the update."""
    torch.manual_seed(0)
    model = STM(**NETWORKS[name]).to(device)
    trainer = small_trainer(model.to(memory_format=training_layout(model)), amp=amp)
    return partial(_step, trainer.forward_backward, trainer.update, clip)


def _step(forward_backward: Callable[..., object], update: Callable[[], None], clip: Clip) -> None:
    forward_backward([clip], 1)
    update()


def rows(costs: dict[tuple[str, torch.dtype | None], Cost], seconds: float, peak: float) -> list[list[str]]:
    """The lines of the table, the longest part first.

    Args:
        costs: by part and dtype.
        seconds: of a step that is not profiled.
        peak: GFLOP/s.
    """
    head = ["part", "ms", "of the step", "ms in float32", "GFLOP", "of peak", "calls"]
    parts = list(dict.fromkeys(part for part, _ in costs))
    table = []
    for part in parts:
        own = {dtype: cost for (name, dtype), cost in costs.items() if name == part}
        total = _sum(list(own.values()))
        single = _sum([cost for dtype, cost in own.items() if dtype == torch.float32]).seconds
        table.append((total.seconds, _row(part, total, seconds, single, peak)))
    table.sort(key=lambda line: -line[0])
    everything = _sum(list(costs.values()))
    outside = Cost(seconds - everything.seconds, 0.0, 0)
    last = [_row("between operations", outside, seconds, 0.0, peak)]
    whole = Cost(seconds, everything.gflop, everything.calls)
    single = _sum([cost for (_, dtype), cost in costs.items() if dtype == torch.float32]).seconds
    return [head, *(line for _, line in table), *last, _row("step", whole, seconds, single, peak)]


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(*(sum(getattr(cost, name) for cost in costs) for name in ("seconds", "gflop", "calls")))


def _row(part: str, cost: Cost, step: float, single: float, peak: float) -> list[str]:
    arithmetic = [f"{cost.gflop:.1f}", f"{cost.gflop / cost.seconds / peak:.0%}"] if cost.gflop else ["", ""]
    shares = [f"{1000 * cost.seconds:.1f}", f"{cost.seconds / step:.1%}", f"{1000 * single:.1f}"]
    return [part, *shares, *arithmetic, str(cost.calls)]


if __name__ == "__main__":
    main()
