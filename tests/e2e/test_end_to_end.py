"""test.py from unusual videos to the files it writes: late objects and a submission, an MP4, a long video."""

import csv
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.measure import resident
from dataset.submission import check, listed_frames, read_meta
from tests.helpers import fake_datasets
from tests.helpers.small_network import NETWORK
from tests.helpers.subprocess_runner import ForkedScript, Result, run_in_process

KEYS = {**NETWORK, "input_size": (48, 64)}


def segment(root: Path, weights: Path, **keys: object) -> Result:
    """Run test.py."""
    return run_in_process("test.py", **{**KEYS, "root": root, "initial": weights, **keys})


def youtube_vos(root: Path) -> Path:
    """Write valid/late: 12 frames, of which 5 are listed; objects 3 and 9, and 20 from frame 7 on."""
    part = root / "Youtube-VOS/valid"
    fake_datasets.write_video(
        part / "JPEGImages/late",
        part / "Annotations/late",
        {3: 0, 9: 0, 20: 7},
        12,
        masked=(0, 7),
        size=(48, 96),
    )
    early = [f"{t:05d}" for t in (0, 3, 6, 7, 9)]
    fake_datasets.write_meta(part, {"late": {"3": early, "9": early, "20": ["00007", "00009"]}})
    return part


def test_a_late_object_through_to_the_zip(tmp_path: Path, weights: Path) -> None:
    part, output = youtube_vos(tmp_path), tmp_path / "output/VOS"
    memory = {"save_freq": 2, "memory_frames": 4, "loop": 1}
    end = segment(tmp_path, weights, valset="VOS", submission=True, **memory)
    end.check_success()
    assert "12 frames segmented" in end.out and f"for the server: {output.with_suffix('.zip')}" in end.out
    with zipfile.ZipFile(output.with_suffix(".zip")) as archive:
        assert archive.namelist() == [f"Annotations/late/{t:05d}.png" for t in (0, 3, 6, 7, 9)]
        archive.extractall(tmp_path / "sent")
    sent = tmp_path / "sent/Annotations"
    assert check(sent, part / "JPEGImages", listed_frames(read_meta(part / "meta.json"))) == []
    labels = {t: np.array(Image.open(sent / f"late/{t:05d}.png")) for t in (0, 3, 6, 7, 9)}
    truth = {t: fake_datasets.scene([3, 9, 20], t, (48, 96))[1] for t in labels}
    assert all(set(np.unique(labels[t])) <= {0, 3, 9} for t in (0, 3, 6))  # not there yet
    assert np.array_equal(labels[0], np.where(truth[0] == 20, 0, truth[0]))
    assert np.array_equal(labels[7] == 20, truth[7] == 20)  # given there; the mask is truth of the others
    with (output / "scores.csv").open(newline="") as file:
        rows = [(row["object"], row["J mean"] != "") for row in csv.DictReader(file)]
    assert rows == [("3", True), ("9", True), ("20", False), ("", True)]
    assert 20 in labels[9]


def test_the_check_tells_what_the_server_would(tmp_path: Path, weights: Path) -> None:
    part, output = youtube_vos(tmp_path), tmp_path / "output/VOS"
    segment(tmp_path, weights, valset="VOS", loop=0).check_success()
    assert len(list(output.glob("late/*.png"))) == 12
    # Masks of an earlier run are still there: the zip leaves them out.
    end = segment(tmp_path, weights, valset="VOS", loop=0, submission=True)
    end.check_success("7 of frames that this run did not write (first late/00001.png)")
    with zipfile.ZipFile(output.with_suffix(".zip")) as archive:
        assert len(archive.namelist()) == 12 - 7
    for t in (1, 2, 4, 5, 8, 9, 10, 11):
        (output / f"late/{t:05d}.png").unlink()
    Image.open(output / "late/00007.png").save(output / "late/00003.png")
    sets = ("--images", part / "JPEGImages", "--meta", part / "meta.json")
    end = run_in_process("dataset.submission", output, *sets)
    assert end.code == 2 and end.err == ""
    early, missing = end.out.splitlines()
    assert "late/00003.png: holds object 20" in early and "late/00009.png: is missing" in missing


def test_a_listed_frame_that_is_not_there_is_named(tmp_path: Path, weights: Path) -> None:
    part = youtube_vos(tmp_path)
    (part / "JPEGImages/late/00006.jpg").unlink()
    segment(tmp_path, weights, valset="VOS").check_error("'late'", "00006")


def test_an_mp4_with_one_mask(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    images, labels = zip(*(fake_datasets.scene([4, 6], t, (60, 100)) for t in range(9)))
    fake_datasets.write_mp4(tmp_path / "JPEGImages/film.mp4", images)
    fake_datasets.save_mask(tmp_path / "Annotations/film/00000.png", labels[0], mode="RGB")
    end = segment(tmp_path, weights, valset="FOLDER", max_size=64, tta_flip=True)
    end.check_success()
    assert "no ground truth to score film" in end.out
    masks = [np.array(Image.open(tmp_path / f"output/FOLDER/film/{t:05d}.png")) for t in range(9)]
    assert np.array_equal(masks[0], labels[0]) and all(mask.shape == (60, 100) for mask in masks)
    assert all(set(np.unique(mask)) <= {0, 4, 6} for mask in masks) and "9 frames segmented" in end.out


@pytest.mark.parametrize("frames", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_video(tmp_path: Path, weights: Path, frames: int) -> None:
    """Resident memory of a whole process, sampled while it writes its masks.

    The first fifth of the frames sets the level. The rest of 200 frames is 160 images of 0.9 MB.
    """
    size, output = (480, 640), tmp_path / "output/FOLDER/long"
    (tmp_path / "JPEGImages").mkdir()
    images = [fake_datasets.scene([1], t, size)[0] for t in range(20)]
    fake_datasets.write_mp4(tmp_path / "JPEGImages/long.mp4", (images[t % 20] for t in range(frames)))
    fake_datasets.save_mask(tmp_path / "Annotations/long/00000.png", fake_datasets.scene([1], 0, size)[1])
    keys = {"root": tmp_path, "valset": "FOLDER", "initial": weights, "memory_frames": 5, "loop": 0}
    script = ForkedScript("test.py", **KEYS, **keys)
    early, late = 0.0, 0.0
    while script.is_running():
        written = len(list(output.glob("*.png")))
        if 0 < written < frames:  # at its end, Python loads more of torch's libraries to unload them
            now = resident(script.pid)
            early, late = (max(early, now), late) if written <= frames // 5 else (early, max(late, now))
        time.sleep(0.05)
    script.wait().check_success()
    assert len(list(output.glob("*.png"))) == frames
    print(f"{early:.0f} MB in the first fifth, {late:.0f} MB in the rest")
    assert early > 0 and late > 0 and late - early < 40, (early, late)
