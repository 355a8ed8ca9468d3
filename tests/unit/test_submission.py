"""The check of result folders, and the zip for the servers."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from dataset.submission import check, main, make_zip
from libs.core.image_io import save_index_png


@pytest.fixture
def results(tmp_path):
    """Two videos of two masks each, and their frames."""
    for video in ("bear", "dog"):
        (tmp_path / "images" / video).mkdir(parents=True)
        for t in range(2):
            save_index_png(tmp_path / "masks" / video / f"{t:05d}.png", np.full((6, 8), t, np.uint8))
            Image.new("RGB", (8, 6)).save(tmp_path / "images" / video / f"{t:05d}.jpg")
    return tmp_path


def test_a_good_folder_has_no_problems(results):
    assert check(results / "masks") == check(results / "masks", results / "images") == []


@pytest.mark.parametrize("top_level", ["", "Annotations"])
def test_zip(results, top_level):
    (results / "masks" / "scores.csv").write_text("no mask")
    with zipfile.ZipFile(make_zip(results / "masks", results / "out.zip", top_level)) as archive:
        names = archive.namelist()
    prefix = f"{top_level}/" if top_level else ""
    assert names == [f"{prefix}{video}/{t:05d}.png" for video in ("bear", "dog") for t in range(2)]


def test_a_zip_depends_on_the_masks_alone(results):
    """Not on when they were written; and others may read what is in it."""
    first = make_zip(results / "masks", results / "first.zip").read_bytes()
    for path in results.glob("masks/*/*.png"):
        os.utime(path, (1, 1))  # 1970 is too early for a zip
    assert make_zip(results / "masks", results / "second.zip").read_bytes() == first
    with zipfile.ZipFile(results / "second.zip") as archive:
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}


def spoil_mode(root):
    Image.new("L", (8, 6)).save(root / "masks/dog/00001.png")
    return "mode L"


def spoil_palette(root):
    image = Image.new("P", (8, 6))
    image.putpalette([9, 9, 9] * 256)
    image.save(root / "masks/dog/00001.png")
    return "palette"


def spoil_size(root):
    save_index_png(root / "masks/dog/00001.png", np.zeros((6, 9), np.uint8))
    return "9x6, its frame is 8x6"


def spoil_bytes(root):
    (root / "masks/dog/00001.png").write_bytes(b"\x89PNG half a file")
    return "expected a readable mask"


def stray_mask(root):
    save_index_png(root / "masks/dog/00007.png", np.zeros((6, 8), np.uint8))
    return "there is no frame"


def stray_file(root):
    (root / "masks/dog/notes.txt").write_text("x")
    return "notes.txt"


def missing_video(root):
    (root / "images/cat").mkdir()
    return "no masks of video 'cat'"


def missing_mask(root):
    (root / "masks/dog/00000.png").unlink()
    return "dog: no masks of 1 of 2 frames, 00000 first"


@pytest.mark.parametrize(
    "spoil",
    [missing_mask, spoil_mode, spoil_palette, spoil_size, spoil_bytes, stray_mask, stray_file, missing_video],
)
def test_one_problem_is_one_line(results, spoil, monkeypatch, capsys):
    told = spoil(results)
    (error,) = check(results / "masks", results / "images")
    assert told in error
    monkeypatch.setattr(
        "sys.argv", ["submission", str(results / "masks"), "--images", str(results / "images")]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and told in capsys.readouterr().out
