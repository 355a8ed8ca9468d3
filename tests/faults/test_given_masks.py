"""Which masks exist, and in which frames objects appear: what test.py and the demo print and write."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import fake_datasets
from tests.helpers.damage import cut
from tests.helpers.small_network import segment_folder, small
from tests.helpers.subprocess_runner import run_in_process

FRAMES = 6
Objects = tuple[int, ...]


def write(root: Path, masks: dict[int, Objects], davis: bool = False) -> tuple[Path, Path]:
    """Write a video of six frames, in which objects 1 and 2 move. masks: position -> objects in its mask.

    Returns: folders of the frames and masks.
    """
    images, annotations = root / "JPEGImages/mine", root / "Annotations/mine"
    if davis:
        images, annotations = (root / f"DAVIS17/{kind}/480p/mine" for kind in ("JPEGImages", "Annotations"))
        fake_datasets.write_db_info(root / "DAVIS17", [("mine", "val", 2017)])
    for t in range(FRAMES):
        image, labels = fake_datasets.scene([1, 2, 3], t)
        fake_datasets.save_image(images / f"{t:05d}.png", image)
        if t in masks:
            kept = np.where(np.isin(labels, masks[t]), labels, 0).astype(np.uint8)
            fake_datasets.save_mask(annotations / f"{t:05d}.png", kept)
    return images, annotations


def scored(root: Path, valset: str = "FOLDER") -> dict[str, bool]:
    """Object -> whether it has a score; empty without a table."""
    table = root / f"output/{valset}/scores.csv"
    if not table.exists():
        return {}
    with table.open(newline="") as file:
        return {row["object"]: row["J mean"] != "" for row in csv.DictReader(file) if row["object"]}


def labels_in(root: Path, valset: str = "FOLDER") -> list[set[int]]:
    """The objects in each mask that was written."""
    paths = sorted((root / f"output/{valset}/mine").glob("*.png"))
    return [set(np.unique(np.array(Image.open(path))).tolist()) - {0} for path in paths]


EVERY: dict[int, Objects] = dict.fromkeys(range(FRAMES), (1,))
LATE = {t: (1,) if t < 3 else (1, 2) for t in range(FRAMES)}
BOTH = {"1": True, "2": True}
# Masks, keys -> words that are printed, objects and whether they are scored.
GOOD: dict[str, tuple[dict[int, Objects], dict[str, object], list[str], dict[str, bool]]] = {
    "every frame": (EVERY, {}, ["own set; object 1 given in frame 00000; the 5 later masks"], {"1": True}),
    "one missing": (dict.fromkeys((0, 1, 2, 4, 5), (1,)), {}, ["the 4 later masks are"], {"1": True}),
    "first and last": ({0: (1,), 5: (1,)}, {}, ["the later mask is ground truth"], {"1": True}),
    "first alone": (
        {0: (1,)},
        {},
        ["only the given mask exists; not scored", "no ground truth to score"],
        {},
    ),
    "last alone": ({5: (1,)}, {}, ["starts at frame 00005; the 5 frames before it are left"], {}),
    "late object": (LATE, {}, ["object 2 appears in frame 00003: given there, scored from 00004 on"], BOTH),
    "late object in the last mask": (
        {**EVERY, 5: (1, 2)},
        {},
        ["object 2 appears in frame 00005: given there, and not scored, as no later mask exists"],
        {"1": True, "2": False},
    ),
    "late object alone": ({0: (1,), 3: (2,), 4: (1, 2)}, {}, ["its mask shows no earlier object"], BOTH),
    "higher number first": ({t: (2,) if t < 3 else (1, 2) for t in range(6)}, {}, ["object 1 appears"], BOTH),
    "an object vanishes": ({0: (1, 2), 1: (1, 2), 2: (1,), 3: ()}, {}, ["objects 1, 2 given"], BOTH),
    "first mask empty": ({**LATE, 0: ()}, {}, ["(1 earlier masks show no object); the frame before"], BOTH),
    "all but the last mask empty": (
        {**dict.fromkeys(range(6), ()), 5: (1,)},
        {},
        ["starts at frame 00005 (5 earlier masks show no object)", "no ground truth to score"],
        {},
    ),
    "all given": (LATE, {"given_masks": "all"}, ["all 6 masks are given; nothing is scored"], {}),
    "all given, one is empty": (
        {0: (1,), 3: (), 4: (1, 2)},
        {"given_masks": "all", "loop": 1, "save_freq": 2},
        ["all 3 masks are given", "object 2 appears in frame 00004: given there"],
        {},
    ),
    "all given, one mask": ({0: (1,)}, {"given_masks": "all"}, ["the only mask is given"], {}),
    "backward from the last frame": (
        {5: (1,)},
        {"backward": True},
        ["the 5 frames before it are filled"],
        {},
    ),
    "backward, late object": (
        LATE,
        {"backward": True, "loop": 1, "save_freq": 2},
        ["object 2 appears"],
        BOTH,
    ),
    "backward, all given": (LATE, {"backward": True, "given_masks": "all"}, ["all 6 masks"], {}),
    "backward, nothing to fill": (EVERY, {"backward": True}, ["object 1 given in frame 00000"], {"1": True}),
    "backward, heat maps": (
        LATE,
        {"backward": True, "save_indexed_format": "heatmap", "tta_flip": True},
        ["object 2 appears"],
        BOTH,
    ),
    "copies of late objects": (LATE, {"score_copy": True}, ["copy of first mask"], BOTH),
}


@pytest.mark.parametrize("name", GOOD)
def test_masks_in_some_frames(tmp_path: Path, weights: Path, name: str) -> None:
    masks, keys, words, expected = GOOD[name]
    write(tmp_path, masks)
    end = segment_folder(tmp_path, weights, **keys)
    end.check_success()
    assert all(word in end.out for word in words), end.out
    assert scored(tmp_path) == expected and end.err == ""
    assert len(labels_in(tmp_path)) == FRAMES


@pytest.mark.parametrize("masks", [LATE, {0: (1,), 3: (1, 2), 5: (1,)}, {**LATE, 0: ()}])
def test_davis_names_what_it_leaves_out(tmp_path: Path, weights: Path, masks: dict[int, Objects]) -> None:
    write(tmp_path, masks, davis=True)
    end = segment_folder(tmp_path, weights, valset="DAVIS17", score_copy=True)
    end.check_success()
    assert end.err.count("warning:") == 1
    assert (
        "'mine': the DAVIS protocol neither gives" in end.err
        and ": 2 (from frame 00003); valset FOLDER" in end.err
    )
    assert "'mine': DAVIS protocol; object 1 given" in end.out
    assert scored(tmp_path, "DAVIS17") == {"1": True} and set().union(*labels_in(tmp_path, "DAVIS17")) <= {1}


BAD: dict[str, tuple[Callable[[Path, Path], object], dict[str, object], list[str]]] = {
    "no mask shows an object": (
        lambda images, masks: [
            fake_datasets.save_mask(p, fake_datasets.scene([])[1]) for p in masks.iterdir()
        ],
        {},
        ["00000.png", "at least one object"],
    ),
    "the first mask is damaged": (lambda images, masks: cut(masks / "00000.png"), {}, ["00000.png"]),
    "a later mask is damaged": (lambda images, masks: cut(masks / "00004.png"), {}, ["00004.png"]),
    "a later given mask is damaged": (
        lambda images, masks: cut(masks / "00004.png"),
        {"given_masks": "all"},
        ["00004.png"],
    ),
    "a damaged mask, backward": (
        lambda images, masks: cut(masks / "00004.png"),
        {"backward": True},
        ["00004.png"],
    ),
    "a damaged frame, backward": (
        lambda images, masks: cut(images / "00001.png"),
        {"backward": True},
        ["00001.png"],
    ),
    "a mask of another size": (
        lambda images, masks: fake_datasets.save_mask(
            masks / "00003.png", fake_datasets.scene([1], 0, (40, 40))[1]
        ),
        {},
        ["00003.png", "40x40"],
    ),
    "a mask of another size, backward": (
        lambda images, masks: fake_datasets.save_mask(
            masks / "00003.png", fake_datasets.scene([2], 0, (40, 40))[1]
        ),
        {"backward": True},
        ["00003.png", "40x40"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_video_that_fails_alone(tmp_path: Path, weights: Path, name: str) -> None:
    damage, keys, words = BAD[name]
    damage(*write(tmp_path, LATE))
    fake_datasets.folder(tmp_path, name="other", masked=(0,))
    end = segment_folder(tmp_path, weights, **keys)
    end.check_error("1 of 2 videos failed", "mine")
    told = next(line for line in end.err.splitlines() if "video 'mine' failed" in line)
    assert all(word in told for word in words)
    assert len(list((tmp_path / "output/FOLDER/other").glob("*.png"))) == 4


WRONG_KEYS: dict[str, tuple[dict[str, object], list[str]]] = {
    "given_masks": ({"given_masks": "some"}, ["'given_masks'", "first, all"]),
    "backward": ({"backward": 2}, ["'backward'"]),
    "backward for a server": ({"backward": True, "submission": True}, ["'backward'", "submission"]),
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_a_wrong_key(tmp_path: Path, weights: Path, name: str) -> None:
    keys, words = WRONG_KEYS[name]
    write(tmp_path, EVERY)
    segment_folder(tmp_path, weights, **keys).check_error(*words)


def test_records_hold_objects_with_different_numbers_of_frames(tmp_path: Path, weights: Path) -> None:
    """A run that finds all videos finished prints the same table, and a change of the keys does not."""
    write(tmp_path, LATE)
    keys = {"score_copy": True, "loop": 1, "save_freq": 2}
    first = segment_folder(tmp_path, weights, **keys)
    table = (tmp_path / "output/FOLDER/scores.csv").read_text()
    again = segment_folder(tmp_path, weights, **keys, skip_done=True)
    assert "1 of 1 videos are there" in again.out and "own set" not in again.out
    assert (tmp_path / "output/FOLDER/scores.csv").read_text() == table
    rows = [line for line in first.out.splitlines() if line.startswith(("mine", "global", "copy"))]
    assert len(rows) == 4 and all(row in again.out for row in rows)
    assert "skip_done" not in segment_folder(tmp_path, weights, **keys, skip_done=True, backward=True).out


# ---- the demo ------------------------------------------------------------------------------------

DEMO: dict[str, tuple[str, str, dict[str, object], list[str]]] = {
    "a frame's name": ("frames", "00004", {}, ["object 1 given in frame 00004", "starts at frame 00004"]),
    "another name": ("frames", "drawn", {}, ["object 1 given in frame 00000;"]),
    "another name with a number": (
        "frames",
        "frame_00004",
        {},
        ["'frame_00004' is no frame's name, so it is"],
    ),
    "another name, for a film": ("film.mp4", "f4", {}, ["'f4' is no frame's number, so it is"]),
    "a frame's name, backward": ("frames", "00004", {"backward": True}, ["are filled backward"]),
    "a number of a film": ("film.mp4", "00004", {}, ["object 1 given in frame 00004"]),
    "a film, backward": ("film.mp4", "4", {"backward": True, "demo_format": "mp4"}, ["are filled backward"]),
}


@pytest.mark.parametrize("name", DEMO)
def test_the_demos_mask_starts_where_its_name_says(tmp_path: Path, weights: Path, name: str) -> None:
    video, stem, keys, words = DEMO[name]
    scenes = [fake_datasets.scene([1], t) for t in range(FRAMES)]
    for t, (image, _) in enumerate(scenes):
        fake_datasets.save_image(tmp_path / f"frames/{t:05d}.png", image)
    fake_datasets.write_mp4(tmp_path / "film.mp4", (image for image, _ in scenes))
    fake_datasets.save_mask(tmp_path / f"masks/{stem}.png", scenes[0][1])
    paths = {"video_path": tmp_path / video, "mask_path": tmp_path / f"masks/{stem}.png"}
    keys = {"initial": weights, "output_dir": tmp_path / "out", "save_indexed_format": "index", **keys}
    end = run_in_process("demo/demo.py", **small(**paths, **keys))
    end.check_success()
    assert all(word in end.out + end.err for word in words), end
    assert ("so it is taken for the first" in end.err) == (stem in ("frame_00004", "f4"))
    start = int(stem) if stem.isdecimal() else 0
    masks = [
        np.array(Image.open(path)) for path in sorted((tmp_path / "out" / Path(video).stem).glob("*.png"))
    ]
    assert len(masks) == FRAMES and np.array_equal(masks[start], scenes[0][1])
    assert all(masks[t].any() == ("backward" in keys) for t in range(start))


def test_a_mask_after_the_end_of_a_film(tmp_path: Path, weights: Path) -> None:
    fake_datasets.write_mp4(tmp_path / "film.mp4", (fake_datasets.scene([1], t)[0] for t in range(FRAMES)))
    fake_datasets.save_mask(tmp_path / "2024.png", fake_datasets.scene([1])[1])
    paths = {"video_path": tmp_path / "film.mp4", "mask_path": tmp_path / "2024.png"}
    end = run_in_process("demo/demo.py", **small(**paths, initial=weights, output_dir=tmp_path / "out"))
    end.check_error("film.mp4 ends at frame 5", "2024.png", "name a mask after its frame")
