"""The three scripts, as one runs them: on a tiny tree from training to the demo, and with what is wrong in their input."""

import csv
import os
import runpy
import subprocess
import sys
import warnings
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset.synthetic.export import write_tree
from libs.app.defaults import KEYS
from libs.core.masks import palette
from libs.training.checkpoint import read_file
from tests.helpers import fake_datasets as trees

ROOT = Path(__file__).resolve().parents[2]
SMALL = """\
root: {root}
trainset: DAVIS17
valset: DAVIS17
input_size: (48, 64)
sampled_frames: 2
epochs: 1
iter_size: 4
workers: 1
learning_rate: 1e-4
arch: resnet18
keydim: 16
valdim: 16
decoder_dim: 16
pretrained: False
gpu_id: -1
loop: 1
save_freq: 2
checkpoint: {root}/ckpt
"""


class Script:
    """A script in a process of its own, that runs while others do."""

    def __init__(self, *arguments: str) -> None:
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": ""}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=quiet,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        self.out, self.err = "", ""

    def wait(self) -> int:
        """Its exit code."""
        self.out, self.err = self.process.communicate(timeout=240)
        return self.process.returncode


def run_here(*arguments: str) -> tuple[int, str, str]:
    """The same in this process, which has imported everything already: exit code, what it printed, its errors."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", list(arguments))
        patch.setattr(warnings, "showwarning", warnings.showwarning)  # which the script replaces
        patch.chdir(ROOT)
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


@dataclass
class Session:
    """What the scripts have done, in `root`."""

    root: Path
    train: Script
    test: Script
    demo: Script
    unscored: str  # what test.py printed
    youtube: str  # the same


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """train.py; then test.py with ground truth, test.py without, and the demo, side by side."""
    root = tmp_path_factory.mktemp("session")
    write_tree(root, train=1, val=1, frames=5, size=trees.SIZE)
    trees.write_video(
        root / "JPEGImages/mine",
        root / "Annotations/mine",
        {3: 0, 7: 0},
        masked=(0,),
        size=(60, 100),
        suffix=".png",
    )
    trees.youtube_vos(root)
    trees.write_mp4(root / "film.mp4", (trees.scene([3, 7], t, (60, 100))[0] for t in range(4)))
    config = root / "small.yaml"
    config.write_text(SMALL.format(root=root))
    train = Script("train.py", "--cfg", str(config))
    assert train.wait() == 0, train.err
    model = ("--cfg", str(config), "initial", str(root / "ckpt/recurrent.pth.tar"))
    test = Script("test.py", *model, "score_copy", "True")
    demo = Script(
        "demo/demo.py",
        *model,
        "video_path",
        str(root / "film.mp4"),
        "mask_path",
        str(root / "Annotations/mine/00000.png"),
        "output_dir",
        str(root / "demo"),
        "save_indexed_format",
        "segmentation",
        "demo_format",
        "gif",
    )
    code, unscored, err = run_here(
        "test.py", *model, "valset", "FOLDER", "output_dir", "mine", "save_indexed_format", "heatmap"
    )
    assert code == 0, err
    code, youtube, err = run_here("test.py", *model, "valset", "VOS", "loop", "0", "submission", "True")
    assert (test.wait(), demo.wait(), code) == (0, 0, 0), test.err + demo.err + err
    return Session(root, train, test, demo, unscored, youtube)


def names(folder: Path) -> list[str]:
    """What one sees in a folder: not the hidden lock that keeps other runs out."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ---- from training to the demo ----------------------------------------------------------------------------------------


def test_training_writes_checkpoint_log_and_events(session: Session) -> None:
    folder = session.root / "ckpt"
    assert {"recurrent.pth.tar", "train.log", "events"} <= set(names(folder)) and any(
        (folder / "events").iterdir()
    )
    state = read_file(folder / "recurrent.pth.tar")
    assert (
        state["epoch"] == 1
        and state["max_skip"] == [5]
        and all(v.isfinite().all() for v in state["state_dict"].values())
    )
    log = (folder / "train.log").read_text()
    assert log == session.train.out  # the terminal saw the same
    assert (
        "epoch 1/1: loss" in log
        and "validation: J" in log
        and "J&F" in log
        and str(folder / "recurrent.pth.tar") in log
    )
    assert session.train.err == ""  # no warning, no bar where nobody looks


