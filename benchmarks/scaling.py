"""Measure the steps per second of training in several processes, or estimate them for clusters.

    OMP_NUM_THREADS=1 torchrun --nproc_per_node 1 -m benchmarks.scaling    one process of one thread
    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 -m benchmarks.scaling    two, connected by Gloo
    python3 -m benchmarks.scaling --estimate                               8 and 64 GPUs, as Markdown

A step is one clip per process, of 3 frames with 2 objects, 120x214, both losses, cycle on: forward, backward,
exchange and Adam, as in train.py. Times are the median of 5 calls after a warm-up.
"""

import argparse

import torch

from benchmarks.measure import RUNS, describe_machine, time_one
from benchmarks.training import FRAMES, OBJECTS, banded_clip
from libs.app.build import settings_from
from libs.app.defaults import DEFAULTS
from libs.core.distributed import ALONE, Processes, join_processes
from libs.training.optim import Schedule, build_optimizer, build_scheduler
from libs.training.trainer import StepSettings, Trainer
from models.stm import STM

SIZE = (120, 214)
NETWORKS = ("resnet18", "resnet50")
LINKS = (  # GPUs, what connects them, bytes per second
    (8, "NVLink, 200 GB/s", 200e9),
    (64, "400 Gbit/s", 50e9),
    (64, "200 Gbit/s", 25e9),
    (64, "100 Gbit/s", 12.5e9),
)
STEP_SECONDS = (0.1, 0.3, 1.0)  # assumed for one GPU without exchange


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="resnet18", help="network (default: resnet18)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"timed calls (default: {RUNS})")
    parser.add_argument("--estimate", action="store_true", help="measure nothing, print the estimates")
    args = parser.parse_args()
    if args.estimate:
        print("\n".join(estimates()))
        return
    processes = join_processes("gloo", "env://")
    line = measure(args.arch, args.runs, processes)
    if processes.is_main:
        print(describe_machine(torch.device("cpu")))
        print(line)
    processes.leave()


def measure(arch: str, runs: int, processes: Processes) -> str:
    """Time steps and the exchange of gradients. Returns: a line of them; all processes must call this."""
    device, world_size = torch.device("cpu"), processes.world_size
    torch.manual_seed(0)
    trainer = small_trainer(STM(arch), processes)
    clip = banded_clip(FRAMES, OBJECTS, SIZE)

    def step() -> None:
        """Forward, backward, exchange, update."""
        trainer.forward_backward([clip], world_size)
        trainer.update()

    seconds = time_one(step, device, runs)
    trainer.forward_backward([clip], world_size)
    parameters = list(trainer.model.parameters())

    def exchange() -> None:
        """Sum the gradients of processes that start at the same time."""
        processes.sum_gradients(parameters)

    processes.gather(None)
    exchange_seconds = time_one(exchange, device, runs)
    return (
        f"{arch}, processes {world_size}: {1 / seconds:.2f} steps per second, "
        f"{world_size / seconds:.2f} clips per second, exchange of {gradient_bytes(trainer.model) / 1e6:.0f} "
        f"MB {1000 * exchange_seconds:.0f} ms of {1000 * seconds:.0f} ms"
    )


def small_trainer(model: STM, processes: Processes = ALONE, amp: str = "off") -> Trainer:
    """The trainer of train.py with its default settings, except that each step is an update."""
    optimizer = build_optimizer(model.parameters(), "adam", 1e-5, (0.9, 0.999), 5e-4)
    scheduler = build_scheduler(optimizer, Schedule(kind="milestones", epochs=1), updates_per_epoch=1)
    settings = settings_from(StepSettings, {**DEFAULTS, "iter_size": 1, "amp": amp})
    return Trainer(model, optimizer, scheduler, settings, processes)


def gradient_bytes(model: STM) -> int:
    """Size of the gradient of all parameters in float32."""
    return 4 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def exchange_time(num_bytes: float, processes: int, bandwidth: float) -> float:
    """Seconds of a ring all-reduce, in which each process sends and receives 2 (n - 1) / n of the data.

    Args:
        bandwidth: bytes per second of the slowest link of the ring, in each direction.
    """
    return 2 * (processes - 1) / processes * num_bytes / bandwidth


def estimates() -> list[str]:
    """The rows of a Markdown table: exchange time, and how many times one GPU's clips a cluster trains on."""
    heads = " | ".join(f"speed-up, step {seconds:g} s" for seconds in STEP_SECONDS)
    rows = [
        f"| network | gradient MB | GPUs | link | exchange ms | {heads} |",
        "| --- | --- | --- | --- | --- |" + " --- |" * len(STEP_SECONDS),
    ]
    for arch in NETWORKS:
        num_bytes = gradient_bytes(STM(arch))
        for gpus, link, bandwidth in LINKS:
            exchange = exchange_time(num_bytes, gpus, bandwidth)
            factors = " | ".join(f"{gpus * step / (step + exchange):.1f}" for step in STEP_SECONDS)
            rows.append(
                f"| {arch} | {num_bytes / 1e6:.0f} | {gpus} | {link} | {1000 * exchange:.1f} | {factors} |"
            )
    return rows


if __name__ == "__main__":
    main()
