"""What a person who switches from the original relies on, around the network and the loop: see docs/differences.md."""

import os
import runpy
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
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
from tests.e2e.test_scripts import ROOT
from tests.helpers import fake_datasets as trees

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
QUICK = (  # for the machine's sake: small, and from random weights
    "trainset",
    "DAVIS17",
    "input_size",
    "(48, 64)",
    "epochs",
    "1",
    "arch",
    "resnet18",
    "keydim",
    "16",
    "valdim",
    "16",
    "decoder_dim",
    "16",
    "pretrained",
    "False",
    "gpu_id",
    "-1",
    "loop",
    "0",
    "workers",
    "0",
    "datafreq",
    "1",
)


def run_in(folder: Path, script: str, *arguments: str) -> tuple[int, str, str]:
    """Run a script in this process with `folder` as the working directory: exit code, stdout, stderr."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [script, *arguments])
        patch.setattr(warnings, "showwarning", warnings.showwarning)  # which the script replaces
        patch.chdir(folder)
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# ---- configs and command lines ----------------------------------------------------------------------------------------


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


# ---- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """One epoch with the original's config; a record and a table of an earlier test.py lie in its result folder."""
    root = tmp_path_factory.mktemp("trained")
    trees.davis17(root)
    results = root / "output/DAVIS17"
    (results / ".done").mkdir(parents=True)
    (results / ".done/duo.json").write_text("{}")
    (results / ".done/other.json").write_text("{}")
    (results / "scores.csv").write_text("old")
    config = written(root / "config.yaml", CONFIG)
    code, out, err = run_in(root, "train.py", "--cfg", config, "root", str(root), *QUICK)
    assert code == 0, err
    return root, out, err


def test_validation_writes_its_masks_where_test_py_does(trained: tuple[Path, str, str]) -> None:
    root, out, err = trained
    masks = sorted((root / "output/DAVIS17/duo").glob("*.png"))
    assert [path.name for path in masks] == ["00000.png", "00001.png", "00002.png", "00003.png"]
    first = Image.open(masks[0])
    assert first.size == trees.SIZE[::-1] and first.getpalette()[:6] == palette()[:2].ravel().tolist()
    assert np.array_equal(np.array(first), trees.scene([1, 2])[1])


def test_records_and_tables_that_no_longer_hold_are_removed(trained: tuple[Path, str, str]) -> None:
    results = trained[0] / "output/DAVIS17"
    assert not (results / ".done/duo.json").exists() and not (results / "scores.csv").exists()
    assert (results / ".done/other.json").exists()  # of a video that was not validated


def test_the_number_of_parameters_is_printed_and_logged(trained: tuple[Path, str, str]) -> None:
    root, out, _ = trained
    size = sum(p.numel() for p in STM("resnet18", 16, 16, decoder_dim=16).parameters())
    assert f"{size:,} parameters" in out and f"{size:,} parameters" in (root / "models/train.log").read_text()