def test_testing_writes_masks_as_they_were_given_and_labelled(session: Session) -> None:
    folder, tree = session.root / "output/DAVIS17/val-0000", session.root / "DAVIS17"
    assert names(folder) == [f"{t:05d}.png" for t in range(5)]
    first = tree / "Annotations/480p/val-0000/00000.png"
    ids = set(np.unique(np.array(Image.open(first))))
    for path in folder.iterdir():
        mask = Image.open(path)
        assert mask.mode == "P" and mask.size == trees.SIZE[::-1]
        assert mask.getpalette()[:12] == palette()[:4].ravel().tolist()
        assert set(np.unique(np.array(mask))) <= ids
    assert np.array_equal(np.array(Image.open(folder / "00000.png")), np.array(Image.open(first)))


def test_testing_prints_a_table_and_writes_the_same_as_csv(session: Session) -> None:
    lines = session.test.out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("video"))
    assert lines[head].split() == [
        "video",
        "object",
        "J",
        "mean",
        "J",
        "recall",
        "J",
        "decay",
        "F",
        "mean",
        "F",
        "recall",
        "F",
        "decay",
        "J&F",
    ]
    with open(session.root / "output/DAVIS17/scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows][-2:] == ["global", "copy of first mask"] and rows[0][
        "video"
    ] == "val-0000"
    for row, label in ((rows[-2], "global"), (rows[-1], "copy of first mask")):
        printed = next(line for line in lines if line.startswith(label))[len(label) :].split()
        assert printed == [f"{100 * float(row[c]) + 0.0:.1f}" for c in list(row)[2:]]
        assert 0 <= float(row["J mean"]) <= 1
    assert float(rows[-1]["J mean"]) > 0.3  # the squares hardly move
    assert "frames per second" in session.test.out and "scores.csv" in session.test.out


