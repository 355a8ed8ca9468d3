"""Long runs stay flat: resident memory, open files and threads, sampled while test.py and train.py run. `make test-slow`."""

import os
import time
from pathlib import Path

import pytest

from tests.faults.test_wrong_input import SMALL, goes_on, weights  # noqa: F401
from tests.helpers import fake_datasets as trees
from tests.helpers.subprocess_runner import Fork

pytestmark = pytest.mark.slow


def flat(process: Fork, megabytes: float) -> None:
    """Let it run to its end; from its middle on it may grow by so many MB and by no file or thread."""
    samples = []
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        try:
            proc = Path(f"/proc/{process.pid}")
            resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            samples.append(
                (resident, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir())))
            )
        except OSError:  # it has just ended
            break
        time.sleep(0.2)
    goes_on(process.wait())
    assert len(samples) > 40, "too short to tell"
    middle, late = samples[len(samples) // 3 : len(samples) // 2], samples[-len(samples) // 4 : -2]
    print(
        f"\nfrom its middle {tuple(map(max, zip(*middle)))} to its end {tuple(map(max, zip(*late)))}: MB, open files, threads"
    )
    grown = [max(after) - max(before) for before, after in zip(zip(*middle), zip(*late))]
    assert grown[0] < megabytes and grown[1] <= 1 and grown[2] <= 1, grown


def test_200_videos(tmp_path: Path, weights: Path) -> None:
    for i in range(200):
        trees.folder(tmp_path, name=f"v{i:03d}", frames=20)
    flat(Fork("test.py", *SMALL, "root", tmp_path, "valset", "FOLDER", "initial", weights), 20)


def test_5000_frames(tmp_path: Path, weights: Path) -> None:
    trees.folder(tmp_path, masked=(0,), frames=5000)
    flat(
        Fork(
            "test.py", *SMALL, "root", tmp_path, "valset", "FOLDER", "initial", weights, "memory_frames", "10"
        ),
        20,
    )


def test_2000_steps(tmp_path: Path) -> None:
    for name in "abcdefghij":
        trees.folder(tmp_path, name=name)
    flat(
        Fork(
            "train.py",
            *SMALL,
            "root",
            tmp_path,
            "trainset",
            "FOLDER",
            "datafreq",
            "10",
            "max_skip",
            "1",
            "epochs",
            "20",
            "checkpoint",
            tmp_path / "ckpt",
        ),
        20,
    )
