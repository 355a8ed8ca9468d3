"""Training in two processes, connected by Gloo, equals training in one with twice the batch."""

from pathlib import Path

import pytest
import torch

from libs.training.checkpoint import read_file
from tests.helpers import fake_datasets as trees
from tests.helpers.small_network import TRAIN_ON_FOLDER, small
from tests.helpers.subprocess_runner import start_group

KEYS = {"valset": "FOLDER", "solver": "sgd", "learning_rate": 1e-3, "epoch_per_test": 1, "epoch_per_sheet": 1}


def train(root: Path, name: str, processes: int, **keys: object) -> tuple[dict, list[str]]:
    """Run train.py in so many processes. Returns: the checkpoint, and what each process printed."""
    keys = small(**TRAIN_ON_FOLDER, **KEYS, root=root, checkpoint=root / name, **keys)
    ends = [process.wait() for process in start_group("train.py", processes, **keys)]
    for end in ends:
        end.check_success()
    return read_file(root / name / "recurrent.pth.tar"), [end.out for end in ends]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of one to three objects: three steps of two clips, with one clip in the last."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(5):
        trees.folder(root, name=f"video{number}", objects=list(range(1, number % 3 + 2)), frames=4)
    return root


def test_two_processes_are_one_with_twice_the_batch(tree: Path) -> None:
    one, (alone,) = train(tree, "one", 1, train_batch=2)
    two, (main, other) = train(tree, "two", 2, train_batch=1)
    assert "3 steps of 2 clips" in alone and "3 steps of 1 clips" in main
    assert other == ""  # only the main process prints
    for name, value in one["state_dict"].items():
        assert (value - two["state_dict"][name]).abs().max() < 1e-5, name
    # momentum: there were gradients
    state = torch.load(tree / "one/recurrent.pth.tar", weights_only=True)["optimizer"]["state"]
    assert max(entry["momentum_buffer"].abs().max() for entry in state.values()) > 1e-3
    assert two["history"][0]["loss"] == pytest.approx(one["history"][0]["loss"], abs=1e-4)
    # each process has scored a part of the videos
    assert two["history"][0]["J&F"] == pytest.approx(one["history"][0]["J&F"], abs=1e-3)
    assert "validation: J" in main
    assert {p.name for p in (tree / "two").iterdir()} >= {"sheet_001.png", "curves.png"}
