"""Videos as users bring them, through test.py to the files: late objects and the server's zip, an MP4, a long video."""

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.measure import resident
from dataset.submission import check, listed_frames, read_meta
from models.stm import STM
from tests.e2e.test_scripts import ROOT, Script, run_here
from tests.helpers import fake_datasets as trees

NETWORK = (
    "arch",
    "resnet18",
    "keydim",
    "16",
    "valdim",
    "16",
    "decoder_dim",
    "16",
    "input_size",
    "(48, 64)",
    "gpu_id",
    "-1",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small untrained network as a file of weights."""
    torch.manual_seed(0)
    model = STM("resnet18", 16, 16, decoder_dim=16)
    model.init_memory_encoder_from_query()
    path = tmp_path_factory.mktemp("weights") / "small.pth.tar"
    torch.save({"state_dict": model.state_dict()}, path)
    return str(path)


def youtube_vos(root: Path) -> Path:
    """valid/late: 12 frames, objects 3 and 9, and 20 that appears in frame 7; every third frame and frame 7 are listed."""
    part = root / "Youtube-VOS/valid"
    trees.write_video(
        part / "JPEGImages/late",
        part / "Annotations/late",
        {3: 0, 9: 0, 20: 7},
        12,
        masked=(0, 7),
        size=(48, 96),
    )
    early = [f"{t:05d}" for t in (0, 3, 6, 7, 9)]
    trees.write_meta(part, {"late": {"3": early, "9": early, "20": ["00007", "00009"]}})
    return part


def test_a_late_object_through_to_the_zip(tmp_path: Path, weights: str) -> None:
    part, output = youtube_vos(tmp_path), tmp_path / "output/VOS"
    code, out, err = run_here(
        "test.py",
        *NETWORK,
        "root",
        str(tmp_path),
        "valset",
        "VOS",
        "initial",
        weights,
        "submission",
        "True",
        "save_freq",
        "2",
        "loop",
        "1",
        "memory_frames",
        "4",
    )
    assert code == 0, err
    assert "12 frames segmented" in out and f"for the server: {output.with_suffix('.zip')}" in out
    with zipfile.ZipFile(output.with_suffix(".zip")) as archive:
        assert archive.namelist() == [f"Annotations/late/{t:05d}.png" for t in (0, 3, 6, 7, 9)]
        archive.extractall(tmp_path / "sent")
    sent = tmp_path / "sent/Annotations"
    assert check(sent, part / "JPEGImages", listed_frames(read_meta(part / "meta.json"))) == []
    labels = {t: np.array(Image.open(sent / f"late/{t:05d}.png")) for t in (0, 3, 6, 7, 9)}
    truth = {t: trees.scene([3, 9, 20], t, (48, 96))[1] for t in labels}
    assert all(set(np.unique(labels[t])) <= {0, 3, 9} for t in (0, 3, 6))  # not there yet
    assert np.array_equal(labels[0], np.where(truth[0] == 20, 0, truth[0]))
    assert np.array_equal(labels[7], truth[7])  # all three are given again in frame 7
    assert 20 in labels[9]


def test_the_check_tells_what_the_server_would(tmp_path: Path, weights: str) -> None:
    part, output = youtube_vos(tmp_path), tmp_path / "output/VOS"
    arguments = ("test.py", *NETWORK, "root", str(tmp_path), "valset", "VOS", "initial", weights, "loop", "0")
    assert run_here(*arguments)[0] == 0 and len(list(output.glob("late/*.png"))) == 12
    code, _, err = run_here(*arguments, "submission", "True")  # masks of an earlier run lie there still
    assert (
        code == 2
        and "late/00001.png" in err
        and "remove it" in err
        and not output.with_suffix(".zip").exists()
    )
    for t in (1, 2, 4, 5, 8, 9, 10, 11):
        (output / f"late/{t:05d}.png").unlink()
    Image.open(output / "late/00007.png").save(output / "late/00003.png")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dataset.submission",
            str(output),
            "--images",
            str(part / "JPEGImages"),
            "--meta",
            str(part / "meta.json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr == ""
    early, missing = done.stdout.splitlines()
    assert "late/00003.png: holds object 20" in early and "late/00009.png: is missing" in missing


def test_a_listed_frame_that_is_not_there_is_named(tmp_path: Path, weights: str) -> None:
    part = youtube_vos(tmp_path)
    (part / "JPEGImages/late/00006.jpg").unlink()
    code, _, err = run_here("test.py", *NETWORK, "root", str(tmp_path), "valset", "VOS", "initial", weights)
    assert code == 2 and "'late'" in err and "00006" in err


def test_an_mp4_with_one_mask(tmp_path: Path, weights: str) -> None:
    (tmp_path / "JPEGImages").mkdir()
    images, labels = zip(*(trees.scene([4, 6], t, (60, 100)) for t in range(9)))
    trees.write_mp4(tmp_path / "JPEGImages/film.mp4", images)
    trees.save_mask(tmp_path / "Annotations/film/00000.png", labels[0], mode="RGB")
    code, out, err = run_here(
        "test.py",
        *NETWORK,
        "root",
        str(tmp_path),
        "valset",
        "FOLDER",
        "initial",
        weights,
        "max_size",
        "64",
        "tta_flip",
        "True",
    )
    assert code == 0 and "no ground truth to score film" in out, err
    masks = [np.array(Image.open(tmp_path / f"output/FOLDER/film/{t:05d}.png")) for t in range(9)]
    assert np.array_equal(masks[0], labels[0]) and all(mask.shape == (60, 100) for mask in masks)
    assert all(set(np.unique(mask)) <= {0, 4, 6} for mask in masks) and "9 frames segmented" in out


def test_2000_frames_in_the_memory_of_200(tmp_path: Path, weights: str) -> None:
    """Resident memory of the whole process, sampled while it writes its masks."""
    (tmp_path / "JPEGImages").mkdir()
    trees.write_mp4(
        tmp_path / "JPEGImages/long.mp4", (trees.scene([1], t % 20, (120, 160))[0] for t in range(2000))
    )
    trees.save_mask(tmp_path / "Annotations/long/00000.png", trees.scene([1], 0, (120, 160))[1])
    script = Script(
        "test.py",
        *NETWORK,
        "root",
        str(tmp_path),
        "valset",
        "FOLDER",
        "initial",
        weights,
        "memory_frames",
        "20",
        "loop",
        "0",
    )
    early, late = 0.0, 0.0
    while script.process.poll() is None:
        written = len(list((tmp_path / "output/FOLDER/long").glob("*.png")))
        if 0 < written < 2000:  # at its end, Python loads more of torch's libraries to unload them
            now = resident(script.process.pid)
            early, late = (max(early, now), late) if written <= 200 else (early, max(late, now))
        time.sleep(0.1)
    assert script.wait() == 0, script.err
    assert len(list((tmp_path / "output/FOLDER/long").glob("*.png"))) == 2000
    assert early > 0 and late - early < 50, (early, late)
