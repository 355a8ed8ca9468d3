"""python3 -m dataset.check: counts, sizes of releases, what is missing or wrong, and what a session says."""

import re
from pathlib import Path

import pytest

from dataset import known
from dataset.known import KNOWN, Known, find_split, is_complete, known_size
from tests.helpers import fake_datasets as trees
from tests.helpers.damage import cut
from tests.helpers.subprocess_runner import Result, run_in_process


def check(root: Path, *words: object) -> Result:
    return run_in_process("dataset.check", *words, "--root", root)


def cells(end: Result, split: str) -> dict[str, str]:
    """The row of a split by the names of its columns."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in end.out.splitlines() if line[:1] == "|"
    ]
    return dict(zip(rows[0], next(row for row in rows[2:] if row[0] == split)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fake sets be complete: pair and trio with 2 and 3 objects, duo with 2."""
    monkeypatch.setitem(KNOWN, ("DAVIS17", "train"), (Known("small", 2, 8, 5),))
    monkeypatch.setitem(KNOWN, ("DAVIS17", "val"), (Known("small", 1, 4, 2, ("frames",)),))
    monkeypatch.setitem(KNOWN, ("DAVIS17", "test-dev"), (Known("small", 1),))


@pytest.mark.usefixtures("small")
def test_a_complete_set(tmp_path: Path) -> None:
    trees.davis17(tmp_path, lists="ImageSets")
    end = check(tmp_path, "DAVIS17")
    end.check_success()
    assert cells(end, "train") == {
        "split": "train",
        "release": "small",
        "videos": "2 of 2",
        "frames": "8 of 8",
        "masks": "8",
        "objects": "5 of 5",
        "frames read": "8, all right",
        "masks read": "8, all right",
        "result": "complete",
    }
    assert cells(end, "val")["frames"] == "4 of ~4" and "likely, not certain" in end.out
    assert re.search(r"\nPython 3\.\d+.*, numpy .*, torch ", end.out)
    row = cells(end, "test-dev")
    assert (row["videos"], row["masks"], row["objects"]) == ("1 of 1", "1", "3")


@pytest.mark.usefixtures("small")
def test_splits_can_be_chosen(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    end = check(tmp_path, "DAVIS17", "--splits", "val", "--sample", "3")
    end.check_success()
    assert cells(end, "val")["frames read"] == "3, all right" and "| train |" not in end.out


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path)
    for path in (tree / "JPEGImages/480p/pair").iterdir():
        path.unlink()
    (tree / "JPEGImages/480p/trio/00003.jpg").unlink()
    end = check(tmp_path, "DAVIS17")
    end.check_error("DAVIS17 below", "train incomplete or wrong")
    assert (
        cells(end, "train")["result"]
        == "1 video incomplete; 1 video missing; 5 frames missing; 2 objects missing"
    )
    assert "train: train.py says (2):" in end.out and "- video 'pair' is left out: " in end.out
    assert "1 mask left out, without a frame of that name" in end.out  # of trio/00003
    assert cells(end, "val")["result"] == "complete"


@pytest.mark.parametrize(
    ("size", "result"),
    [
        (Known("small", 2, 8, 5), "complete"),
        (Known("small", 3, 9, 6), "1 video missing; 1 frame missing; 1 object missing"),
        (Known("small", 1, 4, 2), "1 video too many; 4 frames too many; 3 objects too many"),
        (Known("small", 2, 8, 7), "2 objects missing"),
        (Known("small", 2, 8, 4), "1 object too many"),
        (Known("small", 2, 8, 4, ("objects",)), "complete"),
        (Known("small", 2, 8, 7, ("objects",)), "complete"),
        (Known("small", 2), "complete"),
    ],
)
def test_more_than_the_release_has_is_wrong_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Known, result: str
) -> None:
    """Numbers of objects that are not certain, or not known, are not compared."""
    monkeypatch.setitem(KNOWN, ("DAVIS17", "train"), (size,))
    trees.davis17(tmp_path)
    end = check(tmp_path, "DAVIS17", "--splits", "train")
    assert cells(end, "train")["result"] == result
    if result == "complete":
        end.check_success()
    else:
        end.check_error("train incomplete or wrong")


