"""Weight files: every released variant loads, what does not fit is listed, nothing in a file is run."""

import argparse
import json
import os
import pickle
from collections import defaultdict
from dataclasses import astuple, fields
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.models._api
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet
from yacs.config import CfgNode

from libs.app.build import build_model, for_inference, load_network
from libs.app.config import Config, load_config
from libs.app.defaults import KEYS as KEYS_OF_CONFIG
from libs.core.errors import InputError
from libs.core.named_weights import SHIPPED
from libs.training.checkpoint import (
    TRAINING_STATE,
    read_file,
    read_training_state,
    read_weights,
    save_checkpoint,
)
from models.encoders import ARCHS
from models.stm import STM
from models.weights import WeightsError, describe_network, guess_arch, load_weights
from tests import golden
from tests.golden.weights import fill_
from tests.helpers.small_network import small_state_dict

SMALL = {"keydim": 8, "valdim": 8, "decoder_dim": 8}
CPU = torch.device("cpu")
WHOLE = {name: (kind if isinstance(kind, type) else kind[0])() for name, kind in TRAINING_STATE.items()} | {
    "ema": None
}  # of the right types


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of an earlier download lies around, and a download fails."""

    def urlopen(*_, **__):
        raise URLError("this machine has no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "urlopen", urlopen)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of a small STM-Cycle network, all its entries unlike those of a new one."""
    return fill_(STM("resnet18", **SMALL).state_dict())


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """The same of a network such as official STM."""
    return fill_(STM("resnet18", context="others", **SMALL).state_dict())


def config(folder: Path, *options: str) -> Config:
    path = folder / "small.yaml"
    path.write_text("arch: resnet18\nkeydim: 8\nvaldim: 8\ndecoder_dim: 8\n")
    return load_config(path, options)


def load(path: Path, *options: str) -> STM:
    return build_model(config(path.parent, "initial", str(path), *options), CPU)[0]


def refused(path: Path, *options: str) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as error:
        load(path, *options)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


