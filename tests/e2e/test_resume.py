"""A run that is killed again and again ends with the same weights as one that is not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libs.training.checkpoint import latest_checkpoint, read_file
from tests.e2e.test_scripts import ROOT
from tests.helpers import fake_datasets as trees
from tests.helpers.training import same

CONFIG = """\
root: {root}
trainset: FOLDER
valset: FOLDER
max_skip: 1
datafreq: 1
samples_per_video: 12
input_size: (48, 64)
sampled_frames: 3
workers: 1
arch: resnet18
keydim: 16
valdim: 16
decoder_dim: 16
pretrained: False
freeze_bn: False
learning_rate: 1e-3
schedule: cosine
warmup: 0.5
ema: 0.9
epochs: 4
epochs_per_increment: 1
iter_size: 2
save_steps: 2
epoch_per_test: 2
epoch_per_sheet: 0
gpu_id: -1
resume: auto
"""


@pytest.mark.slow
def test_killed_at_five_random_moments(tmp_path: Path) -> None:
    for number in range(3):
        trees.folder(tmp_path, name=f"video{number}", objects=(1, 2), frames=6)
    (tmp_path / "run.yaml").write_text(CONFIG.format(root=tmp_path))
    process = train(tmp_path, "whole")
    assert process.wait() == 0, process.stderr.read()
    whole = read_file(tmp_path / "whole/recurrent.pth.tar")
    path, stages, chance = tmp_path / "killed/recurrent.pth.tar", [], random.Random(0)
    for _ in range(5):
        process = train(tmp_path, "killed")
        before = written(path)
        while process.poll() is None and written(path) == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.5))  # it has resumed; kill it at any moment, also while it writes
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = latest_checkpoint(path)[0]
        stages.append((state["epoch"], state["step"]))
    process = train(tmp_path, "killed")
    assert process.wait() == 0, process.stderr.read()
    again = read_file(tmp_path / "killed/recurrent.pth.tar")
    print(f"killed after epoch and step {stages}")
    assert stages == sorted(set(stages))  # it made progress in between
    for part in ("state_dict", "ema", "optimizer", "scheduler", "max_skip", "history", "epoch", "step"):
        assert same(again[part], whole[part]), part


def written(path: Path) -> int:
    """When the file was written, 0 if there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def train(root: Path, name: str) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    return subprocess.Popen(
        [sys.executable, "train.py", "--cfg", str(root / "run.yaml"), "checkpoint", str(root / name)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
