"""Data sets that are incomplete or wrong, to test on and to train on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

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
    "a synthetic set to test on": (lambda r: None, "STATIC", ["'valset'", "STATIC"]),
}


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_set_is_refused(tmp_path: Path, weights: Path, name: str) -> None:
    make, valset, words = SETS[name]
    make(tmp_path)
    keys = small(root=tmp_path, valset=valset, initial=weights)
    run_in_process("test.py", **keys).check_error(*words)
    assert not (tmp_path / "pwned").exists()


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


@pytest.mark.parametrize("name", READ_BY_WORKERS)
def test_a_loader_process_passes_its_error_on(tmp_path: Path, name: str) -> None:
    """In a fork, because the script kills its loader processes when it ends."""
    end = ForkedScript("train.py", **training(tmp_path, name, workers=1, checked_masks=0)).wait()
    end.check_error(*TRAINING[name][2])