def same(model: STM, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


# ---- variants ----


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", [True, False], ids=["module", "plain"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "bare"])
def test_every_variant_of_a_file_loads(
    tmp_path: Path, state: dict[str, Tensor], nested: bool, prefix: bool, zipped: bool
) -> None:
    content = prefixed(state) if prefix else state
    content = {"epoch": 240, "state_dict": content, "max_skip": [100, 50]} if nested else content
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    model = load(tmp_path / "model.pth")
    assert same(model, state)
    assert model.Encoder_M.context == "background" and model.pad_to == 1


@pytest.mark.parametrize("prefix", [True, False], ids=["module", "plain"])
def test_official_weights_bring_their_context_and_padding(
    tmp_path: Path, official: dict[str, Tensor], prefix: bool
) -> None:
    torch.save(prefixed(official) if prefix else official, tmp_path / "STM_weights.pth")
    model = load(tmp_path / "STM_weights.pth")
    assert model.Encoder_M.context == "others" and model.pad_to == 16
    assert same(model, official) and "Encoder_M.conv1_o.weight" in official


@pytest.mark.parametrize("context, pad_to", [("others", 16), ("background", 1), ("auto", 1)])
def test_the_context_of_a_new_network_is_the_configs(tmp_path: Path, context: str, pad_to: int) -> None:
    model, state = build_model(config(tmp_path, "pretrained", "False", "memory_context", context), CPU)
    assert model.Encoder_M.context == ("others" if context == "others" else "background")
    assert model.pad_to == pad_to and state is None


def test_files_without_batch_counters_load(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Those from before PyTorch 0.4.1."""
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pth")
    loaded = load(tmp_path / "old.pth").state_dict()
    assert all(torch.equal(loaded[name], old[name]) for name in old)


# ---- what does not fit ----


def test_missing_extra_and_misshaped_entries_are_listed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    wrong = dict(state)
    del wrong["KV_M_r4.Key.weight"], wrong["Decoder.pred2.bias"]
    wrong["Decoder.extra"] = torch.zeros(1)
    wrong["Encoder_Q.conv1.weight"] = torch.zeros(64, 4, 7, 7)
    torch.save(wrong, tmp_path / "wrong.pth")
    message = refused(tmp_path / "wrong.pth")
    missing, unknown, shape = (
        message.split(f"{kind}: ")[1].split(";")[0] for kind in ("missing", "unknown", "shape")
    )
    assert set(missing.split(", ")) == {"KV_M_r4.Key.weight", "Decoder.pred2.bias"}
    assert unknown == "Decoder.extra"
    assert shape == "Encoder_Q.conv1.weight (64, 4, 7, 7) instead of (64, 3, 7, 7)"


@pytest.mark.parametrize("entry", ["Encoder_Q.bn1.running_var", "Encoder_M.conv1_m.weight"])
def test_one_missing_entry_is_an_error(tmp_path: Path, state: dict[str, Tensor], entry: str) -> None:
    torch.save({name: value for name, value in state.items() if name != entry}, tmp_path / "wrong.pth")
    assert entry in refused(tmp_path / "wrong.pth")


def test_files_without_mean_and_std_load(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Nothing reads them; the network's own stay."""
    buffers = {f"Encoder_{e}.{name}" for e in "MQ" for name in ("mean", "std")}
    assert buffers <= state.keys()
    torch.save({name: value for name, value in state.items() if name not in buffers}, tmp_path / "bare.pth")
    loaded, new = load(tmp_path / "bare.pth").state_dict(), STM("resnet18", **SMALL).state_dict()
    assert all(torch.equal(loaded[name], (new if name in buffers else state)[name]) for name in loaded)


def test_entries_of_no_use_are_named_in_a_warning(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({**state, "Decoder.extra": torch.zeros(1), "fc.weight": torch.zeros(2)}, tmp_path / "more.pth")
    with pytest.warns(UserWarning, match="2 entries.*Decoder.extra, fc.weight"):
        assert same(load(tmp_path / "more.pth"), state)


@pytest.mark.parametrize("given, arch", [("resnet34", "resnet18"), ("resnet101", "resnet50")])
def test_a_file_of_a_deeper_resnet_is_another_network(tmp_path: Path, given: str, arch: str) -> None:
    """All entries of the smaller network are in it, with equal shapes."""
    deeper, model = STM(given, **SMALL).state_dict(), STM(arch, **SMALL)
    own = model.state_dict()
    assert all(name in deeper and deeper[name].shape == value.shape for name, value in own.items())
    with pytest.raises(
        WeightsError, match=f"weights of {given} do not fit a {arch} .*unknown: Encoder_M.res"
    ):
        load_weights(model, deeper)
    torch.save(deeper, tmp_path / "deeper.pth")
    message = refused(tmp_path / "deeper.pth", "arch", arch)
    assert f"arch {arch} contradicts" in message and f"with arch {given}" in message


def test_a_refused_file_leaves_the_model_alone(state: dict[str, Tensor]) -> None:
    model = STM("resnet18", **SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError):
        load_weights(model, {name: value for name, value in state.items() if name != "Decoder.pred2.bias"})
    assert same(model, before)


def test_weights_of_another_arch_do_not_fit(state: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match="of resnet18 do not fit a resnet34 network.* more") as error:
        load_weights(STM("resnet34", **SMALL), state)
    assert len(str(error.value)) < 1000  # a long list is cut


@pytest.mark.parametrize("arch", ARCHS)
def test_the_arch_is_told_from_the_names(arch: str) -> None:
    names = json.loads((golden.HERE / f"keys_stm_cycle_{arch}.json").read_text())
    assert guess_arch(names) == arch


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        5,
        {},
        {"state_dict": {}},
        {"state_dict": [1]},
        {"epoch": 3},
        {1: torch.zeros(1)},
        torch.zeros(3),
        {"a": {"b": torch.zeros(1)}},
        {"state": {0: {"step": torch.zeros(1)}}, "param_groups": []},
        None,
    ],
    ids=str,
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert "state dict" in refused(tmp_path / "other.pth") or "named, dense tensors only" in refused(
        tmp_path / "other.pth"
    )


# ---- the weights say what the network is ----

KEYS = ("arch", "keydim", "valdim", "decoder_dim", "norm", "memory_context")
NETWORKS = {
    "small": STM("resnet18", 8, 8, decoder_dim=8),
    "deeper": STM("resnet34", 8, 8, decoder_dim=8),
    "other widths": STM("resnet18", 16, 24, decoder_dim=40),
    "group norm": STM("resnet18", 8, 8, decoder_dim=8, norm="gn"),
    "official": STM("resnet18", 8, 8, context="others", decoder_dim=8),
}


def description(model: STM) -> tuple:
    """What `model` is, from its parts and not from their names."""
    norm = "gn" if isinstance(model.Encoder_Q.bn1, torch.nn.GroupNorm) else "bn"
    widths = (model.KV_M_r4.Key.out_channels, model.KV_M_r4.Value.out_channels)
    arch = {2: "resnet18", 6: "resnet34"}[len(model.Encoder_M.res4)]
    return arch, *widths, model.Decoder.convFM.out_channels, norm, model.Encoder_M.context


def empty_config(folder: Path, *options: str) -> Config:
    (folder / "empty.yaml").write_text("# nothing\n")
    return load_config(folder / "empty.yaml", options)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_describe_the_network(name: str) -> None:
    found = describe_network(NETWORKS[name].state_dict())
    assert astuple(found) == description(NETWORKS[name])
    assert tuple(field.name for field in fields(found)) == KEYS and set(KEYS) <= KEYS_OF_CONFIG.keys()
    assert found.pad_to == (16 if name == "official" else 1)


@pytest.mark.parametrize("kind", ["stm_cycle_resnet18", "stm_cycle_resnet50", "stm_official_resnet50"])
def test_released_files_are_recognised(kind: str) -> None:
    shapes = json.loads((golden.HERE / f"keys_{kind}.json").read_text())
    found = describe_network({name: torch.empty(shape) for name, shape in shapes.items()})
    context = "others" if "official" in kind else "background"
    assert astuple(found) == (kind.rsplit("_", maxsplit=1)[-1], 128, 512, 256, "bn", context)


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_that_are_not_given_follow_the_file_silently(
    tmp_path: Path, name: str, recwarn: pytest.WarningsRecorder
) -> None:
    torch.save(NETWORKS[name].state_dict(), tmp_path / "w.pth")
    model, _ = build_model(empty_config(tmp_path, "initial", str(tmp_path / "w.pth")), CPU)
    assert description(model) == description(NETWORKS[name]) and same(model, NETWORKS[name].state_dict())
    assert not recwarn.list


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_is_loaded_without_a_config(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": prefixed(NETWORKS[name].state_dict())}, tmp_path / "w.pth")
    model = load_network(tmp_path / "w.pth", freeze_bn=False)
    assert description(model) == description(NETWORKS[name]) and same(model, NETWORKS[name].state_dict())
    assert model.pad_to == (16 if name == "official" else 1) and not model.freeze_bn


def test_the_shipped_weights_are_loaded_without_a_config() -> None:
    found = description(load_network(SHIPPED))
    assert found == ("resnet18", 128, 512, 96, "gn", "background")


@pytest.mark.parametrize(
    "name, key, given, told",
    [
        ("small", "arch", "resnet34", "resnet18"),
        ("small", "arch", "resnet50", "resnet18"),
        ("deeper", "arch", "resnet18", "resnet34"),
        ("small", "keydim", "64", "8"),
        ("small", "valdim", "64", "8"),
        ("small", "decoder_dim", "256", "8"),
        ("group norm", "norm", "bn", "gn"),
        ("small", "norm", "gn", "bn"),
        ("official", "memory_context", "background", "others"),
        ("small", "memory_context", "others", "background"),
    ],
)
def test_a_key_on_the_command_line_that_contradicts_the_file_is_an_error(
    tmp_path: Path, name: str, key: str, given: str, told: str
) -> None:
    """Also where the value is the default: it was asked for."""
    torch.save(NETWORKS[name].state_dict(), tmp_path / "w.pth")
    cfg = empty_config(tmp_path, "initial", str(tmp_path / "w.pth"), key, given)
    with pytest.raises(InputError) as error:
        build_model(cfg, CPU)
    message = str(error.value)
    assert f"command line: {key} {given} contradicts" in message and f"network with {key} {told};" in message
    assert "w.pth" in message and "remove" in message and "\n" not in message


def test_keys_that_agree_with_the_file_may_be_given(
    tmp_path: Path, official: dict[str, Tensor], recwarn: pytest.WarningsRecorder
) -> None:
    torch.save(official, tmp_path / "w.pth")
    options = ["arch", "resnet18", "keydim", "8", "norm", "bn", "memory_context"]
    for context in ("others", "auto"):
        assert same(load(tmp_path / "w.pth", *options, context), official)
    assert not recwarn.list


def test_keys_of_the_yaml_file_give_way_with_one_line(tmp_path: Path) -> None:
    torch.save(NETWORKS["other widths"].state_dict(), tmp_path / "w.pth")
    with pytest.warns(UserWarning) as told:
        model = load(tmp_path / "w.pth")
    assert description(model) == description(NETWORKS["other widths"])
    (line,) = [str(warning.message) for warning in told]
    assert "w.pth" in line and "\n" not in line
    assert "with keydim 16, valdim 24, decoder_dim 40," in line
    assert "keydim 8, valdim 8, decoder_dim 8 of the config file" in line and "arch" not in line


def test_the_papers_config_takes_the_shipped_weights() -> None:
    cfg = load_config(SHIPPED.parents[1] / "config.yaml", ["initial", "shipped"])
    with pytest.warns(
        UserWarning, match="with arch resnet18, which is used instead of arch resnet50"
    ) as told:
        model, _ = build_model(cfg, CPU)
    assert description(model)[0] == "resnet18" and len(told) == 1


def test_resume_follows_the_checkpoint_too(tmp_path: Path) -> None:
    state, path = NETWORKS["group norm"].state_dict(), tmp_path / "run.pth.tar"
    torch.save({**WHOLE, "state_dict": state}, path)
    model, resumed = build_model(empty_config(tmp_path, "resume", str(path)), CPU, resume=True)
    assert same(model, state) and resumed
    with pytest.raises(InputError, match="decoder_dim 96 contradicts .*run.pth.tar.*decoder_dim 8"):
        build_model(empty_config(tmp_path, "resume", str(path), "decoder_dim", "96"), CPU, resume=True)


@pytest.mark.parametrize("entry", ["KV_Q_r4.Key.bias", "KV_Q_r4.Value.bias", "Decoder.convFM.bias"])
def test_a_file_that_does_not_say_what_it_is_is_refused(
    tmp_path: Path, state: dict[str, Tensor], entry: str
) -> None:
    for value in (None, torch.tensor(8.0), torch.zeros(0)):
        wrong = {name: own for name, own in state.items() if name != entry}
        torch.save(wrong if value is None else {**wrong, entry: value}, tmp_path / "wrong.pth")
        assert entry in refused(tmp_path / "wrong.pth")
    layers = {name: own for name, own in state.items() if not name.startswith("Encoder_Q.res4.1")}
    torch.save(layers, tmp_path / "wrong.pth")
    assert "Encoder_Q.res4" in refused(tmp_path / "wrong.pth")


# ---- damaged and dangerous files ----


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False, None], ids=["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["value", "state_dict", "beside"])
def test_a_file_that_would_run_code_is_refused_and_not_run(
    tmp_path: Path, place: str, zipped: bool | None
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    evil = Payload(mark)
    content = {
        "value": {"weight": evil},
        "state_dict": {"state_dict": evil},
        "beside": {"state_dict": {"weight": torch.zeros(1)}, "epoch": evil},
    }[place]
    if zipped is None:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path)
    with pytest.raises(InputError, match="evil.pth"):
        build_model(config(tmp_path, "resume", str(path)), CPU, resume=True)
    assert not mark.exists()
    if zipped is None:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()  # the payload is a real one


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_file_is_named(tmp_path: Path, zipped: bool) -> None:
    """Cut at many places, or with bytes turned over: an InputError, or content that is not the network's."""
    path = tmp_path / "cut.pth"
    torch.save(
        {"a": torch.arange(50.0), "b": {"c": torch.zeros(3, 4)}}, path, _use_new_zipfile_serialization=zipped
    )
    whole = path.read_bytes()
    for length in [0, 1, 2, 5, 10, 30, 64, 100, *range(128, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        refused(path)


def test_files_of_something_else_are_named(tmp_path: Path) -> None:
    for name, content in (
        ("text.pth", b"hello world\n"),
        ("html.pth", b"<html>quota exceeded</html>"),
        ("png.pth", b"\x89PNG\r\n\x1a\n" * 9),
        ("zip.pth", b"PK\x05\x06" + bytes(18)),
        ("empty.pth", b""),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere.pth")
    (tmp_path / "folder.pth").mkdir()
    refused(tmp_path / "folder.pth")


def test_resume_needs_a_whole_training_state(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(
        {"epoch": 1, "state_dict": state, "max_skip": [5, 3], "optimizer": {}}, tmp_path / "released.pth.tar"
    )
    with pytest.raises(InputError, match="released.pth.tar.*best.*history.*rng.*scheduler.*initial") as error:
        build_model(config(tmp_path, "resume", str(tmp_path / "released.pth.tar")), CPU, resume=True)
    assert "\n" not in str(error.value)
    whole = {**WHOLE, "epoch": 1}
    for content in ({}, {"weight": 3}):
        torch.save({**whole, "state_dict": content}, tmp_path / "hollow.pth.tar")
        with pytest.raises(InputError, match="hollow.pth.tar"):
            build_model(config(tmp_path, "resume", str(tmp_path / "hollow.pth.tar")), CPU, resume=True)
    torch.save({**whole, "state_dict": state}, tmp_path / "whole.pth.tar")
    model, resumed = build_model(
        config(tmp_path, "resume", str(tmp_path / "whole.pth.tar")), CPU, resume=True
    )
    assert same(model, state) and resumed["epoch"] == 1


# ---- written whole or not at all ----


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "folder" / "recurrent.pth.tar"
    save_checkpoint(path, {"epoch": 1})
    old = path.read_bytes()
    assert read_file(path) == {"epoch": 1}

    def fail(content: object, file) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(InputError, match="No space"):
            save_checkpoint(path, {"epoch": 2})
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]
    save_checkpoint(path, {"epoch": 2})
    assert read_file(path) == {"epoch": 2} and list(path.parent.iterdir()) == [path]


def test_until_the_new_file_is_whole_the_old_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "recurrent.pth.tar", []
    save_checkpoint(path, {"epoch": 1})
    save = torch.save

    def look(content: object, file) -> None:
        save(content, file)
        seen.append(read_file(path))

    monkeypatch.setattr(torch, "save", look)
    save_checkpoint(path, {"epoch": 2})
    assert seen == [{"epoch": 1}] and read_file(path) == {"epoch": 2}


# ---- ImageNet ----


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Tensor], list[str]]:
    """What a download would bring, and the addresses that were asked for it."""
    weights, asked = fill_(resnet.resnet18(weights=None).state_dict()), []

    def download(url: str, *_, **__) -> dict[str, Tensor]:
        asked.append(url)
        return {name: value.clone() for name, value in weights.items()}

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", download)
    return weights, asked


def test_imagenet_weights_fill_both_encoders(
    tmp_path: Path, imagenet: tuple[dict[str, Tensor], list[str]]
) -> None:
    weights, asked = imagenet
    model, _ = build_model(config(tmp_path), CPU)
    assert len(asked) == 1 and "resnet18" in asked[0]
    stages = {"layer1": "res2", "layer2": "res3", "layer3": "res4"}
    expected = {
        stages.get(name.split(".")[0], name.split(".")[0]) + name[len(name.split(".")[0]) :]: value
        for name, value in weights.items()
        if name.split(".")[0] not in ("layer4", "fc")
    }
    for encoder in (model.Encoder_M, model.Encoder_Q):
        own = encoder.state_dict()
        assert set(own) - set(expected) <= {"mean", "std", "conv1_m.weight", "conv1_bg.weight"}
        for name, value in expected.items():
            assert torch.equal(own[name], value), name
    assert model.Encoder_M.conv1_m.weight.abs().sum() > 0


def test_nothing_is_downloaded_where_a_file_brings_the_weights(
    tmp_path: Path, state: dict[str, Tensor], imagenet: tuple[dict[str, Tensor], list[str]]
) -> None:
    torch.save(state, tmp_path / "model.pth")
    assert same(load(tmp_path / "model.pth", "pretrained", "True"), state)
    torch.save({**WHOLE, "state_dict": state}, tmp_path / "run.pth.tar")
    assert same(
        build_model(config(tmp_path, "resume", str(tmp_path / "run.pth.tar")), CPU, resume=True)[0], state
    )
    build_model(config(tmp_path, "pretrained", "False"), CPU)
    assert imagenet[1] == []


def test_without_network_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resnet18.*no network.*pretrained False.*initial") as error:
        build_model(config(tmp_path), CPU)
    assert "\n" not in str(error.value)


def test_a_new_network_is_a_function_of_the_seed(tmp_path: Path) -> None:
    def build(seed: str) -> STM:
        return build_model(config(tmp_path, "pretrained", "False", "seed", seed), CPU)[0]

    one = build("3")
    torch.rand(5)
    assert same(build("3"), one.state_dict()) and not same(build("4"), one.state_dict())


def test_reading_weights_and_training_states_is_the_same_file(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    """What training saves is what `initial` takes."""
    content = {**WHOLE, "epoch": 2, "state_dict": state, "best": 0.5}
    save_checkpoint(tmp_path / "run.pth.tar", content)
    assert read_training_state(tmp_path / "run.pth.tar")["epoch"] == 2
    assert read_weights(tmp_path / "run.pth.tar").keys() == state.keys()


@pytest.mark.parametrize(("norm", "last"), [("bn", True), ("gn", False)])
def test_the_layout_is_that_of_the_norms_fast_kernels(tmp_path: Path, norm: str, last: bool) -> None:
    model = build_model(config(tmp_path, "pretrained", "False", "norm", norm), CPU)[0]
    assert _is_channels_last(model) == last
    assert _is_channels_last(for_inference(model))  # pooling on CPUs is many times faster in this layout


def _is_channels_last(model: STM) -> bool:
    return model.Decoder.RF3.convFS.weight.is_contiguous(memory_format=torch.channels_last)


# ---- files from elsewhere ----


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "number", [np.float64(0.5), np.float32(2), np.int64(3), np.bool_(True)], ids=lambda n: type(n).__name__
)
def test_numpy_numbers_beside_the_weights_are_read(tmp_path: Path, number: np.generic, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save({"best": number}, path, _use_new_zipfile_serialization=zipped)
    assert read_file(path)["best"] == number


@pytest.mark.parametrize(
    "thing, name",
    [
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (CfgNode({"lr": 1}), "yacs.config.CfgNode"),
        (Path("data"), "pathlib"),
        (defaultdict(int), "collections.defaultdict"),
        (np.zeros(2), "numpy"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_an_object_of_another_class_is_named_with_the_remedy(
    tmp_path: Path, thing: object, name: str
) -> None:
    torch.save({"state_dict": {}, "args": thing}, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=f"w.pth.*an object of class {name}.*save the weights alone"
    ) as error:
        read_file(tmp_path / "w.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("start", ["<!DOCTYPE html>", "\n <html lang='en'>", "<HTML>"])
def test_a_web_page_under_the_name_of_weights_is_told(tmp_path: Path, start: str) -> None:
    (tmp_path / "w.pth").write_text(f"{start}<body>quota exceeded</body></html>")
    with pytest.raises(InputError, match="w.pth: this is a web page.*download the file again"):
        read_file(tmp_path / "w.pth")


def test_safetensors_files_are_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "w.safetensors")
    assert same(load(tmp_path / "w.safetensors"), state)
    (tmp_path / "w.safetensors").write_bytes(b"\xffdamaged")
    with pytest.raises(InputError, match="w.safetensors: expected an intact"):
        read_file(tmp_path / "w.safetensors")


def test_fp16_on_a_cpu_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'amp': fp16.*ten times.*bf16"):
        build_model(config(tmp_path, "pretrained", "False", "amp", "fp16"), CPU)


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "network", "net"])
@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "model.", "module.module.", "module._orig_mod.", "net.module."]
)
def test_usual_keys_and_prefixes_are_recognized(
    tmp_path: Path, state: dict[str, Tensor], key: str | None, prefix: str
) -> None:
    content = {prefix + name: value for name, value in state.items()}
    torch.save({key: content, "epoch": 3} if key else content, tmp_path / "w.pth")
    assert same(load(tmp_path / "w.pth"), state)


def test_a_file_that_holds_something_else_under_such_a_key_is_refused(tmp_path: Path) -> None:
    torch.save({"model": "resnet50", "epoch": 3}, tmp_path / "w.pth")
    assert "named, dense tensors only" in refused(tmp_path / "w.pth")


def test_a_network_from_a_file_costs_no_random_numbers(tmp_path: Path) -> None:
    torch.save(small_state_dict(), tmp_path / "w.pth")
    before = torch.get_rng_state()
    model = load_network(tmp_path / "w.pth")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in small_state_dict().items())
