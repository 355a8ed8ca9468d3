"""Stop watches: time, memory and arithmetic of a call, on the CPU or a GPU."""

import ctypes
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

RUNS = 5
FORMATS = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def bands(count: int, size: tuple[int, int]) -> Tensor:
    """Label map (H, W) of `count` objects in vertical bands, so that each is in every frame."""
    stripes = torch.arange(size[1]) * (2 * count + 1) // size[1]
    return torch.where(stripes % 2 == 1, stripes // 2 + 1, 0).expand(size)


def take_turns(works: list[Callable[[], object]], device: torch.device, runs: int = RUNS) -> list[float]:
    """Median seconds of `runs` calls of each, one after the other, after one call more."""
    spans: list[list[float]] = [[] for _ in works]
    for _ in range(runs + 1):
        for work, own in zip(works, spans):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            own.append(time.perf_counter() - start)
    return [median(own[1:]) for own in spans]


def timed(work: Callable[[], object], device: torch.device, runs: int = RUNS) -> float:
    """The same of one."""
    return take_turns([work], device, runs)[0]


def count_gflop(work: Callable[[], object]) -> float:
    """GFLOP of convolutions and matrix products, a multiplication and an addition being two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def matrix_peak(amp: str, device: torch.device) -> float:
    """GFLOP/s of a 2048 x 2048 matrix product, the most that the network could reach."""
    a, b = (torch.randn(2048, 2048, device=device).to(FORMATS[amp]) for _ in range(2))
    return 2 * 2048**3 / timed(lambda: a @ b, device) / 1e9


def machine(device: torch.device) -> str:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def processor() -> str:
    """The processor's name (Linux), else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Most memory during a call, in MB: of the whole process, or on the GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform != "linux":
        work()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    work()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def resident(process: int | str = "self") -> float:
    """Resident memory of a process in MB (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
