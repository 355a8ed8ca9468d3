"""The three scripts on small data sets, from training to the demo, and the errors they end with."""

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset.synthetic.export import write_tree
from libs.app.defaults import KEYS
from libs.core.masks import palette
from libs.training.checkpoint import read_file
from tests.helpers import fake_datasets
from tests.helpers.subprocess_runner import Result, ScriptProcess, run_in_process

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


@dataclass
class Session:
    """What the scripts printed, and `root`, the folder they wrote to."""

    root: Path
    train: Result
    test: Result
    demo: Result
    unscored: Result  # test.py on a video with one mask
    youtube: Result  # test.py on YouTube-VOS


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Run train.py, test.py with and without ground truth, and the demo on small data sets."""
    root = tmp_path_factory.mktemp("session")
    write_tree(root, train=1, val=1, frames=5, size=fake_datasets.SIZE)
    images, masks = root / "JPEGImages/mine", root / "Annotations/mine"
    fake_datasets.write_video(images, masks, {3: 0, 7: 0}, masked=(0,), size=(60, 100), suffix=".png")
    fake_datasets.youtube_vos(root)
    frames = (fake_datasets.scene([3, 7], t, (60, 100))[0] for t in range(4))
    fake_datasets.write_mp4(root / "film.mp4", frames)
    config = root / "small.yaml"
    config.write_text(SMALL.format(root=root))
    train = run_in_process("train.py", "--cfg", config)
    train.check_success()
    model = ("--cfg", config, "initial", root / "ckpt/recurrent.pth.tar")
    video = {"video_path": root / "film.mp4", "mask_path": masks / "00000.png", "output_dir": root / "demo"}
    overlays = {"save_indexed_format": "segmentation", "demo_format": "gif"}
    own = {"valset": "FOLDER", "output_dir": "mine", "save_indexed_format": "heatmap"}
    session = Session(
        root,
        train,
        test=run_in_process("test.py", *model, score_copy=True),
        demo=run_in_process("demo/demo.py", *model, **video, **overlays),
        unscored=run_in_process("test.py", *model, **own),
        youtube=run_in_process("test.py", *model, valset="VOS", loop=0, submission=True),
    )
    for end in (session.test, session.demo, session.unscored, session.youtube):
        end.check_success()
    return session


def names(folder: Path) -> list[str]:
    """What one sees in a folder: not the hidden lock that keeps other runs out."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ---- from training to the demo -------------------------------------------------------------------


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
        assert mask.mode == "P" and mask.size == fake_datasets.SIZE[::-1]
        assert mask.getpalette()[:12] == palette()[:4].ravel().tolist()
        assert set(np.unique(np.array(mask))) <= ids
    assert np.array_equal(np.array(Image.open(folder / "00000.png")), np.array(Image.open(first)))


def test_testing_prints_a_table_and_writes_the_same_as_csv(session: Session) -> None:
    lines = session.test.out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("video  "))
    columns = "video object J mean J recall J decay F mean F recall F decay J&F"
    assert lines[head].split() == columns.split()
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
        rows = list(csv.DictReader(file))
    assert {row["video"] for row in rows} == {"val-0000"} and len({row["frame"] for row in rows}) == 1
    average = np.mean([float(row["iou"]) for row in rows])  # over the objects of the one video
    line = next(line for line in session.test.out.splitlines() if "predicted back" in line)
    assert f"mean {average:.2f}" in line and "drift.csv" in line
    assert ("below 0.5" in session.test.out) == (average < 0.5)


def test_a_set_without_ground_truth_says_so(session: Session) -> None:
    assert "no ground truth to score mine" in session.unscored.out
    assert "J&F" not in session.unscored.out and not (session.root / "mine/FOLDER/scores.csv").exists()
    assert names(session.root / "mine/FOLDER/mine") == [f"{t:05d}.png" for t in range(4)]
    heat = Image.open(session.root / "mine/FOLDER/mine/00001.png")
    assert heat.mode == "RGB" and heat.size == (100, 60)


def test_youtube_vos_writes_what_is_submitted(session: Session) -> None:
    """All 7 frames are segmented; meta.json lists three of them, and the ids are its own."""
    folder = session.root / "output/VOS/bbb"
    assert names(folder) == ["00000.png", "00003.png", "00006.png"] and "7 frames" in session.youtube.out
    assert np.array_equal(
        np.array(Image.open(folder / "00000.png")) == 2, fake_datasets.scene([2, 5])[1] == 2
    )
    third = np.array(Image.open(folder / "00003.png"))
    assert (third[fake_datasets.scene([2, 5], 3)[1] == 5] == 5).all() and set(np.unique(third)) <= {0, 2, 5}


