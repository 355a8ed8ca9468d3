"""Configs that are wrong, row by row: each row says which words the error must contain."""

from pathlib import Path

import pytest
import torch

from libs.app.config import load_config
from libs.core.errors import InputError
from tests.helpers import fake_datasets
from tests.helpers.small_network import small
from tests.helpers.subprocess_runner import run_in_process

CONFIG: dict[
    str, tuple[str | bytes | None, list[str], list[str]]
] = {  # content of the file (None: no file), options, words
    "missing file": (None, [], ["c.yaml", "does not exist"]),
    "not YAML": ("a: [1", [], ["c.yaml", "not plain YAML"]),
    "no keys": ("- 1\n- 2", [], ["c.yaml", "key: value"]),
    "not text": (b"\xff\xfe\x00\x01", [], ["c.yaml"]),
    "object tag": (
        "root: !!python/object/apply:os.system ['touch {root}/pwned']",
        [],
        ["c.yaml", "not plain YAML"],
    ),
    "unknown key": ("epoch: 3", [], ["'epoch'", "'epochs'"]),
    "unknown option": ("", ["learning_rat", "1"], ["'learning_rat'", "'learning_rate'"]),
    "wrong type": ("epochs: many", [], ["'epochs'", "whole number"]),
    "wrong type of a list": ("datafreq: [a, b]", [], ["'datafreq'", "whole number"]),
    "bool for a number": ("epochs: true", [], ["'epochs'"]),
    "number for a text": ("arch: 3", [], ["'arch'", "text"]),
    "a dash too late": ("", ["epochs", "1", "--cfg", "x"], ["'--cfg'", "before"]),
    "an equals sign": ("", ["epochs=1"], ["'epochs=1'", "epochs 1"]),
    "odd options": ("", ["epochs"], ["'epochs'", "pairs"]),
    "negative size": ("input_size: (-240, 427)", [], ["'input_size'"]),
    "zero size": ("input_size: (0, 0)", [], ["'input_size'"]),
    "one side": ("input_size: 240", [], ["'input_size'"]),
    "zero epochs": ("epochs: 0", [], ["'epochs'"]),
    "zero batch": ("train_batch: 0", [], ["'train_batch'"]),
    "negative rate": ("learning_rate: -1.0", [], ["'learning_rate'"]),
    "rate not a number": ("learning_rate: .nan", [], ["'learning_rate'"]),
    "infinite rate": ("learning_rate: .inf", [], ["'learning_rate'"]),
    "unknown arch": ("arch: resnet19", [], ["'arch'", "resnet18"]),
    "unknown mode": ("mode: recurent", [], ["'mode'", "recurrent"]),
    "unknown loader": ("data_backend: NUMPY", [], ["'data_backend'", "DALI"]),
    "unknown solver": ("solver: lion", [], ["'solver'", "adamw"]),
    "unequal lists": ("trainset: [DAVIS17, VOS]\ndatafreq: [5]", [], ["trainset", "datafreq", "max_skip"]),
    "empty list": ("trainset: []", [], ["'trainset'"]),
    "null": ("root: null", [], ["'root'", "text"]),
    "odd tag": ("epochs: !!bool maybe", [], ["c.yaml", "not plain YAML"]),
    "not a date": ("root: !!timestamp x", [], ["c.yaml", "not plain YAML"]),
    "400 digits": ("learning_rate: 1" + "0" * 400, [], ["'learning_rate'"]),
    "a seed too large": ("seed: 18446744073709551616", [], ["'seed'"]),
    "infinite scale": ("scales: [.inf]", [], ["'scales'"]),
    "scale of no pixels": ("input_size: (32, 32)\nscales: [0.1]", [], ["'input_size'", "'scales'"]),
    "scale not a number": ("tta_scales: [1.0, .nan]", [], ["'tta_scales'"]),
    "infinite sharpness": ("sharpness: .inf", [], ["'sharpness'"]),
    "NUL in a path": ('output_dir: "a\\0b"', [], ["'output_dir'", "NUL"]),
    "group norm from ImageNet": ("norm: gn", [], ["'norm'", "pretrained False"]),
    "overlays for a server": (
        "submission: True\nsave_indexed_format: segmentation",
        [],
        ["'submission'", "index"],
    ),
    "unknown memory rule": ("memory_rule: newest", [], ["'memory_rule'", "surprise", "newest"]),
    "all frames, and a bound": (
        "memory_frames: 20",
        ["memory_rule", "all"],
        ["'memory_rule'", "memory_frames 20", "memory_rule even"],
    ),
    "even without a bound": ("memory_rule: even", [], ["'memory_rule'", "memory_frames 0", "for example 20"]),
    "surprise without a bound": ("memory_rule: surprise", [], ["'memory_rule'", "set memory_frames"]),
    "a bound of two frames": ("memory_frames: 2", [], ["'memory_frames'", "at least 3"]),
    "top_k below 0": ("top_k: -1", [], ["'top_k'", "at least 0"]),
    "top_k of half a position": ("top_k: 1.5", [], ["'top_k'", "whole number"]),
    "a GPU below 0": ("multi_gpu_ids: [-1]", [], ["'multi_gpu_ids'"]),
}


@pytest.mark.parametrize("name", CONFIG)
def test_a_wrong_config_is_refused(tmp_path: Path, name: str) -> None:
    content, options, words = CONFIG[name]
    path = tmp_path / "c.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content.replace("{root}", str(tmp_path)))
    with pytest.raises(InputError) as caught:
        load_config(path, options)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("script", ["train.py", "test.py", "demo/demo.py"])
def test_an_error_stays_in_its_line(tmp_path: Path, script: str) -> None:
    """A key that contains a line break and the word error makes no second line."""
    (tmp_path / "c.yaml").write_text('"a\\nerror: b": 1')
    run_in_process(script, "--cfg", tmp_path / "c.yaml").check_error("there is no key")


def test_deep_nesting_is_refused_in_a_short_line() -> None:
    run_in_process("train.py", epochs="[" * 5000).check_error("'epochs'")


def test_an_unknown_training_set(tmp_path: Path) -> None:
    run_in_process("train.py", root=tmp_path, trainset="DAVIS71").check_error("DAVIS71", "DAVIS17")


def test_a_gpu_that_is_not_there(tmp_path: Path, weights: Path) -> None:
    """Without CUDA the CPU is used, with a warning; with CUDA the GPU's number must exist."""
    fake_datasets.davis17(tmp_path)
    end = run_in_process("test.py", **small(root=tmp_path, initial=weights, gpu_id=99))
    end.check_error("'gpu_id'", "99") if torch.cuda.is_available() else end.check_success("CUDA")


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    end = run_in_process("test.py", debug=True, initial="nowhere.pth", root=tmp_path, valset="FOLDER")
    assert end.code == 2 and "Traceback" in end.err and end.err.splitlines()[-1].startswith("error: ")
