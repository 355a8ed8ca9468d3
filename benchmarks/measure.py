"""Measure time, memory and floating point operations of a call, on the CPU or a GPU."""

import argparse
import ctypes
import platform
import resource
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from dataset.synthetic.__main__ import height_x_width
from libs.core.precision import DTYPES

RUNS = 5  # timed calls, of which the median is reported
NETWORKS: dict[str, dict[str, Any]] = {  # arguments of STM
    "shipped": {"arch": "resnet18", "decoder_dim": 96, "norm": "gn"},  # the shape of the weights that ship
    "resnet18": {"arch": "resnet18"},
    "resnet50": {"arch": "resnet50"},
}


def add_device_and_size(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks of the network share."""
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    help_text = "size of the network's input (default: 240x427)"
    parser.add_argument("--size", type=height_x_width, default=(240, 427), metavar="HxW", help=help_text)


def vertical_bands(num_objects: int, size: tuple[int, int]) -> Tensor:
    """Return a label map (H, W) with each object as a vertical band, so that all are in every frame."""
    stripes = torch.arange(size[1]) * (2 * num_objects + 1) // size[1]
    return torch.where(stripes % 2 == 1, stripes // 2 + 1, 0).expand(size)


def time_in_turns(
    calls: Sequence[Callable[[], object]], device: torch.device, runs: int = RUNS
) -> list[float]:
    """Measure the median time of each call, in seconds.

    The calls take turns, so that a slow moment of the machine meets all. The first round is a warm-up.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(runs + 1):
        for call, own in zip(calls, seconds):
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # the call may return before the GPU is done
            own.append(time.perf_counter() - start)
    return [median(own[1:]) for own in seconds]


def time_one(call: Callable[[], object], device: torch.device, runs: int = RUNS) -> float:
    """Measure the median time of one call, in seconds."""
    return time_in_turns([call], device, runs)[0]


def count_gflop(call: Callable[[], object]) -> float:
    """Count the GFLOP of convolutions and matrix products. A multiplication and an addition count as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def matmul_gflop_per_second(amp: str, device: torch.device) -> float:
    """Measure a 2048 x 2048 matrix product, as an estimate of what the network could reach at most."""
    side = 8192 if device.type == "cuda" else 2048  # a GPU needs more work to be busy
    a, b = (torch.randn(side, side, device=device).to(DTYPES[amp]) for _ in range(2))
    return 2 * side**3 / time_one(lambda: a @ b, device) / 1e9


def peak_gflop_per_second(amp: str, device: torch.device) -> float:
    """Measure the processor's peak: the faster one of a matrix product and a 3x3 convolution."""
    batch, channels, side = (64, 256, 64) if device.type == "cuda" else (1, 256, 64)
    maps, weight = torch.randn(batch, channels, side, side), torch.randn(channels, channels, 3, 3)
    like = {"device": device, "dtype": DTYPES[amp], "memory_format": torch.channels_last}
    maps, weight = maps.to(**like), weight.to(**like)
    flop = 2 * 9 * batch * channels**2 * side**2
    convolution = flop / time_one(lambda: F.conv2d(maps, weight, padding=1), device) / 1e9
    return max(convolution, matmul_gflop_per_second(amp, device))


@dataclass(frozen=True)
class Cost:
    """What a kind of operation costs."""

    seconds: float
    gflop: float
    calls: int


class Profiler(TorchDispatchMode):
    """Records the time and the floating point operations of each operation that torch runs."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.costs: list[tuple[Hashable, float, float]] = []  # kind, seconds, GFLOP

    def __torch_dispatch__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> object:
        kwargs = dict(kwargs or {})
        start = time.perf_counter()
        result = func(*args, **kwargs)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        packet = func.overloadpacket
        flop = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
        self.costs.append((self.kind(func.__name__.split(".")[0], flop, result), seconds, flop / 1e9))
        return result

    def kind(self, name: str, flop: int, result: object) -> Hashable:
        """Under what an operation is summed up: convolutions, matrix products, others by name."""
        return "convolutions" if "convolution" in name else "matrix products" if flop else name


def profile(
    call: Callable[[], object], device: torch.device, runs: int = RUNS, profiler: type[Profiler] = Profiler
) -> dict[Any, Cost]:
    """Measure the cost of each kind of operation in a call that does the same in each run.

    Returns: costs by `profiler.kind`, the longest first. The time of an operation is the least of `runs` runs
        after a warm-up.
    """
    recorded = []
    for _ in range(runs + 1):
        with profiler(device) as one:
            call()
        recorded.append(one.costs)
    total: dict[Any, Cost] = {}
    for operation in zip(*recorded[1:], strict=True):
        kind, gflop = operation[0][0], operation[0][2]
        before = total.get(kind, Cost(0.0, 0.0, 0))
        seconds = before.seconds + min(one[1] for one in operation)
        total[kind] = Cost(seconds, before.gflop + gflop, before.calls + 1)
    return dict(sorted(total.items(), key=lambda item: -item[1].seconds))


def describe_machine(device: torch.device) -> str:
    """Return a line with the device, the number of threads and the versions of torch and Python."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{name}, {torch.get_num_threads()} threads, {versions}"


def processor_name() -> str:
    """Return the processor's name from /proc/cpuinfo, or what Python knows if there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """Measure the peak memory during a call in MB: of the whole process, or allocated on the GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform != "linux":
        call()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    ctypes.CDLL(None).malloc_trim(0)  # give back what earlier calls left in the allocator
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak, VmHWM
    call()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def resident(process: int | str = "self") -> float:
    """Return the resident memory of a process in MB (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
