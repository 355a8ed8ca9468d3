"""Resuming from a training state. tests/e2e/test_resume.py resumes runs of the script train.py."""

from pathlib import Path

import pytest

from libs.core.errors import InputError
from libs.training.checkpoint import read_file
from tests.helpers.training import Batches, clip, reports, same, training_run, use_linear_loss


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is w times the mean of the frames."""
    use_linear_loss(monkeypatch)


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
