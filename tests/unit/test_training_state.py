"""Resuming: a run that was stopped ends as one that was not, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

import train
from libs.app.config import load_config
from libs.app.script import SignalHandler
from libs.core.errors import InputError
from libs.training.checkpoint import read_file
from tests.helpers import fake_datasets as trees
from tests.helpers.training import Batches, clip, reports, same, training_run, use_linear_loss

CONFIG = """\
trainset: FOLDER
valset: FOLDER
max_skip: 1
epochs_per_increment: 1
input_size: (32, 48)
sampled_frames: 2
workers: 0
arch: resnet18
keydim: 8
valdim: 8
decoder_dim: 8
pretrained: False
learning_rate: 1e-3
milestone: 1
gamma: 0.5
iter_size: 2
epochs: 2
epoch_per_test: 0
gpu_id: -1
datafreq: 1
"""


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is w times the mean of the frames."""
    use_linear_loss(monkeypatch)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FOLDER of three videos."""
    root = tmp_path_factory.mktemp("tree")
    for name, objects in (("a", (1, 2)), ("b", (1,)), ("c", (1, 2))):
        trees.folder(root, name=name, objects=objects, frames=6)
    return root


def run_script(tree: Path, folder: Path, *options: str) -> dict:
    """Run train.py and return its last checkpoint. Curriculum, learning rate and accumulation all matter."""
    config = folder.parent / "run.yaml"
    config.write_text(CONFIG + f"root: {tree}\n")
    train.main(load_config(config, ["checkpoint", str(folder), *options]), SignalHandler())
    return read_file(folder / "recurrent.pth.tar")


@pytest.mark.parametrize("freeze_bn", ["True", "False"])
def test_resuming_gives_the_run_that_was_never_stopped(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, freeze_bn: str
) -> None:
    whole = run_script(tree, tmp_path / "whole", "freeze_bn", freeze_bn)
    torch.rand(7)  # whatever happens in between
    half = run_script(tree, tmp_path / "parts", "freeze_bn", freeze_bn, "epochs", "1")
    assert (half["epoch"], half["max_skip"]) == (1, [6]) and not same(half["state_dict"], whole["state_dict"])
    resumed = run_script(
        tree, tmp_path / "parts", "freeze_bn", freeze_bn, "resume", str(tmp_path / "parts/recurrent.pth.tar")
    )
    assert (resumed["epoch"], resumed["max_skip"]) == (2, [11])
    for part in ("state_dict", "optimizer", "scheduler", "best"):
        assert same(resumed[part], whole[part]), part
    assert whole["scheduler"]["_last_lr"] == [5e-4]
    lines = [(tmp_path / name / "train.log").read_text().splitlines() for name in ("whole", "parts")]
    losses = [[line.split("learning")[0] for line in log if line.startswith("epoch 2")] for log in lines]
    assert losses[0] == losses[1] and len(losses[0]) == 1


def test_one_seed_gives_one_run(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_script(tree, tmp_path / "one", "epochs", "1")
    torch.rand(5)
    np.random.seed(3)
    assert same(one["state_dict"], run_script(tree, tmp_path / "two", "epochs", "1")["state_dict"])
    assert not same(
        one["state_dict"], run_script(tree, tmp_path / "three", "epochs", "1", "seed", "1")["state_dict"]
    )


def test_a_finished_run_is_not_trained_further(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)]), epochs=2)
    run.run()
    again = training_run(tmp_path, Batches([clip(1)]), epochs=2)
    again.state.load_state_dict(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert again.loader.epochs_asked == [] and again.state.epoch == 2


def test_the_best_score_survives_resuming(tmp_path: Path, linear: None) -> None:
    training_run(tmp_path, Batches([clip(1)]), validate=reports(0.7), epoch_per_test=1).run()
    best = (tmp_path / "recurrent_best.pth.tar").read_bytes()
    again = training_run(tmp_path, Batches([clip(1)]), validate=reports(0.6), epochs=2, epoch_per_test=1)
    again.state.load_state_dict(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert (tmp_path / "recurrent_best.pth.tar").read_bytes() == best


def test_a_state_of_another_run_is_refused(tmp_path: Path, linear: None) -> None:
    training_run(tmp_path, Batches([clip(1)]), solver="adam").run()
    state = read_file(tmp_path / "recurrent.pth.tar")
    for other in ("sgd", "adamw"):
        with pytest.raises(InputError, match="'solver'.*Adam"):
            training_run(tmp_path, Batches([clip(1)]), solver=other).state.load_state_dict(state)
    one_set = Batches([clip(1)])
    one_set.max_skip = [5]
    with pytest.raises(InputError, match="'trainset'.*2 sets"):
        training_run(tmp_path, one_set, solver="adam").state.load_state_dict(state)
    training_run(tmp_path, Batches([clip(1)]), solver="adam").state.load_state_dict(state)


@pytest.mark.parametrize("options", [{}, {"iter_size": 2}, {"ema": 0.5, "grad_clip": 3.0}])
def test_resuming_within_an_epoch(tmp_path: Path, linear: None, options: dict) -> None:
    """Stopped after each update in turn."""
    loader = [[clip(v)] for v in (1, 2, 4, 8, 16)]
    whole = training_run(
        tmp_path / "whole", Batches(*loader), epochs=2, keep=99, save_steps=1, milestones=(1,), **options
    )
    whole.run()
    paths = sorted((tmp_path / "whole").glob("recurrent.*pth.tar"))
    states = [read_file(path) for path in paths]
    assert (
        len({(state["epoch"], state["step"]) for state in states})
        == len(states)
        == {1: 10, 2: 6}[options.get("iter_size", 1)]
    )
    for number, state in enumerate(states):
        again = training_run(
            tmp_path / f"again{number}", Batches(*loader), epochs=2, milestones=(1,), **options
        )
        again.trainer.model.load_state_dict(state["state_dict"])
        again.state.load_state_dict(state)
        again.run()
        assert same(again.state.state_dict(), whole.state.state_dict()), (state["epoch"], state["step"])


def test_rates_of_the_config_win_when_resuming(tmp_path: Path, linear: None) -> None:
    training_run(tmp_path, Batches([clip(1)]), milestones=(1,)).run()
    again = training_run(tmp_path, Batches([clip(1)]), rate=0.5, milestones=(1,), epochs=2)
    again.state.load_state_dict(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert again.trainer.model.w.item() == pytest.approx(-0.05)  # this model's own start was 0


def test_other_steps_are_refused_within_an_epoch_and_accepted_between(tmp_path: Path, linear: None) -> None:
    whole = training_run(
        tmp_path,
        Batches(*([clip(v)] for v in (1, 2, 4, 8))),
        epochs=3,
        keep=99,
        save_steps=1,
        milestones=(2,),
    )
    whole.run()
    states = {(s["epoch"], s["step"]): s for s in map(read_file, tmp_path.glob("recurrent.*pth.tar"))}
    pairs = [[clip(1), clip(2)], [clip(4), clip(8)]]  # twice the batch, half the steps
    with pytest.raises(InputError, match="train_batch, iter_size.*whole epoch"):
        training_run(tmp_path, Batches(*pairs), epochs=3, milestones=(2,)).state.load_state_dict(states[1, 2])
    again = training_run(tmp_path / "again", Batches(*pairs), epochs=3, milestones=(2,))
    again.state.load_state_dict(states[1, 0])
    again.run()
    assert again.log.of("learning_rate") == pytest.approx([1, 0.1])
