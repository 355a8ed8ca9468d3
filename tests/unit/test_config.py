"""The configuration: the original's keys and files, the command line, where values come from, and errors."""

import pickle
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from dataset.loader import ClipLoader
from dataset.sampling import ClipSettings
from libs.app import config
from libs.app.build import settings_from
from libs.app.config import Source, load_config, parse_arguments
from libs.app.defaults import DEAD_KEYS, DEFAULTS, KEYS, RENAMED, SECTIONS, page
from libs.core.errors import InputError
from libs.evaluation.inference import InferenceSettings
from libs.training.optim import Schedule
from libs.training.run import RunSettings
from libs.training.trainer import StepSettings
from tests.helpers.subprocess_runner import ROOT

ORIGINAL = {  # the keys of the original, and its defaults
    "trainset": ["DAVIS17", "VOS"],
    "valset": "DAVIS17",
    "datafreq": [5, 1],
    "input_size": (240, 427),
    "sampled_frames": 3,
    "max_skip": [5, 3],
    "samples_per_video": 1,
    "data_backend": "PIL",
    "keydim": 128,
    "valdim": 512,
    "arch": "resnet50",
    "save_freq": 5,
    "epochs_per_increment": 5,
    "epochs": 240,
    "train_batch": 1,
    "learning_rate": 1e-5,
    "gamma": 0.1,
    "milestone": [],
    "momentum": (0.9, 0.999),
    "solver": "adam",
    "weight_decay": 5e-4,
    "iter_size": 4,
    "loss": "both",
    "mode": "recurrent",
    "iou_threshold": 0.65,
    "epoch_per_test": 1,
    "correction_rate": 150,
    "correction_momentum": 0.9,
    "loop": 10,
    "checkpoint": "ckpt",
    "initial": "",
    "resume": "",
    "video_path": "",
    "mask_path": "",
    "gpu_id": 0,
    "workers": 1,
    "save_indexed_format": "index",
    "output_dir": "output",
    "multi_gpu_ids": [0, 1, 2, 3],
    "backend": "nccl",
    "init_method": "env://",
    "split_k": 3,
    "alpha": 1.25,
    "lambdas": [1.0, 0.4],
}
NEW = {"root": "data", "pretrained": True, "seed": 0}
RECIPE = {
    **{
        key: ORIGINAL[key]
        for key in (
            "trainset",
            "valset",
            "datafreq",
            "input_size",
            "sampled_frames",
            "samples_per_video",
            "keydim",
            "valdim",
            "arch",
            "save_freq",
            "epochs_per_increment",
            "epochs",
            "train_batch",
            "learning_rate",
            "momentum",
            "solver",
            "weight_decay",
            "iter_size",
            "loss",
            "mode",
            "iou_threshold",
            "epoch_per_test",
            "loop",
            "save_indexed_format",
        )
    },
    "max_skip": [50, 10],
    "correction_rate": 180,
}

OLD_FILE = """\
# as somebody had it for the original
trainset: DAVIS17
valset: DAVIS17
datafreq: [5]
input_size: [240, 427]
sampled_frames: 3
max_skip: [5]
samples_per_video: 2
data_backend: 'PIL'
keydim: 128
valdim: 512
arch: 'resnet18'
save_freq: 5
epochs_per_increment: 5
epochs: 260
train_batch: 1
learning_rate: 1e-5
gamma: 0.1
milestone: [120, 200]
momentum: [0.9, 0.999]
solver: 'adam'
weight_decay: 5e-4
iter_size: 4
loss: 'both'
mode: 'threshold'
iou_threshold: 0.65
epoch_per_test: 1
correction_rate: 150
correction_momentum: 0.9
loop: 10
checkpoint: 'ckpt'
initial: ''
resume: ''
video_path: ''
mask_path: ''
gpu_id: 0
workers: 4
save_indexed_format: 'index'
output_dir: 'output'
multi_gpu_ids: [0, 1, 2, 3]
backend: 'nccl'
init_method: 'env://'
split_k: 3
alpha: 1.25
lambdas: [1.0, 0.4]
"""


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A config file that changes nothing."""
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    return path


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "written.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path, *options: str) -> str:
    """The one line with which a config is refused."""
    with pytest.raises(InputError) as error:
        load_config(path, options)
    message = str(error.value)
    assert message and "\n" not in message
    return message


# ---- defaults and the recipe ----


def test_every_key_of_the_original_is_there_with_its_default(empty: Path) -> None:
    cfg = load_config(empty)
    for key, value in {**ORIGINAL, **NEW}.items():
        assert cfg[key] == value and isinstance(cfg[key], (type(value), float)), key


def test_defaults_are_no_shared_lists(empty: Path) -> None:
    load_config(empty).max_skip.append(99)
    assert load_config(empty).max_skip == KEYS["max_skip"].default == [5, 3]


def test_config_yaml_is_the_papers_recipe() -> None:
    cfg = load_config(ROOT / "config.yaml")
    assert {key: cfg[key] for key in RECIPE} == RECIPE
    assert cfg.pretrained and cfg.freeze_bn and cfg.cycle and cfg.gpu_id == 0
    said = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert set(RECIPE) <= set(said)  # the recipe stands in the file, not in defaults that may change


@pytest.mark.parametrize("arch, backend", [("resnet18", "DALI"), ("resnet50", "PIL")])
def test_the_recipes_of_the_backbones_are_the_papers_too(arch: str, backend: str) -> None:
    """Which back end trained which: the original's table of released weights."""
    cfg, paper = load_config(ROOT / f"configs/paper_{arch}.yaml"), load_config(ROOT / "config.yaml")
    assert {**cfg, "checkpoint": ""} == {**paper, "arch": arch, "data_backend": backend, "checkpoint": ""}