@pytest.mark.usefixtures("small")
def test_wrong_files_are_named(tmp_path: Path) -> None:
    """A frame that is cut off, a mask of another size, and one that is no image: first masks count once."""
    tree = trees.davis17(tmp_path)
    cut(tree / "JPEGImages/480p/duo/00002.jpg")
    trees.save_mask(tree / "Annotations/480p/duo/00001.png", trees.scene((1, 2))[1][:40])
    (tree / "Annotations/480p/trio/00000.png").write_text("<html>")
    end = check(tmp_path, "DAVIS17")
    end.check_error("train, val")
    val, train = cells(end, "val"), cells(end, "train")
    assert (val["frames read"], val["masks read"], val["result"]) == (
        "4, 1 wrong",
        "4, 1 wrong",
        "2 files wrong",
    )
    assert (train["masks read"], train["result"], train["objects"]) == (
        "8, 1 wrong",
        "3 objects missing; 1 file wrong",
        "2 of 5",
    )
    assert re.search(r"val: wrong frames \(1\):\n- .*duo/00002.jpg", end.out)
    assert re.search(r"val: wrong masks \(1\):\n- .*duo/00001.png.*64x48.*64x40", end.out)
    assert re.search(r"train: wrong masks \(1\):\n- .*trio/00000.png.*this is a web page", end.out)


def test_masks_of_0_and_255_are_refused_as_by_the_scripts(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path)
    for path in (tree / "Annotations/480p/duo").iterdir():
        trees.save_mask(path, trees.scene((255,))[1], "L")
    end = check(tmp_path, "DAVIS17", "--splits", "val")
    end.check_error("val")
    assert "val: test.py says (1):\n- video 'duo' failed: " in end.out and "use a set in which 255" in end.out


def test_unusual_masks_are_counted(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    _, labels = trees.scene((1, 2))
    labels[0] = 255
    trees.save_mask(tmp_path / "Annotations/mine/00003.png", labels)
    end = check(tmp_path, "FOLDER")
    assert cells(end, "val")["masks read"].endswith("1 unusual") and "255 counts as void" in end.out
    assert cells(end, "val")["result"] == "no numbers are known to compare with" and end.code == 0


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    end = check(tmp_path, "MOSE")
    end.check_error("MOSE below", "train, val")
    assert cells(end, "train")["result"] == "not there, or not readable"
    assert "MOSE/train/JPEGImages does not exist" in end.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["DAVIS18"], ("DAVIS18", "nearest is 'DAVIS1")),
        (["PROCEDURAL"], ("generated during training",)),
        (["STATIC", "--splits", "val"], ("STATIC is for training only",)),
    ],
)
def test_wrong_names(tmp_path: Path, words: list[str], named: tuple[str, ...]) -> None:
    end = check(tmp_path, *words)
    end.check_error(*named)


