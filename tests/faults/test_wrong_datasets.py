"""Data sets that are incomplete or wrong, to test on and to train on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
}


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_set_is_refused(tmp_path: Path, weights: Path, name: str) -> None:
    make, valset, words = SETS[name]
    make(tmp_path)
    keys = small(root=tmp_path, valset=valset, initial=weights)
    run_in_process("test.py", **keys).check_error(*words)
    assert not (tmp_path / "pwned").exists()


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