def test_the_recipe_of_the_released_resnet18_is_the_papers_with_the_augmentation_of_dali() -> None:
    path = ROOT / "configs/release_resnet18.yaml"
    cfg, paper = load_config(path), load_config(ROOT / "config.yaml")
    changed = {"arch": "resnet18", "data_backend": "DALI", "augmentation": "dali", "checkpoint": ""}
    assert {**cfg, "checkpoint": ""} == {**paper, **changed}
    assert set(RECIPE) <= set(yaml.safe_load(path.read_text()))


def test_an_unknown_augmentation_is_refused(empty: Path) -> None:
    with pytest.raises(InputError, match="key 'augmentation': expected one of paper, dali"):
        load_config(empty, ["augmentation", "dalli"])


@pytest.mark.parametrize(
    "name",
    sorted(
        p.relative_to(ROOT).as_posix()
        for p in ROOT.glob("**/*.yaml")
        if not {".venv", "runs", "data", "plans"} & set(p.relative_to(ROOT).parts)
    ),
)
def test_every_config_file_of_the_project_loads_without_a_warning(
    name: str, recwarn: pytest.WarningsRecorder
) -> None:
    load_config(ROOT / name)
    assert not recwarn.list


def test_the_config_is_frozen(empty: Path) -> None:
    cfg = load_config(empty)
    with pytest.raises(AttributeError):
        cfg.epochs = 3
    assert cfg.epochs == 240


# ---- old files ----


def test_a_file_written_for_the_original_loads_unchanged(tmp_path: Path) -> None:
    assert set(yaml.safe_load(OLD_FILE)) == set(ORIGINAL)
    with pytest.warns(UserWarning, match="has no effect") as warned:
        cfg = load_config(written(tmp_path, OLD_FILE))
    assert cfg.trainset == ["DAVIS17"] and cfg.datafreq == [5] and cfg.max_skip == [5]
    assert cfg.input_size == (240, 427) and cfg.momentum == (
        0.9,
        0.999,
    )  # tuples, as those who take them expect
    assert cfg.learning_rate == 1e-5 and cfg.weight_decay == 5e-4 and cfg.correction_rate == 150.0
    assert all(type(cfg[key]) is float for key in ("learning_rate", "weight_decay", "correction_rate"))
    assert cfg.milestone == [120, 200] and cfg.mode == "threshold" and cfg.arch == "resnet18"
    assert sorted(key for key in DEAD_KEYS for w in warned if f"'{key}'" in str(w.message)) == sorted(
        DEAD_KEYS
    )
    assert len(warned) == len(DEAD_KEYS)  # each once


def test_one_training_set_with_the_lists_of_two_loads(tmp_path: Path) -> None:
    """The original went along trainset and let further entries of the other lists be."""
    path = written(tmp_path, "trainset: DAVIS17\ndatafreq: [5, 1]\nmax_skip: [50, 10]\n")
    with pytest.warns(UserWarning, match="datafreq|max_skip") as warned:
        cfg = load_config(path)
    assert cfg.datafreq == [5] and cfg.max_skip == [50] and len(warned) == 2


def test_naming_one_set_needs_no_more_keys(empty: Path, recwarn: pytest.WarningsRecorder) -> None:
    cfg = load_config(empty, ["trainset", "DAVIS16"])
    assert cfg.trainset == ["DAVIS16"] and cfg.datafreq == [5] and cfg.max_skip == [5]
    assert not recwarn.list


