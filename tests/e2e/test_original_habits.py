"""Habits of users of the original that still work: configs, command lines, folders (docs/differences.md)."""

import os
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from libs.app.build import build_device
from libs.app.config import load_config, parse_arguments
from libs.app.training import check_folders
from libs.core.masks import palette
from libs.training.checkpoint import read_file
from models.stm import STM
from tests.helpers import fake_datasets
from tests.helpers.small_network import NETWORK
from tests.helpers.subprocess_runner import ROOT, Result, run_in_process

CONFIG = """\
trainset: ['DAVIS17', 'VOS']
valset: 'DAVIS17'
datafreq: [5, 1]
input_size: [240, 427]
sampled_frames: 3
max_skip: [50, 10]
samples_per_video: 1
data_backend: 'PIL'
keydim: 128
valdim: 512
arch: 'resnet50'
save_freq: 5
epochs_per_increment: 5
epochs: 240
train_batch: 1
learning_rate: 1e-5
gamma: 0.1
milestone: []
momentum: [0.9, 0.999]
solver: 'adam'
weight_decay: 5e-4
iter_size: 4
loss: 'both'
mode: 'recurrent'
iou_threshold: 0.65
epoch_per_test: 1
correction_rate: 180
correction_momentum: 0.9
loop: 10
checkpoint: 'models'
initial: ''
resume: ''
video_path: ''
mask_path: ''
gpu_id: 0
workers: 1
save_indexed_format: 'index'
output_dir: 'output'
multi_gpu_ids: [0, 1, 2, 3]
backend: 'nccl'
init_method: 'env://'
split_k: 3
alpha: 1.25
lambdas: [1.0, 0.4]
"""
DEMO = """\
input_size: [240, 427]
keydim: 128
valdim: 512
save_freq: 5
correction_rate: 180
loop: 10
initial: 'initial.pth'
video_path: 'demo/data/videos/horsejump-high'
mask_path: 'demo/data/masks/horsejump-high.png'
gpu_id: 0
output_dir: 'demo/output'
"""
QUICK: dict[str, object] = {  # a small network with random weights, and one short epoch
    **NETWORK,
    "trainset": "DAVIS17",
    "input_size": (48, 64),
    "epochs": 1,
    "loop": 0,
    "workers": 0,
    "datafreq": 1,
}


def train(folder: Path, *arguments: object, **keys: object) -> Result:
    """Run train.py with `folder` as the working directory."""
    return run_in_process("train.py", *arguments, cwd=folder, **{**QUICK, **keys})


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# ---- configs and command lines -------------------------------------------------------------------


def test_the_originals_config_loads_unchanged_and_its_dead_keys_are_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as told:
        cfg = load_config(Path(written(tmp_path / "config.yaml", CONFIG)))
    dead = sorted(str(w.message).split("'")[1] for w in told)
    assert dead == ["alpha", "correction_momentum", "lambdas", "split_k"]
    assert cfg.correction_beta == 0 and any("correction_beta" in str(w.message) for w in told)


def test_names_of_dali_data_sets_are_read_as_ours(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "c.yaml", "trainset: [DALIDAVIS17, DALIVOS]\nvalset: DALIDAVIS17\n"))
    with pytest.warns(UserWarning) as told:
        cfg = load_config(path)
    assert [str(warning.message) for warning in told] == [
        f"data set '{name}' is read as {own}; set data_backend DALI to load it with DALI"
        for name, own in (("DALIDAVIS17", "DAVIS17"), ("DALIVOS", "VOS"))
    ]
    assert list(cfg.trainset) == ["DAVIS17", "VOS"] and cfg.valset == "DAVIS17" and cfg.data_backend == "PIL"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(load_config(path, ["data_backend", "DALI"]).trainset) == ["DAVIS17", "VOS"]


@pytest.mark.parametrize("argument", [["--local_rank", "2"], ["--local_rank=2"], ["--local-rank=2"]])
def test_the_old_launchers_argument_is_accepted(
    tmp_path: Path, argument: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "7")
    monkeypatch.delenv("LOCAL_RANK")
    path = written(tmp_path / "c.yaml", "epochs: 3\n")
    assert parse_arguments("what", Path(path), [*argument, "--cfg", path, "epochs", "4"]).epochs == 4
    assert os.environ["LOCAL_RANK"] == "2"


def test_a_gpu_number_of_another_machine_is_gpu_0_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    with pytest.warns(UserWarning, match="'gpu_id': there is no GPU 1, using GPU 0"):
        assert build_device(1) == torch.device("cuda", 0)


def test_resume_wins_over_initial(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "c.yaml", "initial: a.pth\nresume: b.pth\n"))
    with pytest.warns(UserWarning, match="'initial' is ignored, because 'resume'"):
        assert load_config(path).resume == "b.pth"


# ---- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Train one epoch with the original's config, after a test.py that left records and a table."""
    root = tmp_path_factory.mktemp("trained")
    fake_datasets.davis17(root)
    results = root / "output/DAVIS17"
    (results / ".done").mkdir(parents=True)
    (results / ".done/duo.json").write_text("{}")
    (results / ".done/other.json").write_text("{}")
    (results / "scores.csv").write_text("old")
    config = written(root / "config.yaml", CONFIG)
    end = train(root, "--cfg", config, root=root)
    end.check_success()
    return root, end


def test_validation_writes_its_masks_where_test_py_does(trained: tuple[Path, Result]) -> None:
    root, _ = trained
    masks = sorted((root / "output/DAVIS17/duo").glob("*.png"))
    assert [path.name for path in masks] == ["00000.png", "00001.png", "00002.png", "00003.png"]
    first = Image.open(masks[0])
    assert first.size == fake_datasets.SIZE[::-1] and first.getpalette()[:6] == palette()[:2].ravel().tolist()
    assert np.array_equal(np.array(first), fake_datasets.scene([1, 2])[1])