def test_a_busy_result_folder_does_not_end_training(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    results = tmp_path / "output/DAVIS17"
    results.mkdir(parents=True)
    with FileLock(results / ".lock"):
        code, out, err = run_in(tmp_path, "train.py", "root", str(tmp_path), *QUICK)
    assert code == 0 and "the masks of this validation are not written" in err and "validation: J" in out
    assert not (results / "duo").exists()


def test_a_result_folder_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    (tmp_path / "output").write_text("a file")
    code, out, err = run_in(tmp_path, "train.py", "root", str(tmp_path), *QUICK)
    assert code == 2 and "'output_dir' and 'save_validation'" in err and "epoch" not in out
    code, out, err = run_in(tmp_path, "train.py", "root", str(tmp_path), *QUICK, "save_validation", "False")
    assert code == 0 and "validation: J" in out


def test_checkpoints_in_a_source_package_are_warned_of() -> None:
    cfg = load_config(ROOT / "config.yaml", ["checkpoint", str(ROOT / "models"), "epoch_per_test", "0"])
    with pytest.warns(UserWarning, match="'checkpoint'.*models holds source code"):
        check_folders(cfg)


def test_checkpoints_of_the_original_are_resumed(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    """They hold weights, the number of epochs and max_skip; the optimizer starts anew, and a line says so."""
    root = trained[0]
    own = read_file(root / "models/recurrent.pth.tar")
    old = {"epoch": 3, "state_dict": own["state_dict"], "max_skip": [60]}
    torch.save(old, tmp_path / "original.pth.tar")
    code, out, err = run_in(
        tmp_path,
        "train.py",
        "root",
        str(root),
        *QUICK,
        "epochs",
        "5",
        "epochs_per_increment",
        "5",
        "epoch_per_test",
        "0",
        "milestone",
        "4",
        "resume",
        str(tmp_path / "original.pth.tar"),
        "initial",
        "nowhere.pth",
    )
    assert code == 0, err
    assert (
        "epoch 4/5" in out
        and "epoch 3/5" not in out
        and "the optimizer is new" in out
        and "'initial' is ignored" in err
    )
    new = read_file(tmp_path / "ckpt/recurrent.pth.tar")
    assert new["epoch"] == 5 and new["max_skip"] == [65] and len(new["history"]) == 2
    assert [row["learning rate"] for row in new["history"]] == pytest.approx([1e-5, 1e-6])


# ---- the demo ---------------------------------------------------------------------------------------------------------


def test_the_originals_demo_config_runs_from_any_folder_and_writes_overlays(tmp_path: Path) -> None:
    """Its demo.yaml names no format, and neither arch: ResNet-50, overlays of the source's size."""
    trees.write_video(
        tmp_path / "demo/data/videos/horsejump-high",
        tmp_path / "unused",
        {1: 0, 2: 0},
        frames=2,
        size=(60, 100),
    )
    trees.save_mask(tmp_path / "demo/data/masks/horsejump-high.png", trees.scene([1, 2], 0, (60, 100))[1])
    torch.manual_seed(0)
    torch.save({"state_dict": STM("resnet50").state_dict()}, tmp_path / "initial.pth")
    code, out, err = run_in(tmp_path, "demo/demo.py", "--cfg", written(tmp_path / "demo.yaml", DEMO))
    assert code == 0, err
    frames = sorted((tmp_path / "demo/output/horsejump-high").glob("*.png"))
    assert (
        len(frames) == 2 and Image.open(frames[0]).mode == "RGB" and Image.open(frames[0]).size == (100, 60)
    )
    image = np.array(Image.open(tmp_path / "demo/data/videos/horsejump-high/00000.jpg")).astype(int)
    overlay, labels = np.array(Image.open(frames[0])).astype(int), trees.scene([1, 2], 0, (60, 100))[1]
    assert np.abs(overlay - image)[labels == 0].mean() < 10 < np.abs(overlay - image)[labels > 0].mean()


def test_the_demo_has_its_own_defaults_beside_those_of_the_other_scripts(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "demo.yaml", DEMO))
    demo, test = load_config(path, demo=True), load_config(path)
    assert (demo.save_indexed_format, demo.save_corrected) == ("segmentation", True)
    assert (test.save_indexed_format, test.save_corrected) == ("index", False)
    assert load_config(path, ["save_indexed_format", "index"], demo=True).save_indexed_format == "index"


def test_the_bundled_clip_is_found_from_any_folder(tmp_path: Path) -> None:
    code, out, err = run_in(tmp_path, "demo/demo.py", "video_path", "demo/sample/nowhere")
    assert code == 2 and "demo/sample/nowhere" in err
    located = runpy.run_path(str(ROOT / "demo/demo.py"))["_located"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert located("demo/sample/crossing") == ROOT / "demo/sample/crossing"
        (tmp_path / "demo/sample/crossing").mkdir(parents=True)
        assert located("demo/sample/crossing") == Path("demo/sample/crossing")
