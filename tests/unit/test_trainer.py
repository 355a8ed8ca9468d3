"""The training step: accumulated gradients, batches of unequal clips, errors, modes."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from libs.core.errors import InputError
from libs.method.objective import MODES
from libs.training.checkpoint import read_file
from models.stm import STM
from tests.helpers.training import SMALL, Batches, clip, training_run, use_linear_loss


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is w times the mean of the frames."""
    use_linear_loss(monkeypatch)


@pytest.mark.parametrize(
    "iter_size, updates",
    [(1, [1, 2, 4, 8, 16]), (2, [1.5, 6, 8]), (3, [7 / 3, 8]), (5, [31 / 5]), (8, [31 / 8])],
)
def test_gradients_are_accumulated_and_those_left_at_the_end_are_applied(
    tmp_path: Path, linear: None, iter_size: int, updates: list[float]
) -> None:
    """The original dropped those left at the end of an epoch."""
    run = training_run(tmp_path, Batches(*([clip(v)] for v in (1, 2, 4, 8, 16))), iter_size=iter_size)
    model, update = run.trainer.model, run.trainer.update
    gradients = []
    run.trainer.update = lambda: gradients.append(model.w.grad.item()) or update()
    run.run()
    assert gradients == pytest.approx(updates)
    assert model.w.item() == pytest.approx(-sum(updates))
    assert model.w.grad is None  # nothing leaks into the next epoch


def test_a_step_is_the_mean_of_its_clips_whatever_their_lengths(tmp_path: Path, linear: None) -> None:
    """Clips of unequal length take separate passes."""
    trainer = training_run(tmp_path, Batches([clip(0)])).trainer
    means = trainer.forward_backward([clip(1, 2), clip(2, 3), clip(6, 3)], clips_in_step=3).means()
    trainer.update()
    assert trainer.model.w.item() == pytest.approx(-3)
    assert means["loss"] == 0 and means["cycle_skipped"] == pytest.approx(0.75)


def test_a_step_is_the_mean_of_its_clips_whatever_their_sizes(tmp_path: Path, linear: None) -> None:
    """Augmentation 'dali' does not pad: clips of unequal height or width take separate passes."""
    trainer = training_run(tmp_path, Batches([clip(0)])).trainer
    clips = [clip(1, 2, size=(4, 6)), clip(2, 2, size=(6, 4)), clip(6, 2, size=(4, 6))]
    totals = trainer.forward_backward(clips, clips_in_step=3)
    trainer.update()
    assert trainer.model.w.item() == pytest.approx(-3)
    assert totals.clips == 3


def test_a_process_counts_the_clips_of_all_processes(tmp_path: Path, linear: None) -> None:
    """It has some of a step's clips, or none; the sum over processes is the mean over the step."""
    trainer = training_run(tmp_path, Batches([clip(0)])).trainer
    assert trainer.forward_backward([], clips_in_step=2).clips == 0
    assert trainer.model.w.grad is None
    trainer.forward_backward([clip(6)], clips_in_step=2)
    assert trainer.model.w.grad.item() == pytest.approx(3)


def test_the_network_trains_on_clips_of_two_sizes_in_one_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = training_run(tmp_path, Batches([clip(0)]), STM("resnet18", **SMALL), rate=1e-3).trainer
    totals = trainer.forward_backward([clip(0.5, 2, 1, (32, 48)), clip(0.7, 2, 2, (48, 27))], 2)
    trainer.update()
    assert math.isfinite(totals.total) and totals.clips == 2


def test_clips_of_unequal_object_counts_share_a_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = training_run(tmp_path, Batches([clip(0)]), STM("resnet18", **SMALL), rate=1e-3).trainer
    totals = trainer.forward_backward([clip(0.5, 2, 1, (32, 48)), clip(0.7, 2, 3, (32, 48))], 2)
    trainer.update()
    assert math.isfinite(totals.total)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, linear: None, value: float) -> None:
    """The original skipped such steps in silence."""
    run = training_run(tmp_path, Batches([clip(1)], [clip(value)]))
    run.trainer.model.w.data.fill_(1)
    with pytest.raises(InputError, match=f"epoch 1.*clip of {value}.*learning_rate"):
        run.run()
    assert [path.name for path in tmp_path.iterdir()] == ["stopped_0.pth.tar"]  # no checkpoint
    kept = read_file(tmp_path / "stopped_0.pth.tar")
    assert kept["names"] == [f"clip of {value}"]
    assert kept["frames"][0].shape == (2, 3, 2, 2) and kept["labels"][0].dtype == torch.uint8


def test_gradients_that_are_not_finite_stop_the_run(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(1)]))
    run.trainer.model.w.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(InputError, match="epoch 1, step 1: the gradients"):
        run.run()
    assert run.trainer.model.w.item() == 0


def test_gradients_are_clipped_to_the_largest_norm(tmp_path: Path, linear: None) -> None:
    run = training_run(tmp_path, Batches([clip(4)], [clip(0.5)]), grad_clip=1.0)
    run.run()
    assert run.trainer.model.w.item() == pytest.approx(-1.5)


def statistics(model: STM) -> dict[str, Tensor]:
    """Copies of the running statistics of batch norm."""
    state = model.state_dict().items()
    return {name: value.clone() for name, value in state if "running" in name or "num_batches" in name}


@pytest.mark.parametrize(
    "mode, freeze_bn", [("mask", True), ("recurrent", True), ("threshold", True), ("recurrent", False)]
)
def test_a_real_epoch_in_every_mode(tmp_path: Path, mode: str, freeze_bn: bool) -> None:
    torch.manual_seed(0)
    model = STM("resnet18", **SMALL, freeze_bn=freeze_bn)
    loader = Batches([clip(0.5, 3, 1, (32, 48))])
    run = training_run(tmp_path, loader, model, rate=1e-4, solver="adam", mode=mode)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = statistics(model)
    run.run()
    saved = read_file(tmp_path / f"{mode}.pth.tar")
    assert mode in MODES and {"epoch", "state_dict", "max_skip"} <= saved.keys() and saved["epoch"] == 1
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    # A bias of all keys moves no softmax, so its gradient may be 0. All else learns, batch norm's affine too.
    assert set(before) - set(changed) <= {"KV_M_r4.Key.bias"}
    kept = [torch.equal(value, frozen[name]) for name, value in statistics(model).items()]
    assert all(kept) if freeze_bn else not any(kept)
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in model.state_dict().items())
