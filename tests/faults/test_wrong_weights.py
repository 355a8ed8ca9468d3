"""Weights and training states that are wrong, and weights in unusual formats that are right."""

import gzip
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from yacs.config import CfgNode

from libs.app.build import build_model
from libs.app.config import load_config
from libs.core.errors import InputError
from models.stm import STM
from models.weights import WeightsError, load_imagenet
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


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _saved() -> bytes:
    buffer = io.BytesIO()
    torch.save(small_state_dict(), buffer)
    return buffer.getvalue()


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("weights")
        entry.size = len(_saved())
        archive.addfile(entry, io.BytesIO(_saved()))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in small_state_dict().items()})


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _torchscript(path: Path) -> None:
    """The files by which such an archive is known; to make a real one is deprecated."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version", "code/__torch__.py"):
            archive.writestr(f"w/{name}", "")


def _distributed(path: Path) -> None:
    path.mkdir()
    (path / ".metadata").write_bytes(b"")


def _cut_safetensors(path: Path) -> None:
    save_file(small_state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])


def _circular(path: Path) -> None:
    content: dict[str, object] = {}
    content["state_dict"] = content["a"] = {"b": content}
    torch.save(content, path)


def _cast(dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights in another type; counters stay as they are."""
    state = small_state_dict()
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


def _renamed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in small_state_dict().items()}


WEIGHTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda p: None, ["w.pth", "does not exist"]),
    "folder": (lambda p: p.mkdir(), ["w.pth", "folder", "file of weights in it"]),
    "empty": (lambda p: p.write_bytes(b""), ["w.pth", "empty"]),
    "a git-lfs pointer": (lambda p: p.write_bytes(LFS), ["w.pth", "git-lfs pointer", "git lfs pull"]),
    "a web page": (lambda p: p.write_text("\ufeff<!-- saved -->\n<HTML>"), ["w.pth", "web page", "browser"]),
    "an answer of a server": (lambda p: p.write_text('{"error": "gone"}'), ["w.pth", "text", '"gone"']),
    "zeros": (lambda p: p.write_bytes(bytes(5000)), ["w.pth", "zeros", "again"]),
    "compressed": (lambda p: p.write_bytes(gzip.compress(_saved())), ["w.pth", "gzip", "unpack"]),
    "a tar archive": (_tar, ["w.pth", "tar archive", "unpack"]),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n" + bytes(99)), ["w.pth", "HDF5", "PyTorch"]),
    "ONNX": (lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(99)), ["w.pth", "ONNX", "PyTorch"]),
    "arrays": (_npz, ["w.pth", "numpy arrays", "PyTorch"]),
    "one array": (_npy, ["w.pth", "numpy array", "PyTorch"]),
    "arrays in a torch file": (
        lambda p: torch.save({"w": np.zeros(3)}, p),
        ["w.pth", "numpy", "torch.save({'state_dict'"],
    ),
    "TorchScript": (_torchscript, ["w.pth", "TorchScript", "torch.save({'state_dict'"]),
    "a module": (
        lambda p: torch.save(torch.nn.Linear(2, 2), p),
        ["w.pth", "Linear", "torch.save({'state_dict'"],
    ),
    "a distributed checkpoint": (_distributed, ["w.pth", "folder", "dcp_to_torch"]),
    "a named pipe": (lambda p: os.mkfifo(p), ["w.pth", "not a regular file"]),
    "safetensors cut off": (_cut_safetensors, ["w.pth", "intact", "again"]),
    "complex": (lambda p: torch.save(_cast(torch.complex64), p), ["w.pth", "dense tensors", "complex64"]),
    "whole numbers": (lambda p: torch.save(_cast(torch.int8), p), ["w.pth", "int8", "quantized"]),
    "one shape": (
        lambda p: torch.save({**small_state_dict(), "Decoder.pred2.bias": torch.zeros(3)}, p),
        ["w.pth", "Decoder.pred2.bias (3,) instead of (2,)"],
    ),
    "an image classifier": (
        lambda p: torch.save(torchvision.models.resnet18().state_dict(), p),
        ["w.pth", "image classifier", "pretrained True"],
    ),
    "two networks": (
        lambda p: torch.save({"a": small_state_dict(), "b": small_state_dict()}, p),
        ["w.pth", "found 2, a, b", "alone"],
    ),
    "two networks in one": (
        lambda p: torch.save(_renamed("a.") | _renamed("b."), p),
        ["w.pth", "found 2", "'b.KV_Q_r4.Key.bias'", "alone"],
    ),
    "entries twice": (
        lambda p: torch.save(small_state_dict() | _renamed("module."), p),
        ["w.pth", "Encoder_M.mean twice", "once"],
    ),
    "a dictionary that contains itself": (_circular, ["w.pth", "network weights"]),
    "truncated": (_truncated, ["w.pth", "intact"]),
    "zip of something else": (_zip, ["w.pth", "zip archive", "unpack"]),
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
    with pytest.raises(InputError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error" if name != "sparse" else "ignore")  # torch warns of sparse tensors
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
    "fp16": lambda state: _cast(torch.float16),
    "bfloat16": lambda state: _cast(torch.bfloat16),
    "float64": lambda state: _cast(torch.float64),
    "parameters": lambda state: {k: torch.nn.Parameter(v, v.is_floating_point()) for k, v in state.items()},
    "compiled, then in parallel": lambda state: _renamed("module._orig_mod."),
    "fully sharded": lambda state: _renamed("_fsdp_wrapped_module."),
    "parts in parallel": lambda state: {k.replace(".", ".module.", 1): v for k, v in state.items()},
    "a prefix of its own": lambda state: _renamed("segmenter.stm."),
    "of Lightning": lambda state: {"state_dict": _renamed("model."), "hyper_parameters": {"rate": 0.1}},
    "two levels deep": lambda state: {"model": {"state_dict": state}, "optimizer": {"state": {}}},
    "under another name": lambda state: {"checkpoint": {"weights": {"stm": state}}, "step": 3},
    "beside an optimizer": lambda state: {"net": state, "optimizer": {"state": {0: {"exp": torch.ones(2)}}}},
    "averaged": lambda state: {"state_dict": _other(), "ema": state},
    "averaged, with a counter": lambda state: {
        "state_dict": _other(),
        "ema": {"decay": 0.9, "shadow": state},
    },
    "an empty average": lambda state: {"state_dict": state, "ema": {}},
}