@pytest.mark.parametrize("key", DEAD_KEYS)
def test_a_dead_key_warns_once_wherever_it_stands(tmp_path: Path, empty: Path, key: str) -> None:
    value = yaml.safe_dump(ORIGINAL[key], default_flow_style=True).splitlines()[0]
    for path, options in ((written(tmp_path, f"{key}: {value}\n"), ()), (empty, (key, value))):
        with pytest.warns(UserWarning, match=key) as warned:
            load_config(path, options)
        assert len(warned) == 1


# ---- KEY VALUE ----

ACCEPTED = [
    ("epochs", "3", 3),
    ("gpu_id", "-1", -1),
    ("loop", "0", 0),
    ("learning_rate", "1e-4", 1e-4),
    ("learning_rate", "1", 1.0),
    ("weight_decay", "5E-4", 5e-4),
    ("gamma", ".5", 0.5),
    ("pretrained", "False", False),
    ("pretrained", "true", True),
    ("freeze_bn", "false", False),
    ("cycle", "True", True),
    ("arch", "resnet18", "resnet18"),
    ("output_dir", "5", "5"),
    ("root", "True", "True"),
    ("initial", "a b: [c", "a b: [c"),
    ("init_method", "env://", "env://"),
    ("resume", "", ""),
    ("input_size", "(96, 160)", (96, 160)),
    ("input_size", "[96,160]", (96, 160)),
    ("input_size", "96,160", (96, 160)),
    ("momentum", "(0.5, 0.9)", (0.5, 0.9)),
    ("momentum", "[0, 0.9]", (0.0, 0.9)),
    ("milestone", "[]", []),
    ("milestone", "[10, 20]", [10, 20]),
    ("milestone", "10", [10]),
    ("milestone", "(10,)", [10]),
    ("trainset", "DAVIS16", ["DAVIS16"]),
    ("trainset", "[VOS, DAVIS16]", ["VOS", "DAVIS16"]),
    ("trainset", "['VOS', 'DAVIS16']", ["VOS", "DAVIS16"]),
    ("trainset", "VOS,DAVIS16", ["VOS", "DAVIS16"]),
    ("datafreq", "[2, 3]", [2, 3]),
    ("multi_gpu_ids", "0", [0]),
    ("lambdas", "[1, 2e-1]", [1.0, 0.2]),
]


@pytest.mark.filterwarnings("ignore:.*has no effect")
@pytest.mark.parametrize("key, text, value", ACCEPTED)
def test_options_are_read_as_the_keys_type(empty: Path, key: str, text: str, value: object) -> None:
    found = load_config(empty, [key, text])[key]
    assert found == value and type(found) is type(value)
    if isinstance(value, (list, tuple)):
        assert [type(item) for item in found] == [type(item) for item in value]


def test_options_win_over_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: 7\nloop: 2\n")
    cfg = load_config(path, ["epochs", "8", "epochs", "9"])
    assert (cfg.epochs, cfg.loop, cfg.iter_size) == (9, 2, 4)


def test_an_option_without_a_value_is_named(empty: Path) -> None:
    assert "'loop'" in refused(empty, "epochs", "3", "loop")


# ---- refusals ----


@pytest.mark.parametrize(
    "wrong, near",
    [
        ("epoch", "epochs"),
        ("learning_rat", "learning_rate"),
        ("Trainset", "trainset"),
        ("max_skips", "max_skip"),
        ("input-size", "input_size"),
    ],
)
def test_an_unknown_key_suggests_the_nearest_one(tmp_path: Path, empty: Path, wrong: str, near: str) -> None:
    path = written(tmp_path, f"{wrong}: 3\n")
    for message, source in ((refused(path), str(path)), (refused(empty, wrong, "3"), "command line")):
        assert source in message and f"'{wrong}'" in message and f"'{near}'" in message


@pytest.mark.parametrize(
    "key, text",
    [
        ("epochs", "many"),
        ("epochs", "2.5"),
        ("epochs", "True"),
        ("epochs", "[3]"),
        ("epochs", "[3"),
        ("epochs", ""),
        ("seed", "2020-99-99"),
        ("learning_rate", "fast"),
        ("learning_rate", "[1]"),
        ("learning_rate", "True"),
        ("pretrained", "1"),
        ("pretrained", "maybe"),
        ("input_size", "(240)"),
        ("input_size", "(240, wide)"),
        ("input_size", "(240, 'wide)"),
        ("input_size", "(240.5, 427)"),
        ("momentum", "(0.9,)"),
        ("trainset", "[1, 2]"),
        ("trainset", "{a: b}"),
        ("datafreq", "[x, y]"),
        ("milestone", "{1: 2}"),
    ],
)
def test_a_wrong_type_names_the_key(empty: Path, key: str, text: str) -> None:
    assert f"'{key}'" in refused(empty, key, text)


