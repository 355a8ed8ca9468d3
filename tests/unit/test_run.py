"""Run control: learning rate, curriculum, validation, checkpoints, progress, and when a run stops."""

from pathlib import Path

import pytest
import torch

from libs.core.errors import InputError
from libs.training.checkpoint import find_weights, latest_checkpoint, read_file
from tests.helpers.training import Batches, clip, reports, training_run, use_linear_loss


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is w times the mean of the frames."""
    use_linear_loss(monkeypatch)


def test_max_minutes_holds_if_an_epoch_is_one_update(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)], seconds=70), epochs=50, max_minutes=3.0)
    run.run()
    assert (run.state.epoch, run.state.step) == (3, 0)
    assert "stopped after epoch 3, step 0" in run.log.lines[-1]
    assert read_file(tmp_path / "recurrent.pth.tar")["epoch"] == 3


def test_a_run_saves_and_stops_after_max_minutes_and_resumes(tmp_path: Path, linear: None) -> None:
    values = (1, 2, 4, 8, 16, 32)
    loader = Batches(*([clip(v)] for v in values), seconds=30)
    run = training_run(tmp_path, loader, epochs=2, max_minutes=1.4, iter_size=2)
    run.run()
    assert (run.state.epoch, run.state.step) == (0, 4)  # after an update, not at step 3
    assert "stopped after epoch 0, step 4" in run.log.lines[-1] and "resume auto" in run.log.lines[-1]
    assert run.trainer.model.w.item() == pytest.approx(-(1 + 2 + 4 + 8) / 2)
    state, path = latest_checkpoint(tmp_path / "recurrent.pth.tar")
    later = training_run(tmp_path, Batches(*([clip(v)] for v in values)), epochs=2, iter_size=2)
    later.trainer.model.load_state_dict(find_weights(state, path))
    later.state.load_state_dict(state)
    later.run()
    assert later.trainer.model.w.item() == pytest.approx(-2 * sum(values) / 2)


def test_a_run_saves_and_stops_when_asked_to(tmp_path: Path, linear: None) -> None:
    """As SIGTERM does; looked at after each update only."""
    answers = iter([False, True])
    loader = Batches(*([clip(v)] for v in (1, 2, 4, 8, 16, 32)))
    run = training_run(tmp_path, loader, iter_size=2, stop_requested=lambda: next(answers))
    run.run()
    assert (run.state.epoch, run.state.step) == (0, 4)
    assert read_file(tmp_path / "recurrent.pth.tar")["step"] == 4


# ---- progress ------------------------------------------------------------------------------------


def test_one_line_of_progress_a_minute(
    tmp_path: Path, linear: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr and in the log file: step, loss, speed and the time left of the whole run."""
    run = training_run(tmp_path, Batches(*[[clip(1)]] * 9, seconds=10), epochs=2)
    run.run()
    lines = capsys.readouterr().err.splitlines()
    assert lines == run.log.recorded
    assert [line.split(", ")[0] for line in lines] == [
        "epoch 1/2: step 6 of 9",
        "epoch 2/2: step 3 of 9",  # the minute runs on from one epoch to the next
        "epoch 2/2: step 9 of 9",
    ]
    assert lines[0].endswith("0.10 steps per second, 0:02:00 left") and ", loss " in lines[0]
    assert lines[-1].endswith("0:00:00 left")


def test_progress_of_a_resumed_epoch(tmp_path: Path, linear: None) -> None:
    first = training_run(tmp_path, Batches(*[[clip(1)]] * 9), epochs=2, stop_requested=lambda: True)
    first.run()
    again = training_run(tmp_path, Batches(*[[clip(1)]] * 9, seconds=20), epochs=2)
    again.state.load_state_dict(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert again.log.recorded[0].startswith("epoch 1/2: step 4 of 9")
    assert again.log.recorded[0].endswith("0.05 steps per second, 0:04:40 left")  # 14 steps of 20 s


# ---- learning rate and curriculum ----------------------------------------------------------------


def test_milestones_multiply_the_learning_rate_by_gamma(tmp_path: Path, linear: None) -> None:
    """The original multiplied by the rate itself."""
    run = training_run(tmp_path, Batches([clip(1)]), rate=0.5, milestones=(4, 2), epochs=6)
    run.run()
    assert run.log.of("learning_rate") == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
    assert run.trainer.model.w.item() == pytest.approx(-2 * (0.5 + 0.05 + 0.005))
    assert [step for step, _ in run.log.values] == [1, 2, 3, 4, 5, 6]
    assert run.loader.epochs_asked == [0, 1, 2, 3, 4, 5]


def test_the_curriculum_grows_every_so_many_epochs(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)]), epochs=5, epochs_per_increment=2)
    run.run()
    assert run.log.of("max_skip__0") == [5, 5, 10, 10, 15] and run.log.of("max_skip__1") == [3, 3, 4, 4, 5]
    assert read_file(tmp_path / "recurrent.pth.tar")["max_skip"] == [15, 5]


# ---- validation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("every, count", [(1, 5), (2, 3), (4, 2), (5, 1), (9, 1), (0, 0)])
def test_validation_comes_every_so_many_epochs_and_at_the_end(
    tmp_path: Path, linear: None, every: int, count: int
) -> None:
    validate = reports(*[0.5] * 5)
    training_run(tmp_path, Batches([clip(1)]), validate=validate, epochs=5, epoch_per_test=every).run()
    assert validate.modes == [False] * count  # in evaluation mode


