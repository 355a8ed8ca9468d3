"""Folders of videos with other names, types and layouts: test.py on a FOLDER, and what it leaves out."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import fake_datasets
from tests.helpers.small_network import segment_folder, small
from tests.helpers.subprocess_runner import Result, run_in_process

IDS = (1, 2)  # objects of the video 'mine'


def warnings_of(end: Result) -> list[str]:
    return [line for line in end.err.splitlines() if line.startswith("warning: ")]


def written(root: Path, name: str = "mine") -> list[str]:
    return sorted(path.stem for path in (root / "output/FOLDER" / name).glob("*.png"))


def rename(folder: Path, new: Callable[[Path], str]) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(folder / new(path))


def convert(
    folder: Path, suffix: str, change: Callable[[Image.Image], Image.Image] = Image.Image.copy
) -> None:
    """Save all images of a folder in another format."""
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            changed = change(image)
        format_ = "JPEG" if suffix == ".jfif" else None
        changed.save(path.with_suffix(suffix), format=format_)
        path.unlink()


def wide(image: Image.Image) -> Image.Image:
    """16 bits of grey."""
    return Image.fromarray(np.array(image.convert("L")).astype(np.uint16) * 257)


def one_by_one(masks: Path, names: Iterable[str] = ("1", "2"), mode: str = "L") -> None:
    """Replace the masks of a video by a folder for each object, with files of 0 and 255."""
    for path in sorted(masks.glob("*.png")):
        labels = np.array(Image.open(path))
        for label, name in zip(IDS, names):
            fake_datasets.save_mask(masks / name / path.name, 255 * (labels == label).astype(np.uint8), mode)
        path.unlink()


def film(folder: Path, suffix: str = ".mp4") -> None:
    """Replace a folder of frames by a video file."""
    fake_datasets.write_mp4(
        folder.with_suffix(suffix), (np.array(Image.open(path)) for path in sorted(folder.iterdir()))
    )
    shutil.rmtree(folder)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def mask(path: Path) -> None:
    fake_datasets.save_mask(path, fake_datasets.scene(list(IDS))[1])


# ---- what is left out is named once, and the rest is segmented ----

Change = Callable[[Path, Path], object]  # called with the folders of the frames and masks of 'mine'
LEFT_OUT: dict[str, tuple[Change, str]] = {
    "notes beside the frames": (
        lambda f, m: touch(f / "notes.txt"),
        "1 file left out, not an image (.jpg, .jpeg, .jfif, .png, .bmp, .webp, .tif, .tiff): "
        "JPEGImages/mine/notes.txt",
    ),
    "notes in two videos": (
        lambda f, m: (touch(f / "a.xml"), touch(f.parent / "other/b.npy")),
        "2 files left out, not an image",
    ),
    "twelve files": (
        lambda f, m: [touch(f / f"{i:02d}.xml") for i in range(12)],
        "12 files left out, not an image",
    ),
    "another kind of image among the frames": (
        lambda f, m: touch(f / "00000.ppm"),
        "1 file left out, not an image",
    ),
    "masks among the frames": (
        lambda f, m: (shutil.copy(m / "00000.png", f / "00003_mask.png"), (f / "00002.png").unlink()),
        "1 video with frames named in several ways, all of which count as frames, in the order of their "
        "names: JPEGImages/mine/00003.png, JPEGImages/mine/00003_mask.png",
    ),
    "two cameras in a folder": (
        lambda f, m: [(f / f"0000{i}.png").rename(f / f"b_{i}.png") for i in (2, 3)],
        "JPEGImages/mine/00001.png, JPEGImages/mine/b_3.png",
    ),
    "a text among the masks": (lambda f, m: touch(m / "labels.txt"), "1 file left out, not an image"),
    "a folder among the frames": (
        lambda f, m: mask(f / "small/00000.png"),
        "1 folder left out, inside the folder of a video: JPEGImages/mine/small",
    ),
    "a folder that links to itself": (
        lambda f, m: (f / "loop").symlink_to(f),
        "1 folder left out, inside the folder of a video: JPEGImages/mine/loop",
    ),
    "a folder among the masks": (
        lambda f, m: mask(m / "old/00000.png"),
        "1 folder left out, inside the folder of a video: Annotations/mine/old",
    ),
    "masks without a frame in two videos": (
        lambda f, m: (mask(m / "00050.png"), mask(m.parent / "other/00060.png")),
        "2 masks left out, without a frame of that name: Annotations/mine/00050.png, "
        "Annotations/other/00060.png",
    ),
    "masks without a video": (
        lambda f, m: mask(m.parent / "ghost/00000.png"),
        "1 entry left out, without a video of that name: ghost",
    ),
    "a mask outside of the folder of its video": (
        lambda f, m: mask(m.parent / "mine.png"),
        "1 entry left out, without a video of that name: mine.png",
    ),
    "a frame outside of the folder of its video": (
        lambda f, m: mask(f.parent / "00000.png"),
        "1 entry left out, not a folder of frames or a video file",
    ),
    "a container that OpenCV does not open": (
        lambda f, m: touch(f.parent / "a.swf"),
        "1 entry left out, not a folder of frames or a video file (.mp4, .mov, .avi, .mkv and others, see "
        "DATASET.md): a.swf",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_named_once(tmp_path: Path, weights: Path, name: str) -> None:
    frames, masks = fake_datasets.two_videos(tmp_path)
    change, words = LEFT_OUT[name]
    change(frames, masks)
    end = segment_folder(tmp_path, weights)
    end.check_success(words)
    assert len(warnings_of(end)) == 1
    assert len(written(tmp_path)) == len(written(tmp_path, "other")) == 4


SYSTEM = ("__MACOSX/a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/a.png", "._mine", ".git/config")


def test_files_of_the_system_are_no_videos_and_not_named(tmp_path: Path, weights: Path) -> None:
    frames, masks = fake_datasets.two_videos(tmp_path)
    for folder in (frames, masks, frames.parent, masks.parent):
        for name in SYSTEM:
            touch(folder / name)
    end = segment_folder(tmp_path, weights)
    end.check_success()
    assert not warnings_of(end)
    assert {path.parent.name for path in (tmp_path / "output/FOLDER").glob("*/*.png")} == {"mine", "other"}


# ---- a video that is incomplete is named with the reason, and the others go on ----

MASKS = "expected masks with the names of their frames, such as 00000.png, found "
INCOMPLETE: dict[str, tuple[Change, str]] = {
    "no folder of masks": (
        lambda f, m: shutil.rmtree(m),
        "Annotations/mine does not exist; expected masks in it, such as 00000.png",
    ),
    "an empty folder of masks": (lambda f, m: (m / "00000.png").unlink(), MASKS + "an empty folder"),
    "numbers without zeros": (
        lambda f, m: rename(m, lambda p: f"{int(p.stem)}.png"),
        MASKS + "0.png (1 entry); rename them",
    ),
    "two digits": (lambda f, m: rename(m, lambda p: p.name[3:]), MASKS + "00.png (1 entry)"),
    "a text behind the name": (
        lambda f, m: rename(m, lambda p: f"{p.stem}_mask.png"),
        MASKS + "00000_mask.png",
    ),
    "two suffixes": (lambda f, m: rename(m, lambda p: f"{p.stem}.jpg.png"), MASKS + "00000.jpg.png"),
    "another case": (
        lambda f, m: (rename(f, lambda p: f"IMG_{p.name}"), rename(m, lambda p: f"img_{p.name}")),
        "such as IMG_00000.png, found img_00000.png",
    ),
    "an array": (lambda f, m: rename(m, lambda p: f"{p.stem}.npy"), MASKS + "00000.npy"),
    "an annotation file": (
        lambda f, m: ((m / "00000.png").unlink(), touch(m / "annotations.json")),
        MASKS + "annotations.json (1 entry); convert them to PNG",
    ),
    "masks from 1 on, frames from 0 on": (
        lambda f, m: ((m / "00000.png").unlink(), [mask(m / f"{i:05d}.png") for i in (1, 2, 3, 4)]),
        "found 4 masks from 00001.png on for as many frames from 00000.png on; number both alike",
    ),
    "a folder for each frame": (
        lambda f, m: (mask(m / "00000/1.png"), (m / "00000.png").unlink()),
        MASKS + "00000 (1 entry)",
    ),
    "two masks of a frame": (
        lambda f, m: mask(m / "00000.bmp"),
        "00000.bmp and 00000.png are masks of the same frame; remove one",
    ),
    "two numbers of a frame": (
        lambda f, m: (film(f), mask(m / "0.png")),
        "0.png and 00000.png are masks of the same frame; remove one",
    ),
    "masks of a film without numbers": (
        lambda f, m: (film(f), rename(m, lambda p: "first.png")),
        MASKS + "first.png (1 entry)",
    ),
    "an empty folder of frames": (
        lambda f, m: [path.unlink() for path in f.iterdir()],
        "found no image (.jpg, .jpeg, .jfif, .png, .bmp, .webp, .tif, .tiff); complete the data set",
    ),
    "frames as ppm": (
        lambda f, m: convert(f, ".ppm"),
        ".tiff) but 00000.ppm, 00001.ppm, 00002.ppm ... (4 entries); convert the files",
    ),
    "frames as gif": (lambda f, m: convert(f, ".gif"), ".tiff) but 00000.gif"),
    "frames in a folder too deep": (
        lambda f, m: shutil.move(
            shutil.copytree(f, f.parent.parent / "copy"), shutil.rmtree(f) or f / "mine"
        ),
        ".tiff) but mine (1 entry)",
    ),
    "a link to nothing": (
        lambda f, m: (shutil.rmtree(f), f.symlink_to("nowhere")),
        "found a link to nothing",
    ),
    "a link to itself": (lambda f, m: (shutil.rmtree(f), f.symlink_to(f)), "found a link to nothing"),
    "a film that is a link to nothing": (
        lambda f, m: (shutil.rmtree(f), f.with_suffix(".mp4").symlink_to("nowhere")),
        "JPEGImages/mine.mp4: expected the frames of video",
    ),
    "a folder without permission": (lambda f, m: f.chmod(0), "JPEGImages/mine cannot be read: Permission"),
    "a folder and a film of a name": (
        lambda f, m: shutil.copy(f / "00000.png", f.with_suffix(".avi")),
        "'mine' is there twice, as mine and mine.avi; rename or remove one",
    ),
    "two colours in the mask of an object": (
        lambda f, m: (
            one_by_one(m),
            fake_datasets.save_mask(m / "2/00000.png", fake_datasets.scene([1, 2])[1], "RGB"),
        ),
        "2/00000.png: expected one object, because each has a folder of masks here, found colours",
    ),
    "masks of objects of different sizes": (
        lambda f, m: (one_by_one(m), Image.new("L", (8, 8), 255).save(m / "2/00000.png")),
        "2/00000.png: expected the size of other objects' masks, 64x48, found 8x8",
    ),
    "255 objects": (
        lambda f, m: (
            (mask(m / "1/00000.png"), [mask(m / f"{i}/00000.png") for i in range(255)])
            and (m / "00000.png").unlink()
        ),
        "expected at most 254 folders of objects, found 255",
    ),
    "several pages": (
        lambda f, m: convert_to_pages(f),
        "expected one image in the file, found several pages",
    ),
    "floating-point numbers": (
        lambda f, m: convert(f, ".tif", lambda p: Image.fromarray(np.zeros((48, 64), np.float32))),
        "found floating-point numbers",
    ),
}


def convert_to_pages(folder: Path) -> None:
    images = [Image.open(path) for path in sorted(folder.iterdir())]
    images[0].save(folder / "00000.tif", save_all=True, append_images=images[1:])
    (folder / "00000.png").unlink()


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_incomplete_video_fails_alone(tmp_path: Path, weights: Path, name: str) -> None:
    frames, masks = fake_datasets.two_videos(tmp_path)
    change, words = INCOMPLETE[name]
    change(frames, masks)
    end = segment_folder(tmp_path, weights)
    end.check_error("1 of 2 videos failed, as warned above: mine")
    (told,) = warnings_of(end)
    assert told.startswith("warning: video 'mine") and words in told
    assert len(written(tmp_path, "other")) == 4 and not written(tmp_path)


def test_each_incomplete_video_is_named(tmp_path: Path, weights: Path) -> None:
    """Ten with the reason, the others by name; a submission is not made."""
    fake_datasets.two_videos(tmp_path)
    for i in range(13):
        (tmp_path / f"JPEGImages/v{i:02d}").mkdir()
    end = segment_folder(tmp_path, weights, submission=True)
    end.check_error("13 of 15 videos failed, as warned above: v00, v01", "v09 ...")
    told = warnings_of(end)
    assert len(told) == 11 and told[-1].endswith("13 of 15 videos are left out, also v10, v11, v12")
    assert len(written(tmp_path)) == 4 and not list(tmp_path.rglob("*.zip"))


def test_a_root_without_any_complete_video(tmp_path: Path, weights: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "JPEGImages" / name).mkdir(parents=True)
    segment_folder(tmp_path, weights).check_error("2 of 2 videos are incomplete", "'a'", "'b'")
    shutil.rmtree(tmp_path / "JPEGImages")
    mask(tmp_path / "JPEGImages/00000.png")
    segment_folder(tmp_path, weights).check_error(
        "found 00000.png (1 entry); frames belong into JPEGImages/<video>"
    )


# ---- unusual ones that are read ----

READ: dict[str, Change] = {
    "tif": lambda f, m: convert(f, ".tif"),
    "tiff, upper case": lambda f, m: convert(f, ".TIFF"),
    "tif of 16 bits": lambda f, m: convert(f, ".tif", wide),
    "jfif": lambda f, m: convert(f, ".jfif"),
    "masks as tif": lambda f, m: convert(m, ".tif"),
    "numbers without zeros, from 1 on": lambda f, m: [
        rename(folder, lambda p: f"{int(p.stem) + 1}.png") for folder in (f, m)
    ],
    "upper case": lambda f, m: [rename(folder, lambda p: f"{p.stem}.PNG") for folder in (f, m)],
    "a link to a folder": lambda f, m: (f.rename(f.parent.parent / "x"), f.symlink_to(f.parent.parent / "x")),
    "a folder for each object": lambda f, m: one_by_one(m),
    "a folder for each object, padded": lambda f, m: one_by_one(m, ("001", "002")),
    "a folder for each object of a film": lambda f, m: (film(f), one_by_one(m)),
    "a folder for each object, in palette": lambda f, m: one_by_one(m, mode="P"),
    "a folder for each object, in colour": lambda f, m: one_by_one(m, mode="RGB"),
}


@pytest.mark.parametrize("name", READ)
def test_other_types_and_layouts_are_read(tmp_path: Path, weights: Path, name: str) -> None:
    frames, masks = fake_datasets.two_videos(tmp_path)
    READ[name](frames, masks)
    end = segment_folder(tmp_path, weights)
    end.check_success()
    assert not warnings_of(end)
    first, *_ = names = written(tmp_path)
    assert len(names) == 4
    given = np.array(Image.open(tmp_path / f"output/FOLDER/mine/{first}.png"))
    assert np.array_equal(given, fake_datasets.scene(list(IDS))[1])


OBJECTS: dict[str, tuple[Callable[[Path], object], str, tuple[int, ...]]] = {
    "names": (
        lambda m: one_by_one(m, ("dog", "cat")),
        "they are numbered in the order of their names: Annotations/mine/cat is 1, Annotations/mine/dog is 2",
        (1, 2),
    ),
    "from 0 on": (
        lambda m: one_by_one(m, ("0", "1")),
        "Annotations/mine/0 is 1, Annotations/mine/1 is 2",
        (1, 2),
    ),
    "overlap": (
        lambda m: (one_by_one(m, ("1", "7")), shutil.copy(m / "1/00000.png", m / "7/00000.png")),
        "masks of objects overlap, first in 00000.png",
        (7,),
    ),
    "smoothed edges": (
        lambda m: (
            one_by_one(m),
            cv2.imwrite(str(m / "1/00000.png"), cv2.blur(cv2.imread(str(m / "1/00000.png"), 0), (3, 3))),
        ),
        "1/00000.png: smoothed edges; read as one object, values from 128 on",
        (1, 2),
    ),
    "a mask of one object is missing": (
        lambda m: (one_by_one(m), shutil.copy(m / "1/00000.png", m / "1/00002.png")),
        "1 object without a mask in some annotated frames, absent there: Annotations/mine/2 (1 of 2)",
        (1, 2),
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_special_about_folders_of_objects_is_said(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path)
    change, words, ids = OBJECTS[name]
    change(masks)
    end = segment_folder(tmp_path, weights)
    end.check_success(words)
    assert len(warnings_of(end)) == 1
    given, expected = (
        np.array(Image.open(tmp_path / "output/FOLDER/mine/00000.png")),
        fake_datasets.scene(list(IDS))[1],
    )
    assert set(np.unique(given)) - {0} == set(ids)
    assert ((given > 0) & (expected == 0)).sum() == 0  # no object grows


def test_the_demo_and_training_read_a_folder_for_each_object(tmp_path: Path, weights: Path) -> None:
    fake_datasets.folder(tmp_path)
    one_by_one(tmp_path / "Annotations/mine")
    keys = {"video_path": tmp_path / "JPEGImages/mine", "mask_path": tmp_path / "Annotations/mine"}
    end = run_in_process("demo/demo.py", **small(initial=weights, output_dir=tmp_path / "out", **keys))
    end.check_success()
    assert not warnings_of(end) and "J&F" in end.out
    keys = {
        "trainset": "FOLDER",
        "datafreq": 1,
        "max_skip": 1,
        "root": tmp_path,
        "checkpoint": tmp_path / "c",
    }
    run_in_process("train.py", **small(**keys)).check_success()


@pytest.mark.parametrize("name", ["a b", "zwei\nZeilen", "狗", "v1.0", "-v", "*", "[a]"])
def test_odd_names_of_videos(tmp_path: Path, weights: Path, name: str) -> None:
    fake_datasets.folder(tmp_path, name=name, masked=(0,))
    touch(tmp_path / "JPEGImages" / name / "notes.txt")
    end = segment_folder(tmp_path, weights)
    end.check_success("1 file left out")
    assert len(warnings_of(end)) == 1 and len(written(tmp_path, name)) == 4 or "[" in name
    assert len(os.listdir(tmp_path / "output/FOLDER" / name)) == 4
