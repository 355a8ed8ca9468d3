"""Data sets that are incomplete or wrong, to test on and to train on."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.submission import check
from tests.helpers import fake_datasets
from tests.helpers.damage import cut
from tests.helpers.small_network import TRAIN_ON_FOLDER, small
from tests.helpers.subprocess_runner import ForkedScript, run_in_process


def _half(root: Path) -> None:
    tree = fake_datasets.davis17(root)
    names = [f"v{i:02d}" for i in range(14)]
    fake_datasets.write_db_info(tree, [(name, "val", 2017) for name in names])


def _meta(root: Path, videos: object) -> None:
    (fake_datasets.youtube_vos(root) / "valid/meta.json").write_text(json.dumps(videos))


def _db_info(root: Path, text: str) -> None:
    (fake_datasets.davis17(root) / "data/db_info.yaml").write_text(text.replace("{root}", str(root)))


LISTED = {"objects": {"1": {"category": "x", "frames": ["00000"]}}}
SETS: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "wrong root": (lambda r: None, "DAVIS17", ["DAVIS17", "set root"]),
    "no YouTube-VOS": (lambda r: None, "VOS", ["meta.json", "set root"]),
    "no folder": (lambda r: None, "FOLDER", ["JPEGImages"]),
    "a folder in another case": (
        lambda r: fake_datasets.folder(r) and (r / "JPEGImages").rename(r / "JPEGIMAGES"),
        "FOLDER",
        ["JPEGImages does not exist beside Annotations, JPEGIMAGES (2 entries)"],
    ),
    "half a set": (_half, "DAVIS17", ["14 of 14 videos are incomplete", "v00", "v09"]),
    "listed, not there": (
        lambda r: fake_datasets.write_db_info(fake_datasets.davis17(r), [("ghost", "val", 2017)]),
        "DAVIS17",
        ["ghost", "complete the data set"],
    ),
    "no video of the split": (
        lambda r: fake_datasets.write_db_info(fake_datasets.davis17(r), [("pair", "train", 2017)]),
        "DAVIS17",
        ["'val'"],
    ),
    "db_info not YAML": (lambda r: _db_info(r, "sequences: ["), "DAVIS17", ["db_info.yaml"]),
    "db_info of another shape": (
        lambda r: _db_info(r, "sequences: {a: 1}"),
        "DAVIS17",
        ["db_info.yaml", "sequences"],
    ),
    "db_info with an object tag": (
        lambda r: _db_info(r, "sequences: !!python/object/apply:os.system ['touch {root}/pwned']"),
        "DAVIS17",
        ["db_info.yaml"],
    ),
    "meta.json without the video": (lambda r: _meta(r, {"videos": {"ghost": LISTED}}), "VOS", ["ghost"]),
    "meta.json empty": (lambda r: _meta(r, {}), "VOS", ["meta.json", "videos"]),
    "meta.json nested deeply": (
        lambda r: (fake_datasets.youtube_vos(r) / "valid/meta.json").write_text("[" * 100000),
        "VOS",
        ["meta.json"],
    ),
    "../ in db_info": (
        lambda r: fake_datasets.write_db_info(fake_datasets.davis17(r), [("../../x", "val", 2017)]),
        "DAVIS17",
        ["would leave the folder"],
    ),
    "../ in meta.json": (lambda r: _meta(r, {"videos": {"../x": LISTED}}), "VOS", ["would leave the folder"]),
    "odd tag in db_info": (lambda r: _db_info(r, "sequences: !!int ''"), "DAVIS17", ["db_info.yaml"]),
    "a name that is a list": (
        lambda r: _db_info(r, "sequences: [{name: [a], set: val}]"),
        "DAVIS17",
        ["db_info.yaml", "sequences"],
    ),
    "two videos of a name": (
        lambda r: (
            fake_datasets.folder(r, masked=(0,)),
            fake_datasets.write_mp4(r / "JPEGImages/mine.mp4", [fake_datasets.scene([1])[0]]),
        ),
        "FOLDER",
        ["'mine'", "twice"],
    ),
    "two frames of a name": (
        lambda r: (
            fake_datasets.folder(r, masked=(0,)),
            fake_datasets.save_image(r / "JPEGImages/mine/00001.jpg", fake_datasets.scene([1])[1]),
        ),
        "FOLDER",
        ["'00001'", "twice"],
    ),
    "a line that is no frame": (
        lambda r: _lists(r, 2016, **{"480p__val": FRAMES_2016 + "/Annotations/480p/dog/00000.png\n"}),
        "DAVIS16",
        [
            "val.txt, line 9: expected the name of a video, or a line as",
            "found '/Annotations/480p/dog/00000.png'",
        ],
    ),
    "a frame and the mask of another video": (
        lambda r: _lists(r, 2016, **{"480p__val": LINE.format("dog", 0).replace("dog", "cat", 1)}),
        "DAVIS16",
        ["val.txt, line 1:"],
    ),
    "../ in the archive of 2016": (
        lambda r: _lists(r, 2016, **{"480p__val": LINE.format("..", 0)}),
        "DAVIS16",
        ["val.txt, line 1:", "would leave the folder"],
    ),
    "lists of other splits": (
        lambda r: _lists(r, 2017, **{"2017__train": "duo", "2017__test_dev": "dev"}),
        "DAVIS17",
        ["no video for the split 'val', only for test-dev, train;"],
    ),
    "an empty list": (
        lambda r: _lists(r, 2017, **{"2017__val": "\n", "2017__train": "duo"}),
        "DAVIS17",
        ["no video for the split 'val', only for train;"],
    ),
    "another resolution": (
        lambda r: (fake_datasets.davis17(r) / "JPEGImages/480p").rename(
            r / "DAVIS17/JPEGImages/Full-Resolution"
        ),
        "DAVIS17",
        ["JPEGImages/480p does not exist, only Full-Resolution; set davis_resolution Full-Resolution"],
    ),
    "a synthetic set to test on": (lambda r: None, "STATIC", ["'valset'", "STATIC"]),
    "no MOSE": (
        lambda r: None,
        "MOSE",
        ["MOSE/valid/JPEGImages does not exist; set root to the folder that"],
    ),
    "no LVOS": (
        lambda r: None,
        "LVOS",
        ["LVOS/valid/JPEGImages does not exist; set root to the folder that"],
    ),
    "no VOST": (
        lambda r: None,
        "VOST",
        ["VOST/ImageSets/val.txt does not exist; set root to the folder that"],
    ),
    "MOSE without the split": (
        lambda r: shutil.rmtree(fake_datasets.mose(r) / "valid"),
        "MOSE",
        ["MOSE/valid/JPEGImages does not exist; there is one in train; check val_split, or complete"],
    ),
    "MOSE, the split in a folder of its name": (
        lambda r: _deeper(fake_datasets.mose(r) / "valid"),
        "MOSE",
        ["MOSE/valid/valid; move them to {root}/MOSE/valid"],
    ),
    "MOSE without the folder of the split": (
        lambda r: _higher(fake_datasets.mose(r), "valid"),
        "MOSE",
        ["its files lie in {root}/MOSE; move them to {root}/MOSE/valid"],
    ),
    "MOSE of version 2 under its name": (
        lambda r: fake_datasets.mose(r).rename(r / "MOSEv2"),
        "MOSE",
        ["found {root}/MOSEv2; rename it MOSE, or link it under that name"],
    ),
    "MOSE without frames": (
        lambda r: (r / "MOSE/valid/JPEGImages").mkdir(parents=True),
        "MOSE",
        ["MOSE/valid/JPEGImages: expected a folder of frames for each video, found none"],
    ),
    "MOSE, a split that is empty": (
        lambda r: (r / "MOSE/valid/Annotations/a").mkdir(parents=True),
        "MOSE",
        ["MOSE/valid/JPEGImages does not exist; complete the data set"],
    ),
    "LVOS one folder too deep": (
        lambda r: _deeper(fake_datasets.lvos(r)),
        "LVOS",
        ["its files lie in {root}/LVOS/LVOS/val; move them to {root}/LVOS/val"],
    ),
    "LVOS without its meta file": (
        lambda r: (fake_datasets.lvos(r) / "val/val_meta.json").unlink(),
        "LVOS",
        ["LVOS/val/val_meta.json does not exist; it is a download of its own, see DATASET.md: put it there"],
    ),
    "LVOS without the range of an object": (
        lambda r: (fake_datasets.lvos(r) / "val/val_meta.json").write_text(
            json.dumps({"videos": {"rare": LISTED}})
        ),
        "LVOS",
        ["val_meta.json: video 'rare': an object is not as expected ('frame_range' is missing)"],
    ),
    "LVOS with a range that is no number": (
        lambda r: _frame_range(r, "a", 5),
        "LVOS",
        ["val_meta.json: video 'rare': an object is not as expected (invalid literal"],
    ),
    "LVOS with an infinite range": (
        lambda r: _frame_range(r, 1, float("inf")),
        "LVOS",
        ["val_meta.json: video 'rare': an object is not as expected (cannot convert float infinity"],
    ),
    "LVOS with a range that would fill the memory": (
        lambda r: _frame_range(r, 1, 10**15),
        "LVOS",
        ["(expected an end up to 1000000 after the start, found 1 and 1000000000000000)"],
    ),
    "LVOS with a range that ends before its start": (
        lambda r: _frame_range(r, 26, 1),
        "LVOS",
        ["an object is not as expected (expected an end up to 1000000 after the start, found 26 and 1)"],
    ),
    "../ in LVOS": (
        lambda r: fake_datasets.write_frame_ranges(fake_datasets.lvos(r) / "val", {"../x": {1: (1, 26)}}),
        "LVOS",
        ["would leave the folder"],
    ),
    "VOST one folder too deep": (
        lambda r: _deeper(fake_datasets.vost(r)),
        "VOST",
        ["its files lie in {root}/VOST/VOST; move them to {root}/VOST"],
    ),
    "VOST without the list": (
        lambda r: (fake_datasets.vost(r) / "ImageSets/val.txt").unlink(),
        "VOST",
        ["VOST/ImageSets/val.txt does not exist; there are lists of train; check val_split"],
    ),
    "VOST with an empty list": (
        lambda r: (fake_datasets.vost(r) / "ImageSets/val.txt").write_text("\n"),
        "VOST",
        ["VOST/ImageSets/val.txt: expected the name of a video in each line, found none"],
    ),
    "../ in VOST": (
        lambda r: (fake_datasets.vost(r) / "ImageSets/val.txt").write_text("../x"),
        "VOST",
        ["val.txt, line 1:", "would leave the folder"],
    ),
    "VOST without frames": (
        lambda r: shutil.rmtree(fake_datasets.vost(r) / "JPEGImages"),
        "VOST",
        ["expected the frames of video 'new', found no such folder; complete the data set"],
    ),
    "YouTube-VOS one folder too deep": (
        lambda r: _deeper(fake_datasets.youtube_vos(r) / "valid"),
        "VOS",
        ["valid/meta.json does not exist; its files lie in {root}/Youtube-VOS/valid/valid; move them to"],
    ),
    "YouTube-VOS without meta.json": (
        lambda r: (fake_datasets.youtube_vos(r) / "valid/meta.json").unlink(),
        "VOS",
        ["valid/meta.json does not exist; complete the data set, see DATASET.md"],
    ),
    "YouTube-VOS under another name": (
        lambda r: fake_datasets.youtube_vos(r).rename(r / "YouTubeVOS2018"),
        "VOS",
        ["found {root}/YouTubeVOS2018; rename it Youtube-VOS, or link it under that name"],
    ),
    "a category that is no text": (
        lambda r: _hold_out(r, lambda *key: ["dog"]),
        "VOS",
        ["meta.json: video 'bbb': an object is not as expected (expected a text 'category')"],
    ),
    "DAVIS one folder too deep": (
        lambda r: _deeper(fake_datasets.davis17(r), "DAVIS"),
        "DAVIS17",
        [
            "found no video in data/db_info.yaml or ImageSets/2017/val.txt; "
            "its files lie in {root}/DAVIS17/DAVIS; move"
        ],
    ),
    "DAVIS under the name of its archive": (
        lambda r: fake_datasets.davis17(r).rename(r / "DAVIS"),
        "DAVIS17",
        ["found {root}/DAVIS; rename it DAVIS17, or link it under that name"],
    ),
}


def _deeper(folder: Path, name: str = "") -> None:
    """Move a folder into one of its own name, or of this name: an archive that was unpacked too deep."""
    inner = folder.rename(folder.with_name("moved"))
    folder.mkdir()
    inner.rename(folder / (name or folder.name))


def _higher(folder: Path, split: str) -> None:
    """Move the files of a split up, and remove the splits: an archive without a folder of its own."""
    moved = (folder / split).rename(folder.with_name("moved"))
    shutil.rmtree(folder)
    moved.rename(folder)


def _frame_range(root: Path, start: object, end: object) -> None:
    """LVOS with this range of an object."""
    objects = {"1": {"frame_range": {"start": start, "end": end}}}
    meta = fake_datasets.lvos(root) / "val/val_meta.json"
    meta.write_text(json.dumps({"videos": {"rare": {"objects": objects}}}))


def _hold_out(root: Path, category: Callable[[str, str], object]) -> None:
    """A valid split of YouTube-VOS with all masks."""
    tree = fake_datasets.youtube_vos(root)
    folders = (tree / "valid" / kind / "bbb" for kind in ("JPEGImages", "Annotations"))
    fake_datasets.write_video(*folders, {2: 0, 5: 3}, frames=7)
    fake_datasets.write_meta(tree / "valid", {"bbb": {"2": ["00000"], "5": ["00003"]}}, category)


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_set_is_refused(tmp_path: Path, weights: Path, name: str) -> None:
    make, valset, words = SETS[name]
    make(tmp_path)
    keys = small(root=tmp_path, valset=valset, initial=weights)
    words = [word.replace("{root}", str(tmp_path)) for word in words]
    run_in_process("test.py", **keys).check_error(*words)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["MOSE", "LVOS", "VOST", "Youtube-VOS", "DAVIS17"])
def test_a_root_that_is_the_data_set_is_named(tmp_path: Path, weights: Path, name: str) -> None:
    getattr(fake_datasets, name.lower().replace("-", "_"))(tmp_path)
    valset = "VOS" if name == "Youtube-VOS" else name
    end = run_in_process("test.py", **small(root=tmp_path / name, valset=valset, initial=weights))
    end.check_error(f"set root {tmp_path}, the folder that holds {name}")


LINE = "/JPEGImages/480p/{0}/{1:05d}.jpg /Annotations/480p/{0}/{1:05d}.png"


def _lists(root: Path, year: int, **lists: str) -> Path:
    """A DAVIS set without db_info.yaml. lists: path below ImageSets, with '__' for '/' -> text."""
    tree = (fake_datasets.davis16 if year == 2016 else fake_datasets.davis17)(root)
    (tree / "data/db_info.yaml").unlink()
    for name, text in lists.items():
        path = tree / f"ImageSets/{name.replace('__', '/').lstrip('_').replace('_', '-')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tree


FRAMES_2016 = "\n".join(LINE.format(name, t) for name in ("dog", "cat") for t in range(4)) + "\n"
NAMES = "dog\ncat\n"
# set, what makes it, keys, videos that are segmented, words of the warnings
LAYOUTS: dict[str, tuple[str, Callable[[Path], object], dict[str, str], list[str], list[str]]] = {
    "archive of 2016": (
        "DAVIS16",
        lambda r: _lists(r, 2016, **{"480p__val": FRAMES_2016, "480p__train": LINE.format("bear", 0)}),
        {},
        ["cat", "dog"],
        [],
    ),
    "archive of 2016, saved by an editor": (
        "DAVIS16",
        lambda r: _lists(
            r, 2016, **{"480p__val": "\ufeff\r\n" + FRAMES_2016.replace("\n", " \r\n"), "480p__x": "bear"}
        ),
        {},
        ["cat", "dog"],
        [],
    ),
    "archive of 2016, frames alone": (
        "DAVIS16",
        lambda r: _lists(r, 2016, **{"480p__val": "JPEGImages/480p/dog/00000.jpg\n", "480p__x": "bear\ncat"}),
        {},
        ["dog"],
        [],
    ),
    "names in the folder of a resolution, each once": (
        "DAVIS16",
        lambda r: _lists(r, 2016, **{"1080p__val": NAMES + NAMES, "1080p__train": "bear"}),
        {},
        ["cat", "dog"],
        [],
    ),
    "trainval": (
        "DAVIS16",
        lambda r: _lists(r, 2016, **{"480p__trainval": FRAMES_2016 + LINE.format("bear", 0)}),
        {"val_split": "trainval"},
        ["bear", "cat", "dog"],
        [],
    ),
    "a video in no list": (
        "DAVIS16",
        lambda r: _lists(r, 2016, **{"480p__val": FRAMES_2016}),
        {},
        ["cat", "dog"],
        ["JPEGImages/480p: 1 entry left out, not in a list of the data set: bear"],
    ),
    "test-challenge": (
        "DAVIS17",
        lambda r: _lists(r, 2017, **{"2017__test_challenge": "dev", "2017__train": "duo\npair\ntrio"}),
        {"val_split": "test-challenge"},
        ["dev"],
        [],
    ),
    "test-challenge beside db_info": (
        "DAVIS17",
        lambda r: (
            (fake_datasets.davis17(r) / "ImageSets/2017").mkdir(parents=True)
            or (r / "DAVIS17/ImageSets/2017/test-challenge.txt").write_text("dev")
        ),
        {"val_split": "test-challenge"},
        ["dev"],
        [],
    ),
    "full resolution": (
        "DAVIS17",
        lambda r: [
            (fake_datasets.davis17(r) if kind == "JPEGImages" else r / "DAVIS17")
            .joinpath(kind, "480p")
            .rename(r / "DAVIS17" / kind / "Full-Resolution")
            for kind in ("JPEGImages", "Annotations")
        ],
        {"davis_resolution": "Full-Resolution"},
        ["duo"],
        [],
    ),
    "YouTube-VOS with an object that meta.json does not name": (
        "VOS",
        lambda r: fake_datasets.write_meta(
            fake_datasets.youtube_vos(r) / "valid", {"bbb": {"2": ["00000", "00003", "00006"]}}
        ),
        {},
        ["bbb"],
        ["its masks show object 5, which meta.json does not list; given and scored all the same"],
    ),
    "MOSE": ("MOSE", fake_datasets.mose, {}, ["a", "b"], []),
    "MOSE, a video beside": (
        "MOSE",
        lambda r: (fake_datasets.mose(r) / "valid/JPEGImages/a.txt").write_text("x"),
        {},
        ["a", "b"],
        ["valid/JPEGImages: 1 entry left out, not a folder of frames: a.txt"],
    ),
    "LVOS": ("LVOS", fake_datasets.lvos, {}, ["common", "rare"], []),
    "LVOS without unseen_videos.txt": (
        "LVOS",
        lambda r: fake_datasets.lvos(r, unseen=None),
        {},
        ["common", "rare"],
        ["LVOS/unseen_videos.txt does not exist, so that seen and unseen categories are not scored apart"],
    ),
    "LVOS with an object that the meta file does not name": (
        "LVOS",
        lambda r: fake_datasets.write_frame_ranges(
            fake_datasets.lvos(r) / "val", {name: {1: (1, 26)} for name in ("common", "rare")}
        ),
        {},
        ["common", "rare"],
        [
            f"video '{name}': its masks show object 2, which meta.json does not list; given, but not scored"
            for name in ("common", "rare")
        ],
    ),
    "LVOS with a mask that is missing": (
        "LVOS",
        lambda r: (fake_datasets.lvos(r) / "val/Annotations/rare/00000011.png").unlink(),
        {},
        ["common", "rare"],
        ["1 frame that val_meta.json names for scoring left out, as the frame or its mask is missing: rare/"],
    ),
    "VOST": ("VOST", fake_datasets.vost, {}, ["new"], []),
    "VOST with a video in no list": (
        "VOST",
        lambda r: (fake_datasets.vost(r) / "ImageSets/train.txt").unlink(),
        {},
        ["new"],
        ["VOST/JPEGImages: 1 entry left out, not in a list of the data set: old"],
    ),
    "YouTube-VOS without the training split": (
        "VOS",
        lambda r: (_hold_out(r, lambda *key: "dog"), (r / "Youtube-VOS/train/meta.json").unlink()),
        {},
        ["bbb"],
        ["train/meta.json does not exist, so that seen and unseen categories are not scored apart"],
    ),
    "YouTube-VOS without categories": (
        "VOS",
        lambda r: _hold_out(r, lambda *key: None),
        {},
        ["bbb"],
        ["valid/meta.json names no category of bbb/2, bbb/5, so that seen and unseen categories"],
    ),
    "YouTube-VOS with a video that meta.json does not name": (
        "VOS",
        lambda r: shutil.copytree(
            fake_datasets.youtube_vos(r) / "valid/JPEGImages/bbb", r / "Youtube-VOS/valid/JPEGImages/ccc"
        ),
        {},
        ["bbb"],
        ["valid/JPEGImages: 1 entry left out, not in meta.json: ccc"],
    ),
}


@pytest.mark.parametrize(
    ("valset", "first"),
    [("MOSE", "a/00000.png"), ("LVOS", "Annotations/common/00000001.png"), ("VOST", "new/00000.png")],
)
def test_the_zip_has_the_form_of_the_server(tmp_path: Path, weights: Path, valset: str, first: str) -> None:
    getattr(fake_datasets, valset.lower())(tmp_path)
    keys = small(root=tmp_path, valset=valset, initial=weights, submission=True)
    end = run_in_process("test.py", **keys)
    end.check_success()
    assert ("the form that the server of VOST expects is not known" in end.out) == (valset == "VOST")
    with zipfile.ZipFile(tmp_path / f"output/{valset}.zip") as archive:
        names = archive.namelist()
    masks = list((tmp_path / "output" / valset).glob("*/*.png"))
    assert names[0] == first and len(names) == len(masks)  # a mask of every frame
    part = {"MOSE": "MOSE/valid", "LVOS": "LVOS/val"}.get(valset)  # VOST has one folder for all splits
    assert check(tmp_path / "output" / valset, tmp_path / part / "JPEGImages" if part else None) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_other_lists_and_layouts_are_read(tmp_path: Path, weights: Path, name: str) -> None:
    valset, make, keys, videos, words = LAYOUTS[name]
    make(tmp_path)
    end = run_in_process("test.py", **small(root=tmp_path, valset=valset, initial=weights, **keys))
    end.check_success(*words)
    assert end.err.count("warning:") == len(words)
    output = tmp_path / "output" / valset
    assert sorted({path.parent.name for path in output.glob("*/*.png")}) == videos


def test_a_listed_video_that_is_missing_fails_alone(tmp_path: Path, weights: Path) -> None:
    _lists(tmp_path, 2016, **{"480p__val": "dog\nghost\ncat", "480p__train": "bear"})
    end = run_in_process("test.py", **small(root=tmp_path, valset="DAVIS16", initial=weights))
    end.check_error("1 of 3 videos failed", "ghost")
    assert "video 'ghost' is left out" in end.err and "no such folder; complete the data set" in end.err
    assert {path.parent.name for path in (tmp_path / "output/DAVIS16").glob("*/*.png")} == {"cat", "dog"}


def static_with(root: Path, content: bytes | None, mask: bool) -> None:
    fake_datasets.save_image(root / "STATIC/images/a.png", fake_datasets.scene([1])[0])
    if content is not None:
        (root / "STATIC/images/a.png").write_bytes(content)
    (root / "STATIC/masks").mkdir(parents=True)
    if mask:
        fake_datasets.save_mask(root / "STATIC/masks/a.png", fake_datasets.scene([1])[1])


TRAINING: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "wrong root": (lambda r: None, "DAVIS17", ["DAVIS17", "set root"]),
    "no clip to train on": (
        lambda r: fake_datasets.folder(r, masked=(0,)),
        "FOLDER",
        ["'FOLDER'", "two annotated frames"],
    ),
    "films alone": (
        lambda r: _film(fake_datasets.folder(r)),
        "FOLDER",
        [
            "training takes frames from folders, not from video files (mine.mp4)",
            "`mkdir '",
            "ffmpeg -i '",
            "JPEGImages/mine/%05d.png'`, and move the file out of JPEGImages",
        ],
    ),
    "MOSE without masks": (
        lambda r: shutil.rmtree(fake_datasets.mose(r) / "train/Annotations"),
        "MOSE",
        ["2 of 2 videos are incomplete", "train/Annotations/many does not exist"],
    ),
    "no complete video": (
        lambda r: shutil.rmtree(fake_datasets.folder(r) / "Annotations"),
        "FOLDER",
        ["Annotations/mine does not exist"],
    ),
    "two masks of an image": (
        lambda r: (static_with(r, None, True), fake_datasets.save_image(r / "STATIC/masks/a.bmp", *_grey())),
        "STATIC",
        ["STATIC/masks: 'a' is there twice"],
    ),
    "no images": (lambda r: None, "STATIC", ["STATIC/images"]),
    "an image without a mask": (lambda r: static_with(r, None, False), "STATIC", ["STATIC/masks", "a.png"]),
    "a broken image": (lambda r: static_with(r, b"no image", True), "STATIC", ["a.png", "readable"]),
    "a broken frame": (
        lambda r: cut(fake_datasets.folder(r) / "JPEGImages/mine/00001.png"),
        "FOLDER",
        ["00001.png"],
    ),
    "a broken mask": (
        lambda r: cut(fake_datasets.folder(r) / "Annotations/mine/00001.png"),
        "FOLDER",
        ["00001.png"],
    ),
    "a mask of another size": (
        lambda r: [
            fake_datasets.save_mask(p, fake_datasets.scene([1], size=(40, 40))[1])
            for p in (fake_datasets.folder(r) / "Annotations/mine").iterdir()
        ],
        "FOLDER",
        ["40x40"],
    ),
}


def _grey() -> tuple[np.ndarray]:
    return (np.zeros(fake_datasets.SIZE, np.uint8),)


def _film(root: Path, name: str = "mine") -> None:
    """Replace the frames of a video by a file."""
    frames = root / "JPEGImages" / name
    fake_datasets.write_mp4(
        frames.with_suffix(".mp4"), (np.array(Image.open(path)) for path in sorted(frames.iterdir()))
    )
    shutil.rmtree(frames)


READ_BY_WORKERS = [
    name for name in TRAINING if "broken" in name or "size" in name
]  # the rest ends before loading


def training(root: Path, name: str, **keys: object) -> dict[str, object]:
    """Make a training set of this row; returns config keys to train on it."""
    make, trainset, _ = TRAINING[name]
    make(root)
    keys = {**TRAIN_ON_FOLDER, "trainset": trainset, "samples_per_video": 4, **keys}
    return small(**keys, root=root, checkpoint=root / "ckpt")


@pytest.mark.parametrize("name", TRAINING)
def test_a_wrong_training_set_is_refused(tmp_path: Path, name: str) -> None:
    run_in_process("train.py", **training(tmp_path, name)).check_error(*TRAINING[name][2])


PARTLY: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a film beside": (
        lambda r: _film(fake_datasets.folder(r, name="film"), "film"),
        "FOLDER",
        "1 of 2 videos are left out: training takes frames from folders, not from video files (film.mp4)",
    ),
    "a video of one frame in MOSE": (
        fake_datasets.mose,
        "MOSE",
        "training set 'MOSE': 1 of 2 videos are left out: training needs two masks, which these lack: single",
    ),
    "an incomplete video beside": (
        lambda r: (r / "JPEGImages/empty").mkdir(parents=True),
        "FOLDER",
        "video 'empty' is left out",
    ),
    "an image without a mask beside": (
        lambda r: (
            static_with(r, None, True),
            fake_datasets.save_image(r / "STATIC/images/b.png", fake_datasets.scene([1])[0]),
        ),
        "STATIC",
        "STATIC/masks: 1 image of 2 left out, without a mask of that name: b.png",
    ),
    "a mask without an image beside": (
        lambda r: (
            static_with(r, None, True),
            fake_datasets.save_mask(r / "STATIC/masks/b.png", fake_datasets.scene([1])[1]),
        ),
        "STATIC",
        "STATIC: 1 mask left out, without a frame of that name: masks/b.png",
    ),
    "texts beside": (
        lambda r: (static_with(r, None, True), (r / "STATIC/images/a.txt").write_text("x")),
        "STATIC",
        "STATIC: 1 file left out, not an image",
    ),
}


@pytest.mark.parametrize("name", PARTLY)
def test_training_names_what_it_leaves_out(tmp_path: Path, name: str) -> None:
    make, trainset, words = PARTLY[name]
    make(tmp_path)
    if trainset == "FOLDER":
        fake_datasets.folder(tmp_path)
    keys = {**TRAIN_ON_FOLDER, "trainset": trainset, "samples_per_video": 2}
    end = run_in_process("train.py", **small(**keys, root=tmp_path, checkpoint=tmp_path / "ckpt"))
    end.check_success(words)
    assert end.err.count("left out") == 1


def test_training_names_the_keys_of_validation(tmp_path: Path) -> None:
    """The default of valset is DAVIS17, which whoever trains on a set of their own need not have."""
    fake_datasets.folder(tmp_path)
    keys = small(**TRAIN_ON_FOLDER, root=tmp_path, checkpoint=tmp_path / "ckpt")
    end = run_in_process("train.py", **{**keys, "epoch_per_test": 1})
    end.check_error("DAVIS17", "training validates on this set", "`valset`", "`epoch_per_test 0`")


@pytest.mark.parametrize("name", READ_BY_WORKERS)
def test_a_loader_process_passes_its_error_on(tmp_path: Path, name: str) -> None:
    """In a fork, because the script kills its loader processes when it ends."""
    end = ForkedScript("train.py", **training(tmp_path, name, workers=1, checked_masks=0)).wait()
    end.check_error(*TRAINING[name][2])
