"""A run of train.py that is stopped, or killed, and resumed ends with the weights of one that was not."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.run

from libs.training.checkpoint import latest_checkpoint, read_file
from tests.helpers import fake_datasets as trees
from tests.helpers.small_network import TRAIN_ON_FOLDER, small
from tests.helpers.subprocess_runner import ScriptProcess, run_in_process
from tests.helpers.training import same

# Curriculum, learning rate and accumulation all change the weights.
SHORT = {"iter_size": 2, "epochs": 2, "epochs_per_increment": 1, "milestone": 1, "gamma": 0.5}
LONG = {
    "samples_per_video": 12,
    "input_size": (48, 64),
    "sampled_frames": 3,
    "workers": 1,
    "keydim": 16,
    "valdim": 16,
    "decoder_dim": 16,
    "freeze_bn": False,
    "schedule": "cosine",
    "warmup": 0.5,
    "ema": 0.9,
    "epochs": 4,
    "epochs_per_increment": 1,
    "iter_size": 2,
    "save_steps": 2,
    "epoch_per_test": 2,
    "epoch_per_sheet": 0,
    "resume": "auto",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FOLDER of three videos."""
    root = tmp_path_factory.mktemp("tree")
    for name, objects in (("a", (1, 2)), ("b", (1,)), ("c", (1, 2))):
        trees.folder(root, name=name, objects=objects, frames=6)
    return root


def config(root: Path, checkpoint: Path, **keys: object) -> dict[str, object]:
    """Config keys of a run on the FOLDER `root`."""
    fixed = {"root": root, "valset": "FOLDER", "checkpoint": checkpoint, "learning_rate": 1e-3}
    return small(**TRAIN_ON_FOLDER, **fixed, **keys)


def train(tree: Path, checkpoint: Path, **keys: object) -> dict:
    """Run train.py in this process and return its last checkpoint."""
    run_in_process("train.py", **config(tree, checkpoint, **{**SHORT, **keys})).check_success()
    return read_file(checkpoint / "recurrent.pth.tar")


@pytest.mark.parametrize("freeze_bn", [True, False])
def test_resuming_gives_the_run_that_was_never_stopped(tmp_path: Path, tree: Path, freeze_bn: bool) -> None:
    whole = train(tree, tmp_path / "whole", freeze_bn=freeze_bn)
    torch.rand(7)  # whatever happens in between
    parts = tmp_path / "parts"
    half = train(tree, parts, freeze_bn=freeze_bn, epochs=1)
    assert (half["epoch"], half["max_skip"]) == (1, [6]) and not same(half["state_dict"], whole["state_dict"])
    resumed = train(tree, parts, freeze_bn=freeze_bn, resume=parts / "recurrent.pth.tar")
    assert (resumed["epoch"], resumed["max_skip"]) == (2, [11])
    for part in ("state_dict", "optimizer", "scheduler", "best"):
        assert same(resumed[part], whole[part]), part
    assert whole["scheduler"]["_last_lr"] == [5e-4]
    lines = [(tmp_path / name / "train.log").read_text().splitlines() for name in ("whole", "parts")]
    losses = [[line.split("learning")[0] for line in log if line.startswith("epoch 2")] for log in lines]
    assert losses[0] == losses[1] and len(losses[0]) == 1


def test_one_seed_gives_one_run(tmp_path: Path, tree: Path) -> None:
    one = train(tree, tmp_path / "one", epochs=1)
    torch.rand(5)
    np.random.seed(3)
    assert same(one["state_dict"], train(tree, tmp_path / "two", epochs=1)["state_dict"])
    assert not same(one["state_dict"], train(tree, tmp_path / "three", epochs=1, seed=1)["state_dict"])


@pytest.mark.slow
def test_killed_at_five_random_moments(tmp_path: Path) -> None:
    for number in range(3):
        trees.folder(tmp_path, name=f"video{number}", objects=(1, 2), frames=6)
    start(tmp_path, "whole").wait().check_success()
    whole = read_file(tmp_path / "whole/recurrent.pth.tar")
    path, stages, chance = tmp_path / "killed/recurrent.pth.tar", [], random.Random(0)
    for _ in range(5):
        script = start(tmp_path, "killed")
        before = written(path)
        while script.is_running() and written(path) == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.5))  # it has resumed; kill it at any moment, also while it writes
        assert script.is_running(), script.wait()
        script.kill()
        state = latest_checkpoint(path)[0]
        stages.append((state["epoch"], state["step"]))
    start(tmp_path, "killed").wait().check_success()
    again = read_file(tmp_path / "killed/recurrent.pth.tar")
    print(f"killed after epoch and step {stages}")
    assert stages == sorted(set(stages))  # it made progress in between
    for part in ("state_dict", "ema", "optimizer", "scheduler", "max_skip", "history", "epoch", "step"):
        assert same(again[part], whole[part]), part


@pytest.mark.slow
def test_one_of_two_processes_is_killed_three_times(tmp_path: Path) -> None:
    """torchrun restarts both. The one that is alive must end, also if it waits for the other one."""
    for number in range(3):
        trees.folder(tmp_path, name=f"video{number}", objects=(1, 2), frames=6)
    torchrun(tmp_path, "whole").wait(600).check_success()
    path, chance = tmp_path / "killed/recurrent.pth.tar", random.Random(0)
    launcher = torchrun(tmp_path, "killed")
    try:
        for _ in range(3):
            before = written(path)
            wait_until(lambda: written(path) != before, launcher)  # noqa: B023  called in this iteration only
            time.sleep(chance.uniform(0, 1.5))
            workers = children(launcher)
            assert len(workers) == 2
            os.kill(chance.choice(workers), signal.SIGKILL)
            wait_until(lambda: not set(workers) & set(children(launcher)), launcher)  # noqa: B023
        end = launcher.wait(600)
    finally:
        launcher.process.terminate()
    end.check_success()
    assert end.out.count("resuming after epoch") == 3 and "cannot connect" not in end.err, end
    whole, again = (read_file(tmp_path / name / "recurrent.pth.tar") for name in ("whole", "killed"))
    for part in ("state_dict", "ema", "optimizer", "scheduler", "max_skip", "epoch", "step"):
        assert same(again[part], whole[part]), part


def torchrun(root: Path, name: str) -> ScriptProcess:
    """Start a long run of train.py in two processes, which torchrun restarts up to three times."""
    options = ("--standalone", "--max-restarts", 3, "--nproc_per_node", 2, "train.py")
    keys = config(root, root / name, **{**LONG, "epochs": 2, "epoch_per_test": 0})
    return ScriptProcess(torch.distributed.run.__file__, *options, **keys)


def children(launcher: ScriptProcess) -> list[int]:
    """The processes that torchrun has started and that live."""
    pid = launcher.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(there: Callable[[], bool], script: ScriptProcess, seconds: float = 240) -> None:
    """Wait for something; fail if the script ends before."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end and script.is_running(), script.process.communicate(timeout=60)
        time.sleep(0.01)


def written(path: Path) -> int:
    """When the file was written, 0 if there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def start(root: Path, name: str) -> ScriptProcess:
    """Start a long run of train.py; it resumes by itself."""
    return ScriptProcess("train.py", **config(root, root / name, **LONG))
