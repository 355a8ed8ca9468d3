"""Measure what each object adds to a frame, by part of the network.

    python3 -m benchmarks.objects                       1, 3, 5 and 10 objects
    python3 -m benchmarks.objects --chunk 1             the same with one object at a time

Prints milliseconds, GFLOP and the fraction of the processor's measured peak for each part: the query encoder
with the decoder's maps of the image, which all objects use; the memory encoder; the memory read; the decoder
with soft aggregation. Weights are random, and 8 frames are in memory. Times are medians of 5.
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.inference import MEMORY, scene
from benchmarks.measure import (
    NETWORKS,
    RUNS,
    Cost,
    add_device_and_size,
    count_gflop,
    describe_machine,
    peak_gflop_per_second,
    time_in_turns,
)
from libs.app.build import for_inference
from libs.core.precision import DTYPES
from libs.core.tables import markdown_table
from libs.method.memory_bank import MemoryBank
from models.memory_read import read
from models.stm import STM


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--network", nargs="+", default=["shipped"], choices=NETWORKS, help="networks (default: shipped)")
    numbers = [1, 3, 5, 10]
    add("--objects", nargs="+", type=int, default=numbers, help="numbers of objects (default: 1 3 5 10)")
    add("--amp", nargs="+", default=["off", "bf16"], choices=DTYPES, help="precisions (default: off bf16)")
    add_device_and_size(parser)
    add("--chunk", type=int, default=0, help="objects processed in one pass (default: all)")
    add("--runs", type=int, default=RUNS, help=f"timed calls (default: {RUNS})")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(describe_machine(device))
    for name in args.network:
        for amp in args.amp:
            peak = peak_gflop_per_second(amp, device)
            costs = {n: measure(name, amp, n, args, device) for n in args.objects}
            print(f"\n{name}, {amp}, measured peak {peak:.0f} GFLOP/s:\n\n{table(costs, peak)}", flush=True)


@torch.no_grad()
def measure(
    name: str, amp: str, num_objects: int, args: argparse.Namespace, device: torch.device
) -> dict[str, Cost]:
    """Measure the cost of each part for one number of objects."""
    torch.manual_seed(0)
    model = for_inference(STM(**NETWORKS[name]).to(device), amp)
    if args.chunk:
        model.max_pixels = args.chunk * args.size[0] * args.size[1]
    calls = parts(model, num_objects, args.size, device)
    seconds = dict(zip(calls, time_in_turns(list(calls.values()), device, args.runs)))
    gflop = {part: count_gflop(call) for part, call in calls.items()}
    for measured in (seconds, gflop):
        measured["decoder"] -= measured["read"]  # `STM.segment` reads the memory, too
    return {part: Cost(seconds[part], gflop[part], 1) for part in calls}


def parts(
    model: STM, num_objects: int, size: tuple[int, int], device: torch.device
) -> dict[str, Callable[[], object]]:
    """Prepare a call for each part of the network; that of the decoder reads the memory, too."""
    frames, masks, objects = scene(num_objects, size, device)
    bank = MemoryBank()
    bank.appear(objects)
    for t in range(MEMORY):
        bank.add(model.memorize(frames[t : t + 1], masks[t : t + 1], objects), t, keep=True)
    (memory,), last = bank.read(), slice(MEMORY, MEMORY + 1)
    query = model.encode(frames[last])
    key = query.key.index_select(0, objects.clip_index)
    return {
        "query encoder": lambda: model.encode(frames[last]),
        "memory encoder": lambda: model.memorize(frames[last], masks[last], objects),
        "read": lambda: read(memory.keys, memory.values, key),
        "decoder": lambda: model.segment(query, [memory]),
    }


def table(costs: dict[int, dict[str, Cost]], peak: float) -> str:
    """Format a row for each part; the last column is what each object after the first ones adds."""
    few, many = min(costs), max(costs)
    rows = [["part", *(f"{n} object{'s' * (n > 1)}" for n in costs), "each further object"]]
    names = list(costs[few])
    for part, summed in [*((name, [name]) for name in names), ("frame", names)]:
        total = {n: _sum([own[name] for name in summed]) for n, own in costs.items()}
        cells = [_cell(total[n], peak) for n in costs]
        extra = ""
        if many > few:
            seconds, gflop = (
                (getattr(total[many], field) - getattr(total[few], field)) / (many - few)
                for field in ("seconds", "gflop")
            )
            extra = f"{1000 * seconds:.1f} ms, {gflop:.1f} GFLOP"
        rows.append([part, *cells, extra])
    return markdown_table(rows)


def _sum(costs: list[Cost]) -> Cost:
    return Cost(sum(cost.seconds for cost in costs), sum(cost.gflop for cost in costs), len(costs))


def _cell(cost: Cost, peak: float) -> str:
    rate = cost.gflop / cost.seconds / peak
    return f"{1000 * cost.seconds:.1f} ms, {cost.gflop:.1f} GFLOP, {rate:.0%}"


if __name__ == "__main__":
    main()