def test_a_submission_is_checked_and_packed(session: Session) -> None:
    with zipfile.ZipFile(session.root / "output/VOS.zip") as archive:
        packed = archive.namelist()
    assert "Annotations/bbb/00003.png" in packed and not any("scores" in name for name in packed)
    assert {name.split("/")[0] for name in packed} == {"Annotations"} and str(
        session.root / "output/VOS.zip"
    ) in session.youtube.out


def test_the_demo_shows_a_video_file(session: Session) -> None:
    folder = session.root / "demo/film"
    assert names(folder) == [f"{t:05d}.png" for t in range(4)] and names(session.root / "demo") == [
        "film",
        "film.gif",
        "film_curves.png",
        "film_round_trip.png",
    ]
    first = np.array(Image.open(folder / "00000.png"))
    image, labels = fake_datasets.scene([3, 7], 0, (60, 100))
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


# ---- errors --------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, dict[str, object], str]] = {  # script, keys -> what the one line must name
    "bad key": ("train.py", {"epoch": 3}, "'epoch'"),
    "missing weights": ("test.py", {"root": "{root}", "initial": "nowhere.pth", "gpu_id": -1}, "nowhere.pth"),
    "no weights": ("test.py", {}, "'initial'"),
    "wrong value": ("train.py", {"epochs": "many"}, "'epochs'"),
    "missing video": ("demo/demo.py", {"initial": "nowhere.pth", "video_path": "nowhere.mp4"}, "nowhere.mp4"),
    "missing data": ("train.py", {"root": "{root}/nowhere"}, "nowhere"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_is_one_line_and_code_2(tmp_path: Path, name: str) -> None:
    fake_datasets.davis17(tmp_path)
    script, keys, named = WRONG[name]
    end = run_in_process(script, **{key: str(value).format(root=tmp_path) for key, value in keys.items()})
    end.check_error(named)
    assert end.out == "" and end.err.count("\n") == 1


def test_a_missing_config_is_named() -> None:
    run_in_process("demo/demo.py", "--cfg", "nowhere.yaml").check_error("nowhere.yaml")


@pytest.mark.parametrize("script", ["train.py", "test.py", "demo/demo.py"])
def test_help_explains_every_key(script: str) -> None:
    end = run_in_process(script, "--help")
    assert end.code == 0 and end.err == ""
    told = " ".join(end.out.split())  # lines are wrapped
    assert all(f" {name} = " in told and " ".join(key.meaning.split()) in told for name, key in KEYS.items())


def test_a_new_process_ends_with_code_2_as_well(tmp_path: Path) -> None:
    """The demo finds the project's packages from any folder."""
    end = ScriptProcess("demo/demo.py", cwd=tmp_path, epoch=3).wait()
    assert end == (2, "", "error: command line: there is no key 'epoch'; the nearest one is 'epochs'\n")


def test_a_key_that_does_nothing_is_a_warning_of_one_line(tmp_path: Path) -> None:
    end = run_in_process("test.py", split_k=3, root=tmp_path, initial="nowhere.pth")
    end.check_error(str(tmp_path))
    assert [line.split(":")[0] for line in end.err.splitlines()] == ["warning", "error"]
    assert "split_k" in end.err


# ---- what a clone can do at once -----------------------------------------------------------------


def test_the_demo_of_a_new_clone(tmp_path: Path) -> None:
    """The bundled clip and model, at a low resolution to be fast, score far above a copied first mask."""
    end = run_in_process("demo/demo.py", output_dir=tmp_path, input_size=(96, 171), gpu_id=-1)
    end.check_success()
    assert "warning" not in end.err  # lines of progress may be there, one per minute
    assert names(tmp_path) == [f"dogs_jump{end}" for end in ("", ".gif", "_curves.png", "_round_trip.png")]
    assert len(names(tmp_path / "dogs_jump")) == 66
    rows = [line.split() for line in end.out.splitlines() if line.startswith(("global", "copy"))]
    scores = {row[0]: float(row[-1]) for row in rows}
    assert scores["global"] > scores["copy"] + 20 and "seconds per frame" in end.out and "IoU of" in end.out
    assert Image.open(tmp_path / "dogs_jump.gif").n_frames >= 60


def test_testing_with_the_shipped_weights(tmp_path: Path) -> None:
    fake_datasets.davis16(tmp_path)
    keys = {"root": tmp_path, "input_size": (48, 64), "gpu_id": -1}
    end = run_in_process("test.py", "--cfg", "configs/shipped.yaml", **keys)
    end.check_success()
    assert "J&F" in end.out
