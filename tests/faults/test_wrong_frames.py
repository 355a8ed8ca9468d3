"""Frames that are wrong, and unusual ones that are right: test.py on a folder of videos."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import fake_datasets
from tests.helpers.damage import cut
from tests.helpers.small_network import segment_folder


def resave(path: Path, change: Callable[[Image.Image], Image.Image], **options: object) -> None:
    with Image.open(path) as image:
        changed = change(image)
    changed.save(path, **options)


def bomb(path: Path) -> None:
    """A small file of very many pixels."""
    Image.new("1", (14000, 14000)).save(path)


BROKEN_FRAMES = {  # the video fails, the other one is segmented
    "truncated": lambda folder: cut(folder / "00002.png"),
    "empty file": lambda folder: (folder / "00002.png").write_bytes(b""),
    "text": lambda folder: (folder / "00002.png").write_text("no image"),
    "another size": lambda folder: Image.new("RGB", (60, 60)).save(folder / "00002.png"),
    "decompression bomb": lambda folder: bomb(folder / "00002.png"),
    "a folder": lambda folder: ((folder / "00002.png").unlink(), (folder / "00002.png").mkdir()),
    "dangling link": lambda folder: (
        (folder / "00002.png").unlink(),
        (folder / "00002.png").symlink_to("nowhere.png"),
    ),
    "unreadable": lambda folder: (folder / "00002.png").chmod(0),
    "a pipe": lambda folder: ((folder / "00002.png").unlink(), os.mkfifo(folder / "00002.png")),
    "PostScript": lambda folder: (folder / "00002.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\n"
    ),
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_a_frame_that_cannot_be_read(tmp_path: Path, weights: Path, name: str) -> None:
    folder, _ = fake_datasets.two_videos(tmp_path)
    BROKEN_FRAMES[name](folder)
    end = segment_folder(tmp_path, weights)
    end.check_error("1 of 2 videos failed")
    assert "video 'mine' failed" in end.err and "00002" in end.err
    assert len(list((tmp_path / "output/FOLDER/other").glob("*.png"))) == 4
    assert all(
        Image.open(path).size == fake_datasets.SIZE[::-1]
        for path in (tmp_path / "output/FOLDER/mine").glob("*.png")
    )


ODD_EXIF = (  # held sideways, and with bytes as resolution
    b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x07\0\0\0\x01X\0\0\0\0\0\0\0"
)
GOOD_FRAMES = {
    "one frame": lambda folder: [path.unlink() for path in sorted(folder.iterdir())[1:]],
    "grey": lambda folder: resave(folder / "00001.png", lambda p: p.convert("L")),
    "RGBA": lambda folder: resave(folder / "00001.png", lambda p: p.convert("RGBA")),
    "palette": lambda folder: resave(folder / "00001.png", lambda p: p.convert("P")),
    "16 bits": lambda folder: cv2.imwrite(
        str(folder / "00001.png"), np.full(fake_datasets.SIZE, 40000, np.uint16)
    ),
    "CMYK": lambda folder: resave(folder / "00001.png", lambda p: p.convert("CMYK"), format="JPEG"),
    "a number missing": lambda folder: (folder / "00002.png").unlink(),
    "names of letters": lambda folder: (folder / "00002.png").rename(folder / "schön und gut.png"),
    "odd EXIF": lambda folder: resave(
        folder / "00001.png", lambda p: p.transpose(Image.Transpose.ROTATE_90), format="JPEG", exif=ODD_EXIF
    ),
    "a link": lambda folder: (
        (folder / "00002.png").rename(folder.parent / "x.png"),
        (folder / "00002.png").symlink_to(folder.parent / "x.png"),
    ),
    "hidden files": lambda folder: (folder / "._00001.png").write_text("of a Mac"),
}


@pytest.mark.parametrize("name", GOOD_FRAMES)
def test_frames_of_another_kind(tmp_path: Path, weights: Path, name: str) -> None:
    folder, _ = fake_datasets.two_videos(tmp_path)
    GOOD_FRAMES[name](folder)
    segment_folder(tmp_path, weights).check_success()
    wanted = {path.stem for path in folder.glob("[!.]*.png")}
    assert {path.stem for path in (tmp_path / "output/FOLDER/mine").glob("*.png")} == wanted


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_an_image_held_sideways_is_turned(tmp_path: Path, weights: Path, suffix: str) -> None:
    """EXIF says so; the mask is upright, as every viewer shows the image."""
    folder, masks = fake_datasets.two_videos(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(suffix), exif=exif)
        path.unlink()
    segment_folder(tmp_path, weights).check_success()
    assert Image.open(tmp_path / "output/FOLDER/mine/00001.png").size == fake_datasets.SIZE[::-1]


def test_an_empty_folder_of_frames(tmp_path: Path, weights: Path) -> None:
    folder, _ = fake_datasets.two_videos(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    end = segment_folder(tmp_path, weights)
    end.check_error("1 of 2 videos failed", "mine")
    assert f"{folder}: expected the frames of video 'mine'" in end.err and "found no image (.jpg" in end.err


def test_a_name_that_is_not_utf8(tmp_path: Path, weights: Path) -> None:
    """Old zip files contain such names."""
    fake_datasets.folder(tmp_path, name=os.fsdecode(b"sch\xf6n"))
    end = segment_folder(tmp_path, weights)
    end.check_success()
    assert "sch\\udcf6n" in (tmp_path / "output/FOLDER/scores.csv").read_text(encoding="utf-8")


def test_links_of_one_target_name_are_two_videos(tmp_path: Path, weights: Path) -> None:
    for name in "ab":
        fake_datasets.folder(tmp_path / name, name="frames", masked=(0,))
        (tmp_path / "JPEGImages").mkdir(exist_ok=True)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "JPEGImages" / name).symlink_to(tmp_path / name / "JPEGImages/frames")
        (tmp_path / "Annotations" / name).symlink_to(tmp_path / name / "Annotations/frames")
    segment_folder(tmp_path, weights).check_success()
    assert {path.parent.name for path in (tmp_path / "output/FOLDER").glob("*/*.png")} == {"a", "b"}


def test_a_mask_without_a_frame_is_named(tmp_path: Path, weights: Path) -> None:
    _, masks = fake_datasets.two_videos(tmp_path)
    fake_datasets.save_mask(masks / "00050.png", fake_datasets.scene([1])[1])
    segment_folder(tmp_path, weights).check_success("1 mask left out", "Annotations/mine/00050.png")


def test_unicode_and_spaces(tmp_path: Path, weights: Path) -> None:
    root = tmp_path / "mein Ördner 视频"
    fake_datasets.folder(root, name="a b 狗", masked=(0,))
    segment_folder(root, weights).check_success()
    assert len(list((root / "output/FOLDER/a b 狗").glob("*.png"))) == 4