def test_records_and_tables_that_no_longer_hold_are_removed(trained: tuple[Path, Result]) -> None:
    results = trained[0] / "output/DAVIS17"
    assert not (results / ".done/duo.json").exists() and not (results / "scores.csv").exists()
    assert (results / ".done/other.json").exists()  # of a video that was not validated


def test_the_number_of_parameters_is_printed_and_logged(trained: tuple[Path, Result]) -> None:
    root, end = trained
    size = sum(p.numel() for p in STM("resnet18", 8, 8, decoder_dim=8).parameters())
    assert (
        f"{size:,} parameters" in end.out
        and f"{size:,} parameters" in (root / "models/train.log").read_text()
    )


def test_a_busy_result_folder_does_not_end_training(tmp_path: Path) -> None:
    fake_datasets.davis17(tmp_path)
    results = tmp_path / "output/DAVIS17"
    results.mkdir(parents=True)
    with FileLock(results / ".lock"):
        end = train(tmp_path, root=tmp_path)
    end.check_success("the masks of this validation are not written")
    assert "validation: J" in end.out
    assert not (results / "duo").exists()


def test_a_result_folder_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    fake_datasets.davis17(tmp_path)
    (tmp_path / "output").write_text("a file")
    end = train(tmp_path, root=tmp_path)
    end.check_error("'output_dir' and 'save_validation'")
    assert "epoch" not in end.out
    end = train(tmp_path, root=tmp_path, save_validation=False)
    end.check_success()
    assert "validation: J" in end.out


def test_checkpoints_in_a_source_package_are_warned_of() -> None:
    cfg = load_config(ROOT / "config.yaml", ["checkpoint", str(ROOT / "models"), "epoch_per_test", "0"])
    with pytest.warns(UserWarning, match="'checkpoint'.*models holds source code"):
        check_folders(cfg)


def test_checkpoints_of_the_original_are_resumed(trained: tuple[Path, Result], tmp_path: Path) -> None:
    """They have weights, the number of epochs and max_skip; the optimizer is new, and a line says so."""
    root = trained[0]
    own = read_file(root / "models/recurrent.pth.tar")
    old = {"epoch": 3, "state_dict": own["state_dict"], "max_skip": [60]}
    torch.save(old, tmp_path / "original.pth.tar")
    length = {"epochs": 5, "epochs_per_increment": 5, "epoch_per_test": 0, "milestone": 4}
    start = {"resume": tmp_path / "original.pth.tar", "initial": "nowhere.pth"}
    end = train(tmp_path, root=root, **length, **start)
    end.check_success("'initial' is ignored")
    assert "epoch 4/5" in end.out and "epoch 3/5" not in end.out and "the optimizer is new" in end.out
    new = read_file(tmp_path / "ckpt/recurrent.pth.tar")
    assert new["epoch"] == 5 and new["max_skip"] == [65] and len(new["history"]) == 2
    assert [row["learning rate"] for row in new["history"]] == pytest.approx([1e-5, 1e-6])


# ---- the demo ------------------------------------------------------------------------------------


def test_the_originals_demo_config_runs_from_any_folder_and_writes_overlays(tmp_path: Path) -> None:
    """Its demo.yaml names neither format nor arch: overlays of the source's size, ResNet-50."""
    fake_datasets.write_video(
        tmp_path / "demo/data/videos/horsejump-high",
        tmp_path / "unused",
        {1: 0, 2: 0},
        frames=2,
        size=(60, 100),
    )
    fake_datasets.save_mask(
        tmp_path / "demo/data/masks/horsejump-high.png", fake_datasets.scene([1, 2], 0, (60, 100))[1]
    )
    torch.manual_seed(0)
    torch.save({"state_dict": STM("resnet50").state_dict()}, tmp_path / "initial.pth")
    config = written(tmp_path / "demo.yaml", DEMO)
    run_in_process("demo/demo.py", "--cfg", config, cwd=tmp_path).check_success()
    frames = sorted((tmp_path / "demo/output/horsejump-high").glob("*.png"))
    assert (
        len(frames) == 2 and Image.open(frames[0]).mode == "RGB" and Image.open(frames[0]).size == (100, 60)
    )
    image = np.array(Image.open(tmp_path / "demo/data/videos/horsejump-high/00000.jpg")).astype(int)
    overlay, labels = (
        np.array(Image.open(frames[0])).astype(int),
        fake_datasets.scene([1, 2], 0, (60, 100))[1],
    )
    assert np.abs(overlay - image)[labels == 0].mean() < 10 < np.abs(overlay - image)[labels > 0].mean()


def test_the_demo_has_its_own_defaults_beside_those_of_the_other_scripts(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "demo.yaml", DEMO))
    demo, test = load_config(path, demo=True), load_config(path)
    assert (demo.save_indexed_format, demo.save_corrected) == ("segmentation", True)
    assert (test.save_indexed_format, test.save_corrected) == ("index", False)
    assert load_config(path, ["save_indexed_format", "index"], demo=True).save_indexed_format == "index"


def test_the_bundled_clip_is_found_from_any_folder(tmp_path: Path) -> None:
    end = run_in_process("demo/demo.py", cwd=tmp_path, video_path="demo/sample/nowhere")
    end.check_error("demo/sample/nowhere")
    located = runpy.run_path(str(ROOT / "demo/demo.py"))["resolve_path"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert located("demo/sample/dogs_jump") == ROOT / "demo/sample/dogs_jump"
        (tmp_path / "demo/sample/dogs_jump").mkdir(parents=True)
        assert located("demo/sample/dogs_jump") == Path("demo/sample/dogs_jump")
