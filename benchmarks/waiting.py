"""Measure how the threads of OpenMP should wait, for one process and for two side by side (Linux, CPU).

    python3 -m benchmarks.waiting [--policies passive short default active] [--processes 1 2] [--rounds 2]

passive: waiting threads sleep. short: they spin 10,000 rounds, then sleep. default: they spin 300,000 rounds,
then sleep, as GNU OpenMP does unless told otherwise. active: they spin.

Prints milliseconds of a frame (240x427, 1 object) and of a training step (120x214, 3 frames, 2 objects), as
medians over the calls of all processes. Two processes run at the same time. The policies take turns.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import median

import torch

from benchmarks.inference import scene, segment_last
from benchmarks.measure import NETWORKS, describe_machine
from benchmarks.scaling import SIZE
from benchmarks.training import FRAMES, OBJECTS, banded_clip
from benchmarks.training_profile import prepare
from libs.app.build import for_inference
from libs.core.precision import DTYPES
from libs.core.tables import markdown_table
from models.stm import STM

CPU = torch.device("cpu")
POLICIES = {  # variables of the environment
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "short": {"GOMP_SPINCOUNT": "10000"},
    "default": {"GOMP_SPINCOUNT": "300000"},
    "active": {"OMP_WAIT_POLICY": "ACTIVE"},
}
WORK = ("frame", "step")


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    if args.worker:
        work(args)
        return
    print(f"{args.network}, {args.amp}; {describe_machine(CPU)}")
    print(f"\nMilliseconds of a frame / of a training step:\n\n{table(args)}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.waiting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--network", default="shipped", choices=NETWORKS, help="network (default: shipped)")
    add("--amp", default="off", choices=DTYPES, help="precision (default: off)")
    add("--seconds", type=float, default=5.0, help="time for which each process repeats a call (default: 5)")
    add("--policies", nargs="+", default=list(POLICIES), choices=POLICIES, help="default: all")
    add("--processes", nargs="+", type=int, default=[1, 2], choices=[1, 2], help="default: 1 2")
    add("--rounds", type=int, default=2, help="rounds of turns (default: 2)")
    add("--worker", action="store_true", help=argparse.SUPPRESS)  # one of the measured processes
    return parser.parse_args()


def table(args: argparse.Namespace) -> str:
    """Measure all policies, and format a row for each."""
    cores = len(os.sched_getaffinity(0))
    cases = {"one process": (1, cores)} if 1 in args.processes else {}
    if 2 in args.processes:
        cases |= {f"two, {threads} threads each": (2, threads) for threads in (cores, max(1, cores // 2))}
    found = {key: {name: list[float]() for name in WORK} for key in product(args.policies, cases)}
    for _ in range(args.rounds):
        for (policy, case), own in found.items():
            for name, seconds in side_by_side(args, *cases[case], POLICIES[policy]).items():
                own[name] += seconds
            print(f"{policy}, {case}: {milliseconds(own)}", file=sys.stderr, flush=True)
    rows: list[Sequence[str]] = [["waiting", *cases]]
    for policy in args.policies:
        rows.append([policy, *(milliseconds(found[policy, case]) for case in cases)])
    return markdown_table(rows)


def milliseconds(seconds: dict[str, list[float]]) -> str:
    """The medians of each kind of work: '95 / 310'."""
    return " / ".join(f"{1000 * median(seconds[name]):.0f}" for name in WORK)


def side_by_side(
    args: argparse.Namespace, processes: int, threads: int, environment: dict[str, str]
) -> dict[str, list[float]]:
    """Run so many processes at the same time. Returns: the seconds of all calls, for each kind of work."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    own |= {"OMP_NUM_THREADS": str(threads), **environment}
    command = [sys.executable, "-m", "benchmarks.waiting", "--worker", "--network", args.network]
    command += ["--amp", args.amp, "--seconds", str(args.seconds)]
    start = partial(
        subprocess.Popen, command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    workers = [start() for _ in range(processes)]
    try:
        seconds = {}
        for name in WORK:
            for worker in workers:  # all are ready before one starts
                worker.stdout.readline()
            for worker in workers:
                print("go", file=worker.stdin, flush=True)
            lines = [worker.stdout.readline() for worker in workers]
            seconds[name] = [float(one) for line in lines for one in line.split()]
        return seconds
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def work(args: argparse.Namespace) -> None:
    """Be one of the processes: for each kind of work say 'ready', wait for a line, and print the times."""
    for prepare_one in (frame, step):
        call = prepare_one(args.network, args.amp)
        call()  # a warm-up
        print("ready", flush=True)
        if not sys.stdin.readline():
            return  # the process that measures has ended
        print(*repeat(call, args.seconds), flush=True)


def repeat(call: Callable[[], object], at_least: float) -> list[float]:
    """Repeat a call for so many seconds. Returns: the seconds of each."""
    seconds: list[float] = []
    while sum(seconds) < at_least:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def frame(network: str, amp: str) -> Callable[[], object]:
    """Prepare to memorize a frame and to segment the next one."""
    torch.manual_seed(0)
    model = for_inference(STM(**NETWORKS[network]), amp)
    return torch.no_grad()(segment_last(model, *scene(1, (240, 427), CPU)))


def step(network: str, amp: str) -> Callable[[], object]:
    """Prepare a training step."""
    return prepare(network, amp, banded_clip(FRAMES, OBJECTS, SIZE), CPU)


if __name__ == "__main__":
    main()
