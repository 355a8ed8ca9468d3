"""Weights and training states that are wrong, and weights in unusual formats that are right."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from libs.app.build import build_model
from libs.app.config import load_config
from libs.core.errors import InputError
from models.stm import STM
from tests.helpers import fake_datasets
from tests.helpers.small_network import TRAIN_ON_FOLDER, segment_folder, small, small_state_dict
from tests.helpers.subprocess_runner import ROOT, Result, run_in_process

CPU = torch.device("cpu")


class Payload:
    """Unpickles by running code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def not_finite() -> dict:
    state = small_state_dict()
    state["Decoder.pred2.bias"] = torch.tensor([float("nan"), 0.0])
    return state


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Payload(path.parent / "pwned")}))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def _truncated(path: Path) -> None:
    torch.save(small_state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


WEIGHTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda p: None, ["w.pth", "does not exist"]),
    "folder": (lambda p: p.mkdir(), ["w.pth"]),
    "empty": (lambda p: p.write_bytes(b""), ["w.pth"]),
    "text": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"), ["w.pth"]),
    "truncated": (_truncated, ["w.pth", "intact"]),
    "zip of something else": (_zip, ["w.pth"]),
    "code in a pickle": (_pickled, ["w.pth", "tensors and plain values"]),
    "code in a torch file": (
        lambda p: torch.save({"state_dict": Payload(p.parent / "pwned")}, p),
        ["w.pth", "tensors and plain values"],
    ),
    "NaN": (lambda p: torch.save(not_finite(), p), ["w.pth", "NaN", "Decoder.pred2.bias"]),
    "a list": (lambda p: torch.save([1, 2], p), ["w.pth", "state dict"]),
    "an empty dict": (lambda p: torch.save({}, p), ["w.pth", "state dict"]),
    "an optimizer": (
        lambda p: torch.save({"state": {}, "param_groups": [{"lr": 0.1}]}, p),
        ["w.pth", "network weights"],
    ),
    "another arch": (
        lambda p: torch.save(STM("resnet50", 8, 8, decoder_dim=8).state_dict(), p),
        ["w.pth", "arch resnet50", "arch resnet18"],
    ),
    "another width": (
        lambda p: torch.save(STM("resnet18", 16, 8, decoder_dim=8).state_dict(), p),
        ["w.pth", "keydim 16", "keydim 8"],
    ),
    "a tensor as average": (lambda p: torch.save({"ema": torch.zeros(2)}, p), ["w.pth"]),
    "odd names": (lambda p: torch.save({"Encoder_Q.res4.x": torch.zeros(2)}, p), ["w.pth", "missing"]),
    "sparse": (
        lambda p: torch.save({"Decoder.pred2.bias": torch.zeros(2).to_sparse()}, p),
        ["w.pth", "dense"],
    ),
    "half of it": (
        lambda p: torch.save(dict(list(small_state_dict().items())[:50]), p),
        ["w.pth", "missing"],
    ),
}


def config(initial: Path) -> CfgNode:
    """The config of a small network that starts from this file."""
    options = [str(word) for pair in small(initial=initial).items() for word in pair]
    return load_config(ROOT / "config.yaml", options)


@pytest.mark.parametrize("name", WEIGHTS)
def test_wrong_weights_are_refused(tmp_path: Path, name: str) -> None:
    make, words = WEIGHTS[name]
    make(tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        build_model(config(tmp_path / "w.pth"), CPU)
    told = str(caught.value)
    assert all(word in told for word in words) and len(told) < 2500, told
    assert not (tmp_path / "pwned").exists()


def test_wrong_weights_leave_no_masks(tmp_path: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    _truncated(tmp_path / "w.pth")
    segment_folder(tmp_path, tmp_path / "w.pth").check_error("w.pth", "intact")
    assert not list((tmp_path / "output").rglob("*.png"))


FITTING = {
    "bare": lambda state: state,
    "in state_dict": lambda state: {"state_dict": state, "epoch": 3, "max_skip": [5]},
    "module.": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "fp16": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("old", [False, True])
def test_weights_in_other_formats_are_loaded(tmp_path: Path, name: str, old: bool) -> None:
    state = small_state_dict()
    torch.save(FITTING[name](state), tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    loaded = build_model(config(tmp_path / "w.pth"), CPU)[0].state_dict()
    tolerance = 1e-3 if name == "fp16" else 0
    assert loaded.keys() == state.keys()
    assert all(
        torch.allclose(loaded[key].float(), state[key].float(), rtol=tolerance, atol=tolerance)
        for key in state
    )


# ---- training states -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the checkpoint of one epoch in `ckpt`."""
    root = tmp_path_factory.mktemp("trained")
    fake_datasets.folder(root)
    resume(root, root / "ckpt", "").check_success()
    return root


def resume(root: Path, checkpoint: Path, path: Path | str) -> Result:
    keys = small(**TRAIN_ON_FOLDER, root=root, checkpoint=checkpoint, resume=path)
    return run_in_process("train.py", **keys)


def test_weights_are_no_training_state(trained: Path, tmp_path: Path, weights: Path) -> None:
    resume(trained, tmp_path / "ckpt", weights).check_error(str(weights), "optimizer", "initial")


@pytest.mark.parametrize(
    "damage",
    [
        {"rng": {}},
        {"optimizer": {}},
        {"epoch": "3"},
        {"totals": {"x": 1}},
        {"scheduler": {}},
        {"max_skip": [None]},
    ],
)
def test_a_training_state_with_wrong_content(trained: Path, tmp_path: Path, damage: dict) -> None:
    state = torch.load(trained / "ckpt/recurrent.pth.tar", weights_only=True)
    torch.save({**state, **damage}, tmp_path / "damaged.pth.tar")
    resume(trained, tmp_path / "ckpt", tmp_path / "damaged.pth.tar").check_error("initial")


def test_output_that_is_not_finite_is_an_error_and_not_background(tmp_path: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    state = small_state_dict()
    huge = {name: value * 1e30 if name.startswith("Decoder") else value for name, value in state.items()}
    torch.save(huge, tmp_path / "w.pth")
    end = segment_folder(tmp_path, tmp_path / "w.pth")
    end.check_error("2 of 2 videos failed")
    assert "not finite" in end.err
