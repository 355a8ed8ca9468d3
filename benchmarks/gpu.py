"""Measure inference on a GPU, where a small network is bound by launching kernels.

    python3 -m benchmarks.gpu                            all networks, precisions and ways
    python3 -m benchmarks.gpu --ways plain graphs        two ways only

Ways to run a network: plain; compiled (torch.compile); graphs (compiled, replaying CUDA graphs, as
mode="reduce-overhead" does); ahead (8 frames encoded in one batch); graphs+ahead. 8 frames are in memory,
weights are random, times are medians of 5. 'of peak' is the fraction of the card's measured matrix product.
float32 convolutions use TF32 where PyTorch does by default, so they may exceed the float32 product.
"""

import argparse
import subprocess

import torch

from benchmarks.inference import MEMORY, scene, segment_last
from benchmarks.measure import (
    NETWORKS,
    RUNS,
    add_device_and_size,
    count_gflop,
    describe_machine,
    peak_gflop_per_second,
    peak_memory,
    time_one,
)
from libs.app.build import for_inference
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.core.precision import DTYPES
from libs.core.tables import markdown_table
from models.compiled import compile_network
from models.stm import STM

AHEAD = 8  # frames encoded in one batch
WAYS = {  # compiled, CUDA graphs, frames encoded in one batch
    "plain": (False, False, 1),
    "compiled": (True, False, 1),
    "graphs": (True, True, 1),
    "ahead": (False, False, AHEAD),
    "graphs+ahead": (True, True, AHEAD),
}


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("CUDA is not available; run this on a machine with a GPU, or give --device cpu")
    print(describe_machine(device))
    print(describe_gpu(device))
    peaks = {amp: peak_gflop_per_second(amp, device) for amp in args.amp}
    print("measured peak: " + ", ".join(f"{amp} {peak / 1000:.1f} TFLOP/s" for amp, peak in peaks.items()))
    head = ["network", "objects", "precision", "way", "ms a frame", "frames/s", "GFLOP", "of peak", "peak MB"]
    print("\n" + markdown_table([head]), flush=True)
    for network in args.network:
        for num_objects in args.objects:
            for amp in args.amp:
                for way in args.ways:
                    row = measure(network, num_objects, amp, way, args, device, peaks[amp])
                    print(f"| {' | '.join(row)} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--network", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="networks (default: all)")
    add("--objects", nargs="+", type=int, default=[1, 3], help="numbers of objects (default: 1 3)")
    precisions = ["off", "bf16", "fp16"]
    add("--amp", nargs="+", default=precisions, choices=DTYPES, help="precisions (default: off bf16 fp16)")
    add("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="ways to run it (default: all)")
    add_device_and_size(parser)
    add("--runs", type=int, default=RUNS, help=f"timed calls (default: {RUNS})")
    parser.set_defaults(device="cuda")
    return parser.parse_args()


def describe_gpu(device: torch.device) -> str:
    """Return a line with the versions of CUDA, cuDNN and the driver, and the card's memory."""
    if device.type != "cuda":
        return "no GPU"
    card = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return (
        f"compute capability {card.major}.{card.minor}, {card.multi_processor_count} multiprocessors, "
        f"{card.total_memory / 1e9:.0f} GB; CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}, driver {driver}"
    )


@torch.no_grad()
def measure(
    network: str,
    num_objects: int,
    amp: str,
    way: str,
    args: argparse.Namespace,
    device: torch.device,
    peak: float,
) -> list[str]:
    """Measure one network. Returns: a row of the table."""
    compiled, graphs, ahead = WAYS[way]
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = for_inference(STM(**NETWORKS[network]).to(device), amp)
    frames, masks, objects = scene(num_objects, args.size, device, MEMORY + ahead)
    # Counted before compiling: a graph that is replayed shows no operations.
    gflop = count_gflop(segment_last(model, frames, masks, objects, ahead)) / ahead
    if compiled:
        compile_network(model, graphs=graphs)
    call = segment_last(model, frames, masks, objects, ahead)
    for _ in range(3):  # compile, record the graph, replay it
        call()
    seconds = time_one(call, device, args.runs) / ahead
    memory = peak_memory(call, device)
    costs = [f"{1000 * seconds:.2f}", f"{1 / seconds:.0f}", f"{gflop:.0f}", f"{gflop / seconds / peak:.0%}"]
    return [network, str(num_objects), amp, way, *costs, f"{memory:.0f}"]


if __name__ == "__main__":
    run_with_error_messages(main)