def test_testing_tells_of_drift(session: Session) -> None:
    with open(session.root / "output/DAVIS17/drift.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["video"] == "val-0000" and 0 <= float(row["iou"]) <= 1 and 0 <= float(row["J"]) <= 1
    line = next(line for line in session.test.out.splitlines() if "predicted back" in line)
    assert f"mean {float(row['iou']):.2f}" in line and "drift.csv" in line
    assert ("below 0.5" in session.test.out) == (float(row["iou"]) < 0.5)


def test_a_set_without_ground_truth_says_so(session: Session) -> None:
    assert "no ground truth to score mine" in session.unscored
    assert "J&F" not in session.unscored and not (session.root / "mine/FOLDER/scores.csv").exists()
    assert names(session.root / "mine/FOLDER/mine") == [f"{t:05d}.png" for t in range(4)]
    heat = Image.open(session.root / "mine/FOLDER/mine/00001.png")
    assert heat.mode == "RGB" and heat.size == (100, 60)


def test_youtube_vos_writes_what_is_submitted(session: Session) -> None:
    """All 7 frames are segmented; meta.json lists three of them, and the ids are its own."""
    folder = session.root / "output/VOS/bbb"
    assert names(folder) == ["00000.png", "00003.png", "00006.png"] and "7 frames" in session.youtube
    assert np.array_equal(np.array(Image.open(folder / "00000.png")) == 2, trees.scene([2, 5])[1] == 2)
    third = np.array(Image.open(folder / "00003.png"))
    assert (third[trees.scene([2, 5], 3)[1] == 5] == 5).all() and set(np.unique(third)) <= {0, 2, 5}


def test_a_submission_is_checked_and_packed(session: Session) -> None:
    with zipfile.ZipFile(session.root / "output/VOS.zip") as archive:
        packed = archive.namelist()
    assert "Annotations/bbb/00003.png" in packed and not any("scores" in name for name in packed)
    assert {name.split("/")[0] for name in packed} == {"Annotations"} and str(
        session.root / "output/VOS.zip"
    ) in session.youtube


def test_the_demo_shows_a_video_file(session: Session) -> None:
    folder = session.root / "demo/film"
    assert names(folder) == [f"{t:05d}.png" for t in range(4)] and names(session.root / "demo") == [
        "film",
        "film.gif",
        "film_round_trip.png",
    ]
    first = np.array(Image.open(folder / "00000.png"))
    image, labels = trees.scene([3, 7], 0, (60, 100))
    assert first.shape == image.shape
    away = cv2.dilate(labels, np.ones((5, 5), np.uint8)) == 0
    assert np.abs(first[away].astype(int) - image[away]).max() < 40  # the video itself, where no object is
    film = Image.open(session.root / "demo/film.gif")
    assert (
        film.size == (100, 60) and np.abs(np.array(film.convert("RGB")).astype(int) - first).mean() < 10
    )  # the same pictures
    assert str(session.root / "demo/film.gif") in session.demo.out
    trip = np.array(Image.open(session.root / "demo/film_round_trip.png"))
    assert (
        trip.shape == (60, 201, 3) and np.abs(trip[:, :100].astype(int) - first).mean() < 1
    )  # the first mask, and beside it ...
    assert "IoU of" in session.demo.out and str(session.root / "demo/film_round_trip.png") in session.demo.out


# ---- what is wrong ----------------------------------------------------------------------------------------------------

WRONG = {  # arguments -> what the one line must name
    "bad key": (("train.py", "epoch", "3"), "'epoch'"),
    "missing config": (("demo/demo.py", "--cfg", "nowhere.yaml"), "nowhere.yaml"),
    "missing weights": (
        ("test.py", "root", "{root}", "initial", "nowhere.pth", "gpu_id", "-1"),
        "nowhere.pth",
    ),
    "no weights": (("test.py",), "'initial'"),
    "wrong value": (("train.py", "epochs", "many"), "'epochs'"),
    "missing video": (("demo/demo.py", "initial", "nowhere.pth", "video_path", "nowhere.mp4"), "nowhere.mp4"),
    "missing data": (("train.py", "root", "{root}/nowhere"), "nowhere"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_ends_in_one_line_and_code_2(tmp_path: Path, name: str) -> None:
    trees.davis17(tmp_path)
    arguments, named = WRONG[name]
    code, out, err = run_here(*(a.format(root=tmp_path) for a in arguments))
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("error: ") and named in err


@pytest.mark.parametrize("script", ["train.py", "test.py", "demo/demo.py"])
def test_help_explains_every_key(script: str) -> None:
    code, out, err = run_here(script, "--help")
    assert code == 0 and err == ""
    assert all(f"  {name} = " in out and key.meaning in out for name, key in KEYS.items())


def test_a_process_ends_with_code_2_as_well() -> None:
    script = Script("train.py", "epoch", "3")
    assert script.wait() == 2 and script.out == ""
    assert script.err == "error: command line: there is no key 'epoch'; the nearest one is 'epochs'\n"


def test_a_dead_key_warns_in_one_line(tmp_path: Path) -> None:
    code, _, err = run_here("test.py", "split_k", "3", "root", str(tmp_path), "initial", "nowhere.pth")
    assert (
        code == 2
        and [line.split(":")[0] for line in err.splitlines()] == ["warning", "error"]
        and "split_k" in err
    )


# ---- what a clone can do at once --------------------------------------------------------------------------------------


def test_the_demo_of_a_new_clone(tmp_path: Path) -> None:
    """The bundled clip with the model that ships, small, so that it is quick: far above copying the first mask even so."""
    code, out, err = run_here(
        "demo/demo.py", "output_dir", str(tmp_path), "input_size", "(96, 171)", "gpu_id", "-1"
    )
    # on a slow machine, a line of progress per minute
    assert code == 0 and all(line.startswith("demo crossing: frame") for line in err.splitlines()), err
    assert (
        names(tmp_path) == ["crossing", "crossing.gif", "crossing_round_trip.png"]
        and len(names(tmp_path / "crossing")) == 72
    )
    rows = {
        line.split()[0]: float(line.split()[-1])
        for line in out.splitlines()
        if line.startswith(("global", "copy"))
    }
    assert rows["global"] > rows["copy"] + 20 and "s a frame" in out and "IoU of" in out
    assert Image.open(tmp_path / "crossing.gif").n_frames >= 60


def test_testing_with_the_shipped_weights(tmp_path: Path) -> None:
    trees.davis16(tmp_path)
    code, out, err = run_here(
        "test.py",
        "--cfg",
        "configs/shipped.yaml",
        "root",
        str(tmp_path),
        "input_size",
        "(48, 64)",
        "gpu_id",
        "-1",
    )
    assert code == 0 and "J&F" in out, err