def _other() -> dict[str, Tensor]:
    return {name: value * 2 for name, value in small_state_dict().items()}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("old", [False, True])
def test_weights_in_other_formats_are_loaded(tmp_path: Path, name: str, old: bool) -> None:
    state = small_state_dict()
    torch.save(FITTING[name](state), tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    loaded = build_model(config(tmp_path / "w.pth"), CPU)[0].state_dict()
    tolerance = {"fp16": 1e-3, "bfloat16": 1e-2}.get(name, 0)
    assert loaded.keys() == state.keys()
    assert all(
        torch.allclose(loaded[key].float(), state[key].float(), rtol=tolerance, atol=tolerance)
        for key in state
    )


BESIDE = {  # content -> words of the warning
    "averages of others": (lambda state: {"model": state, "model_ema": _other()}, "'model' of the file"),
    "a state of averages": (lambda state: {"params_ema": _other(), "params": state}, "not 'params_ema'"),
    "a teacher": (lambda state: {"teacher": _other(), "student": state}, "not 'teacher'"),
    "a loss with weights": (lambda state: {**state, "loss.weight": torch.zeros(2)}, "loss.weight"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_other_weights_in_the_file_are_named(tmp_path: Path, name: str) -> None:
    state = small_state_dict()
    content, words = BESIDE[name]
    torch.save(content(state), tmp_path / "w.pth")
    with pytest.warns(UserWarning, match=words):
        loaded = build_model(config(tmp_path / "w.pth"), CPU)[0].state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_content_of_a_file_says_its_format(tmp_path: Path, suffix: str) -> None:
    state, path = small_state_dict(), tmp_path / f"w{suffix}"
    for save in (
        lambda: save_file(state, path, {"format": "pt", "from": "onnx"}),
        lambda: torch.save(state, path),
    ):
        save()
        loaded = build_model(config(path), CPU)[0].state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_no_code_runs_in_a_file_of_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares the hash of ImageNet weights only when it downloads them."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("models.weights.get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints/resnet18-f37072fd.pth"
    cached.parent.mkdir()
    torch.save({"conv1.weight": Payload(cached.parent / "pwned")}, cached)
    with pytest.raises(WeightsError, match=f"{cached}.*remove it"):
        load_imagenet(STM("resnet18", 8, 8, decoder_dim=8), "resnet18")
    assert not (cached.parent / "pwned").exists()


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