def test_training_mode_is_back_after_validation(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)]), validate=reports(0.5, 0.6), epochs=2, epoch_per_test=1)
    modes, trainer, step = [], run.trainer, run.trainer.forward_backward
    trainer.forward_backward = lambda *args: modes.append(trainer.model.training) or step(*args)
    run.run()
    assert modes == [True, True]


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path: Path, linear: None) -> None:
    run = training_run(
        tmp_path, Batches([clip(1)]), validate=reports(0.4, 0.7, 0.6), epochs=3, epoch_per_test=1
    )
    run.run()
    names = {"recurrent.pth.tar", "recurrent_best.pth.tar", "curves.png"}
    assert {p.name for p in tmp_path.iterdir()} == names
    last, best = read_file(tmp_path / "recurrent.pth.tar"), read_file(tmp_path / "recurrent_best.pth.tar")
    assert (last["epoch"], last["best"]) == (3, pytest.approx(0.7))
    assert (best["epoch"], best["best"]) == (2, pytest.approx(0.7))
    assert best["state_dict"]["w"] == -2 and last["state_dict"]["w"] == -3
    assert run.log.of("val__JF") == pytest.approx([0.4, 0.7, 0.6])
    assert sum("J&F" in line for line in run.log.lines) == 3


def test_validation_without_ground_truth_says_so(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)]), validate=reports(None), epoch_per_test=1)
    run.run()
    assert any("no ground truth" in line for line in run.log.lines) and not run.log.of("val__JF")
    assert {p.name for p in tmp_path.iterdir()} == {"recurrent.pth.tar", "curves.png"}


def test_a_missing_validation_is_done_first(tmp_path: Path, linear: None) -> None:
    """The earlier run ended while it validated, after the epoch was saved."""

    def interrupted(model: torch.nn.Module) -> None:
        raise KeyboardInterrupt

    run = training_run(tmp_path, Batches([clip(1)]), validate=interrupted, epoch_per_test=1)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    again = training_run(tmp_path, Batches([clip(1)]), validate=reports(0.5), epoch_per_test=1)
    again.state.load_state_dict(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert again.loader.epochs_asked == [] and again.log.of("val__JF") == pytest.approx([0.5])


def test_a_missing_validation_is_left_out_if_the_config_asks_for_none(tmp_path: Path, linear: None) -> None:
    validate = reports(0.5)
    run = training_run(tmp_path, Batches([clip(1)]), validate=validate, epochs=2, epoch_per_test=0)
    run.state.epoch, run.state.validated = 1, 0
    run.run()
    assert validate.modes == []


# ---- checkpoints ---------------------------------------------------------------------------------


def test_the_running_average_is_validated_and_used(tmp_path: Path, linear: None) -> None:
    seen = []
    run = training_run(
        tmp_path,
        Batches([clip(1)], [clip(1)], [clip(1)]),
        validate=lambda model: seen.append(model.w.item()) or reports(0.5)(model),
        epoch_per_test=1,
        ema=0.9,
    )
    run.run()  # w: -1, -2, -3; the first is taken as it is
    assert run.trainer.model.w.item() == -3
    assert seen == [pytest.approx(0.9 * (0.9 * -1 + 0.1 * -2) + 0.1 * -3)]
    state = read_file(tmp_path / "recurrent.pth.tar")
    assert find_weights(state, tmp_path)["w"].item() == pytest.approx(seen[0])
    assert find_weights(state, tmp_path, average=False)["w"] == -3


def test_the_last_checkpoints_stay_and_the_newest_intact_one_is_found(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)]), epochs=5, keep=3)
    run.run()
    path = tmp_path / "recurrent.pth.tar"
    names = ["recurrent.pth.tar", "recurrent.1.pth.tar", "recurrent.2.pth.tar"]
    assert {p.name for p in tmp_path.iterdir()} == {*names, "curves.png"}
    assert [read_file(tmp_path / name)["epoch"] for name in names] == [5, 4, 3]
    assert latest_checkpoint(path)[0]["epoch"] == 5
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="recurrent.pth.tar.*trying the checkpoint before it"):
        state, found = latest_checkpoint(path)
    assert state["epoch"] == 4 and found.name == names[1]
    path.unlink()  # killed while the files were renamed
    assert latest_checkpoint(path)[0]["epoch"] == 4
    for name in names[1:]:
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(InputError, match="no checkpoint .* is intact"):
        latest_checkpoint(path)
    assert latest_checkpoint(tmp_path / "mask.pth.tar") is None


def test_a_failure_while_saving_leaves_the_last_epoch(
    tmp_path: Path, linear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training_run(tmp_path, Batches([clip(1)]), epochs=2)
    save, count = torch.save, [0]

    def fail_later(content: dict, file) -> None:
        count[0] += 1
        if count[0] > 1:
            file.write(b"half")
            raise OSError("disk full")
        save(content, file)

    monkeypatch.setattr(torch, "save", fail_later)
    with pytest.raises(InputError, match="disk full"):
        run.run()
    assert [p.name for p in tmp_path.iterdir()] == ["recurrent.pth.tar"]
    assert read_file(tmp_path / "recurrent.pth.tar")["epoch"] == 1