@pytest.mark.parametrize(
    "line",
    [
        "epochs: '3x'",
        "arch: 50",
        "root:",
        "valset: [DAVIS17]",
        "input_size: 240",
        "seed: null",
        "pretrained: 0",
        "max_skip: [5, '3 frames']",
        "momentum: 0.9",
    ],
)
def test_a_wrong_type_in_the_file_names_the_key(tmp_path: Path, line: str) -> None:
    assert f"'{line.split(':', maxsplit=1)[0]}'" in refused(written(tmp_path, line + "\n"))


@pytest.mark.parametrize(
    "key, text",
    [
        ("arch", "resnet152"),
        ("mode", "soft"),
        ("loss", "dice"),
        ("solver", "lion"),
        ("backend", "mpi"),
        ("schedule", "step"),
        ("ema", "1.0"),
        ("keep", "0"),
        ("data_backend", "pil"),
        ("save_indexed_format", "rgb"),
        ("demo_format", "avi"),
        ("memory_context", "none"),
        ("val_split", "tset"),
        ("input_size", "(240, 8)"),
        ("input_size", "(1, 2, 3)"),
        ("momentum", "(0.9, 1.0)"),
        ("momentum", "(-0.1, 0.9)"),
        ("sampled_frames", "1"),
        ("save_freq", "0"),
        ("epochs", "0"),
        ("iter_size", "0"),
        ("train_batch", "-1"),
        ("workers", "-1"),
        ("learning_rate", "-1e-5"),
        ("learning_rate", "nan"),
        ("iou_threshold", "1.5"),
        ("correction_beta", "1.0"),
        ("loop", "-1"),
        ("gpu_id", "-2"),
        ("fps", "0"),
        ("trainset", "[]"),
        ("datafreq", "[0, 1]"),
        ("max_skip", "[0, 3]"),
        ("seed", "-1"),
    ],
)
def test_a_value_out_of_range_names_the_key_and_what_it_expects(empty: Path, key: str, text: str) -> None:
    message = refused(empty, key, text)
    assert f"'{key}'" in message and "expected" in message