def test_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DUTS is STATIC with a known number of images; each counts as a video of one frame."""
    image, labels = trees.scene((255,))
    for name in "abc":
        trees.save_image(tmp_path / f"STATIC/images/{name}.jpg", image)
        trees.save_mask(tmp_path / f"STATIC/masks/{name}.png", labels, "L")
    check(tmp_path, "STATIC").check_success()
    end = check(tmp_path, "DUTS")
    end.check_error("train")
    row = cells(end, "train")
    assert (row["videos"], row["masks"], row["objects"]) == ("3 of ~10553", "3", "-")
    assert row["result"] == "10550 images missing"
    for size in (3, 2):  # images of your own may lie beside those of DUTS
        monkeypatch.setitem(KNOWN, ("DUTS", "train"), (Known("small", size),))
        check(tmp_path, "DUTS").check_success()


def test_a_video_file_is_not_counted_in_frames(tmp_path: Path) -> None:
    trees.folder(tmp_path, masked=(0,))
    trees.write_mp4(tmp_path / "JPEGImages/film.mp4", [trees.scene((1,), t)[0] for t in range(3)])
    trees.save_mask(tmp_path / "Annotations/film/00000.png", trees.scene((1,))[1])
    end = check(tmp_path, "FOLDER")
    end.check_success()
    assert cells(end, "val")["frames"] == "in 1 video file, not counted"
    assert cells(end, "val")["masks read"] == "2, all right"


@pytest.mark.parametrize(
    ("name", "write", "objects"),
    [("VOS", trees.youtube_vos, "2"), ("LVOS", trees.lvos, "4"), ("MOSE", trees.mose, "4")],
)
def test_other_layouts(tmp_path: Path, name: str, write: object, objects: str) -> None:
    """Objects are those of a list, or else those of the first masks."""
    write(tmp_path)  # type: ignore[operator]
    end = check(tmp_path, name, "--splits", "val")
    row = cells(end, "val")
    assert row["objects"].split(" of ")[0] == objects and row["masks read"].endswith("all right")


# ---- known sizes ----


def test_the_release_is_told_by_its_numbers() -> None:
    def release(name: str, split: str, videos: int, objects: int = 0) -> str:
        found = known_size(name, split, videos, objects)
        return found.release if found else ""

    assert release("VOS", "train", 3471, 6459) == "2019" and release("VOS", "train", 3471, 5945) == "2018"
    assert release("VOS", "val", 474) == "2018" and release("VOS", "val", 507) == "2019"
    assert release("VOS", "val", 400) == "2018" and release("VOS", "val", 480) == "2019"  # incomplete
    assert release("LVOS", "train", 121) == "version 2" and release("MOSE", "val", 999) == "version 2"
    assert release("VOS", "train", 3471, 5944) == "2018" and release("VOS", "train", 3471) == "2019"
    assert release("FOLDER", "val", 3) == ""


def test_the_known_sizes_agree_with_each_other() -> None:
    """Sums that are published beside the splits, such as the 2149 videos of MOSE."""
    assert {name for name, _ in KNOWN} <= {"DAVIS16", "DAVIS17", "VOS", "MOSE", "LVOS", "VOST", "DUTS"}

    def total(name: str, release: str) -> int:
        return sum(
            one.videos
            for (of, _), found in KNOWN.items()
            for one in found
            if (of, one.release) == (name, release)
        )

    assert total("MOSE", "version 1") == 2149 and total("LVOS", "version 1") == 220
    assert total("LVOS", "version 2") == 720 and total("VOST", "2023") == 713
    assert total("DAVIS16", "2016") == 50 and total("DAVIS17", "2017") == 150


def test_complete_means_exactly_the_known_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.davis17(tmp_path)
    for size, expected in (
        (Known("", 1, 4), True),
        (Known("", 1), True),
        (Known("", 2, 4), False),
        (Known("", 1, 5), False),
    ):
        monkeypatch.setitem(KNOWN, ("DAVIS17", "val"), (size,))
        assert is_complete(tmp_path, "DAVIS17", ["val"]) is expected
        assert is_complete(tmp_path, "DAVIS17", ["val", "train"]) is False
    assert not is_complete(tmp_path, "DAVIS17", []) and not is_complete(tmp_path / "no", "DAVIS17", ["val"])


@pytest.mark.filterwarnings("error")
def test_counting_warns_of_nothing(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path)
    (tree / "JPEGImages/480p/other").mkdir()
    found = find_split(tmp_path, "DAVIS17", "train")
    assert (len(found.videos), found.frames, found.masks) == (2, 8, 8)
    assert known.index_name("DUTS") == "STATIC"
