"""Packing a checkpoint: half precision, the running average, and the same labels."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from libs.app.pack import average_weights
from libs.core.errors import InputError
from libs.training.checkpoint import read_weights
from models.stm import STM
from models.weights import describe_network, load_weights


def test_the_average_is_packed_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(STM("resnet18", 8, 8, decoder_dim=8, norm="gn"))
    torch.save({"state_dict": models[0].state_dict(), "ema": models[1].state_dict()}, tmp_path / "a.pth.tar")
    monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path / "a.pth.tar"), str(tmp_path / "b.pth")])
    runpy.run_module("libs.app.pack", run_name="__main__")
    assert "MB" in capsys.readouterr().out
    packed = read_weights(tmp_path / "b.pth")
    assert describe_network(packed).norm == "gn"
    assert {value.dtype for value in packed.values()} == {torch.float16}
    load_weights(models[0], packed)
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(value, models[1].state_dict()[name], rtol=1e-3, atol=1e-4)


def test_several_checkpoints_are_averaged(tmp_path: Path) -> None:
    paths, states = [tmp_path / f"{i}.pth" for i in range(3)], []
    for path in paths:
        states.append(STM("resnet18", 8, 8, decoder_dim=8).state_dict())
        torch.save(states[-1], path)
    averaged = average_weights(paths)
    expected = {name: sum(state[name].double() for state in states) / 3 for name in states[0]}
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name].double(), value, rtol=1e-5, atol=1e-6)
    assert averaged["Encoder_M.bn1.num_batches_tracked"].dtype == torch.int64


def test_networks_that_differ_are_not_averaged(tmp_path: Path) -> None:
    for name, width in (("a.pth", 8), ("b.pth", 16)):
        torch.save(STM("resnet18", 8, 8, decoder_dim=width).state_dict(), tmp_path / name)
    with pytest.raises(InputError, match="b.pth: its network differs from that in .*a.pth"):
        average_weights([tmp_path / "a.pth", tmp_path / "b.pth"])


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pack", "only_one"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("libs.app.pack", run_name="__main__")
    assert end.value.code == 2 and "required: OUT.pth" in capsys.readouterr().err