def test_lists_shorter_than_the_training_sets_are_refused(empty: Path) -> None:
    for options in (["datafreq", "[5]"], ["max_skip", "7"], ["trainset", "[DAVIS16, DAVIS17, VOS]"]):
        message = refused(empty, *options)
        assert all(key in message for key in ("trainset", "datafreq", "max_skip"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        assert str(path) in refused(path)


@pytest.mark.parametrize(
    "text",
    [
        "- epochs\n- 3\n",
        "epochs\n",
        "epochs: [3\n",
        "a: b: c\n",
        b"\xff\xfe\x00epochs",
        "seed: 2020-99-99\n",
        "epochs: 3\n--- \nloop: 1\n",
    ],
)
def test_a_file_that_is_no_plain_mapping_is_named(tmp_path: Path, text: str | bytes) -> None:
    path = written(tmp_path, text)
    assert str(path) in refused(path)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/apply:os.mkdir"])
def test_yaml_that_would_run_code_is_refused_and_not_run(tmp_path: Path, empty: Path, tag: str) -> None:
    mark = tmp_path / "mark"
    argument = f"mkdir {mark}" if tag.endswith("system") else str(mark)
    path = written(tmp_path, f'epochs: {tag} ["{argument}"]\n')
    assert str(path) in refused(path)
    assert "'epochs'" in refused(empty, "epochs", f'{tag} ["{argument}"]')
    assert not mark.exists()
    yaml.unsafe_load(path.read_text())  # the payload is a real one
    assert mark.exists()


# ---- the command line ----


def test_the_command_line_reads_cfg_and_pairs(tmp_path: Path, empty: Path) -> None:
    path = written(tmp_path, "epochs: 7\n")
    assert parse_arguments("what", empty, ["--cfg", str(path), "loop", "1"]).epochs == 7
    assert parse_arguments("what", path, ["gpu_id", "-1"]).gpu_id == -1
    assert parse_arguments("what", path, []).epochs == 7  # the script's own file


def test_help_lists_every_key(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments("What the script does.", empty, ["--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert "What the script does." in told and "--cfg" in told
    words = " ".join(told.split())
    for name, key in KEYS.items():
        meaning = " ".join(key.meaning.split())
        assert f" {name} = {key.default!r} {meaning} Expects {key.expected}." in words


def test_the_page_of_all_keys_is_up_to_date() -> None:
    if (ROOT / "docs/configuration.md").read_text(encoding="utf-8") != page():
        pytest.fail("out of date; run: python3 -m libs.app.defaults > docs/configuration.md")


def test_each_key_is_in_one_section_and_says_what_it_means() -> None:
    names = [name for keys in SECTIONS.values() for name in keys]
    assert len(names) == len(set(names)) == len(KEYS)
    for name, key in KEYS.items():
        assert key.meaning[-1] == "." and key.expected, name
        assert key.demo is None or type(key.demo) is type(key.default), name
        for default in (key.default, key.default_of(demo=True)):
            assert not key.check or key.check.accepts(default), name


# ---- where a value came from, and keys with another name today ----


SETTINGS = [ClipSettings, ClipLoader, InferenceSettings, RunSettings, Schedule, StepSettings]


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_default_of_settings_is_that_of_its_key(kind: type) -> None:
    for field in fields(kind):
        # None stands for a part that is left out, which no key holds.
        if field.name in KEYS and field.default not in (MISSING, None):
            default = KEYS[field.name].default
            assert field.default == (tuple(default) if isinstance(default, list) else default), field.name


def test_settings_without_a_key_or_a_value_are_refused() -> None:
    with pytest.raises(TypeError, match=r"RunSettings: .*\['path'\]"):
        settings_from(RunSettings, DEFAULTS)


def test_the_config_knows_where_each_value_came_from(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: 7\nloop: 10\n")
    cfg = load_config(path, ["epochs", "8", "arch", "resnet50"])
    assert cfg.source("epochs") is Source.COMMAND_LINE
    assert cfg.source("arch") is Source.COMMAND_LINE  # although it is the default
    assert cfg.source("loop") is Source.FILE
    assert cfg.source("iter_size") is Source.DEFAULT
    assert set(cfg) == set(KEYS)  # the sources are no key
    copy = pickle.loads(pickle.dumps(cfg))
    assert copy == cfg and copy.source("loop") is Source.FILE


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key epochs once had other names."""
    monkeypatch.setattr(config, "RENAMED", {"num_epochs": "epochs", "passes": "epochs"})


@pytest.mark.usefixtures("renamed")
def test_the_former_name_of_a_key_works_with_a_warning(tmp_path: Path, empty: Path) -> None:
    path = written(tmp_path, "num_epochs: 7\n")
    with pytest.warns(UserWarning, match="written.yaml: key 'num_epochs' is now called 'epochs'") as told:
        cfg = load_config(path)
    assert cfg.epochs == 7 and cfg.source("epochs") is Source.FILE and len(told) == 1
    with pytest.warns(UserWarning, match="command line: key 'num_epochs' is now called 'epochs'") as told:
        cfg = load_config(empty, ["num_epochs", "8"])
    assert cfg.epochs == 8 and cfg.source("epochs") is Source.COMMAND_LINE and len(told) == 1
    with pytest.warns(UserWarning, match="written.yaml"):
        assert load_config(path, ["epochs", "9"]).epochs == 9


@pytest.mark.usefixtures("renamed")
@pytest.mark.filterwarnings("ignore:.*is now called")
@pytest.mark.parametrize("other", ["epochs", "passes"])
@pytest.mark.parametrize("swap", [False, True])
def test_two_names_of_one_key_are_refused(tmp_path: Path, empty: Path, other: str, swap: bool) -> None:
    names = [other, "num_epochs"] if swap else ["num_epochs", other]
    path = written(tmp_path, "".join(f"{name}: 3\n" for name in names))
    for message in (refused(path), refused(empty, names[0], "3", names[1], "3")):
        assert "'epochs'" in message and "remove one" in message


@pytest.mark.usefixtures("renamed")
def test_a_wrong_value_under_a_former_name_names_the_key_of_today(empty: Path) -> None:
    with pytest.warns(UserWarning, match="num_epochs"):
        assert "'epochs'" in refused(empty, "num_epochs", "many")


def test_former_names_lead_to_keys() -> None:
    assert set(RENAMED.values()) <= set(KEYS) and not set(RENAMED) & set(KEYS)


@pytest.mark.parametrize("text", ["5e9", "-5e9", ".inf", "-.inf", ".nan"])
def test_no_number_is_infinite_or_absurd(empty: Path, text: str) -> None:
    assert "'learning_rate'" in (message := refused(empty, "learning_rate", text)) and "4e+09" in message
    assert "'milestone'" in refused(empty, "milestone", "[5000000000]")
