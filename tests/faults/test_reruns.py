"""A second run into the same folder: what is segmented again, and what is left of the first one."""

import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.submission import check
from tests.helpers import fake_datasets
from tests.helpers.limits import small_disk
from tests.helpers.small_network import TRAIN_ON_FOLDER, segment_folder, small, small_state_dict
from tests.helpers.subprocess_runner import ForkedScript, Result, run_in_process

STYLES = ("index", "binary", "probability", "coco")
LEFT = "files of earlier runs"
OTHER = "with other settings or weights"


def warned(end: Result, words: str) -> str:
    """The one warning that contains these words; '' if there is none."""
    lines = [line for line in end.err.splitlines() if words in line]
    assert len(lines) < 2 and all(line.startswith("warning: ") for line in lines), end.err
    return "".join(lines)


def done(root: Path, weights: Path, **keys: object) -> int:
    """How many videos a run with skip_done leaves out."""
    end = segment_folder(root, weights, skip_done=True, **keys)
    end.check_success()
    told = [line for line in end.out.splitlines() if line.startswith("skip_done: ")]
    return int(told[0].split()[1]) if told else 0


def files(folder: Path) -> set[str]:
    """What one sees below a folder, as paths."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if not any(part.startswith(".") for part in path.parts)}


# ---- what counts as done -------------------------------------------------------------------------


def keep_stat(path: Path, change: Callable[[], object]) -> None:
    """Change a file, but neither its size nor its time."""
    before = path.stat()
    change()
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_tail(path: Path) -> None:
    """Change one of the last bytes, as the checksum of other content does."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def other_weights(path: Path) -> None:
    state = small_state_dict()
    state["Decoder.pred2.bias"] += 0.5
    torch.save({"state_dict": state}, path)


CHANGED: dict[str, tuple[Callable[[Path, Path], object], dict[str, object], int]] = {
    # what happens between two runs, keys of the second one, videos that are left out
    "nothing": (lambda root, w: None, {}, 2),
    "a frame, neither its size nor its time": (
        lambda root, w: keep_stat(f := root / "JPEGImages/mine/00001.png", lambda: repaint(f)),
        {},
        1,
    ),
    "a frame is added": (
        lambda root, w: fake_datasets.save_image(
            root / "JPEGImages/mine/00004.png", fake_datasets.scene([1, 2], 4)[0]
        ),
        {},
        1,
    ),
    "a frame is removed": (lambda root, w: (root / "JPEGImages/mine/00003.png").unlink(), {}, 1),
    "the weights, neither their size nor their time": (
        lambda root, w: keep_stat(w, lambda: other_weights(w)),
        {},
        0,
    ),
    "the time of the weights": (lambda root, w: os.utime(w, (1, 1)), {}, 2),
    "the name of the weights": (lambda root, w: w.rename(root / "x.pth"), {"initial": "{root}/x.pth"}, 2),
    "a key that changes masks": (lambda root, w: None, {"save_freq": 2}, 0),
    "a key of training": (lambda root, w: None, {"epochs": 3, "learning_rate": 1e-3, "workers": 1}, 2),
    "a video is renamed": (lambda root, w: rename(root, "mine", "yours"), {}, 1),
}


def repaint(path: Path) -> None:
    """Give a PNG other pixels and as many bytes as before."""
    size = path.stat().st_size
    image = np.array(Image.open(path))
    image[:4, :4] = 91
    Image.fromarray(image).save(path)
    content = path.read_bytes()
    if len(content) > size:
        Image.fromarray(image).save(path, compress_level=9, optimize=True)
        content = path.read_bytes()
    path.write_bytes(content.ljust(size, b"\0")[:size])


def rename(root: Path, old: str, new: str) -> None:
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / old).rename(root / folder / new)


@pytest.fixture
def own_weights(tmp_path: Path) -> Path:
    """A file of weights that a test may change."""
    torch.save({"state_dict": small_state_dict()}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_segmented_again(tmp_path: Path, own_weights: Path, name: str) -> None:
    fake_datasets.two_videos(tmp_path)
    segment_folder(tmp_path, own_weights).check_success()
    change, keys, left_out = CHANGED[name]
    change(tmp_path, own_weights)
    keys = {key: str(value).format(root=tmp_path) for key, value in keys.items()}
    assert done(tmp_path, Path(keys.pop("initial", own_weights)), **keys) == left_out


REMOVED = {"index": "mine/00002.png", "binary": "mine/2/00001.png", "probability": "mine/1/00000.png"}
REMOVED["coco"] = "mine.json"


@pytest.mark.parametrize("style", STYLES)
def test_a_result_that_was_removed_is_made_again(tmp_path: Path, weights: Path, style: str) -> None:
    fake_datasets.two_videos(tmp_path)
    output = tmp_path / "output/FOLDER"
    assert done(tmp_path, weights, save_indexed_format=style) == 0
    written = files(output)
    assert done(tmp_path, weights, save_indexed_format=style) == 2
    (output / REMOVED[style]).unlink()
    assert done(tmp_path, weights, save_indexed_format=style) == 1 and files(output) == written


def test_an_empty_result_is_made_again(tmp_path: Path, weights: Path) -> None:
    """As a copy to a full disk leaves it."""
    fake_datasets.two_videos(tmp_path)
    segment_folder(tmp_path, weights).check_success()
    path = tmp_path / "output/FOLDER/mine/00002.png"
    path.write_bytes(b"")
    end = segment_folder(tmp_path, weights, skip_done=True)
    assert "skip_done: 1 of 2" in end.out and path.stat().st_size


def test_another_style_is_another_run(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    assert [done(tmp_path, weights, save_indexed_format=style) for style in ("index", "coco", "coco")] == [
        0,
        0,
        2,
    ]


def test_a_damaged_record_does_not_matter_without_skip_done(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    for damage in (b"{", b"\xff", b"[]", b'{"fingerprint": []}'):
        (tmp_path / "output/FOLDER/.done").mkdir(parents=True, exist_ok=True)
        (tmp_path / "output/FOLDER/.done/mine.json").write_bytes(damage)
        segment_folder(tmp_path, weights).check_success()
    assert done(tmp_path, weights) == 2


# ---- what an earlier run has left ----------------------------------------------------------------


def shorten(root: Path) -> None:
    (root / "JPEGImages/mine/00003.png").unlink()


def remove_video(root: Path) -> None:
    for folder in ("JPEGImages/mine", "Annotations/mine"):
        for path in (root / folder).iterdir():
            path.unlink()
        (root / folder).rmdir()


def one_object(root: Path) -> None:
    fake_datasets.save_mask(root / "Annotations/mine/00000.png", fake_datasets.scene([1])[1])


LEFTOVERS: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    # style of the first run, what happens, style of the second, what is named
    "fewer frames": (
        "index",
        shorten,
        "index",
        "1 of frames that this run did not write (first mine/00003.png)",
    ),
    "fewer frames, binary": (
        "binary",
        shorten,
        "binary",
        "2 of frames that this run did not write (first mine/1/",
    ),
    "fewer frames, coco": ("coco", shorten, "coco", ""),
    "fewer objects": (
        "binary",
        one_object,
        "binary",
        "4 of frames that this run did not write (first mine/2/",
    ),
    "other frame names": (
        "index",
        lambda root: (root / "JPEGImages/mine/00003.png").rename(root / "JPEGImages/mine/frame.png"),
        "index",
        "1 of frames that this run did not write (first mine/00003.png)",
    ),
    "a video is renamed": (
        "index",
        lambda root: rename(root, "mine", "yours"),
        "index",
        "4 of videos that are not in the set (first mine/00000.png)",
    ),
    "a video is gone, coco": (
        "coco",
        remove_video,
        "coco",
        "1 of videos that are not in the set (first mine.json)",
    ),
    "a video is gone, binary": ("binary", remove_video, "index", "8 of videos that are not in the set"),
    "index, then binary": (
        "index",
        lambda root: None,
        "binary",
        "8 of another save_indexed_format (first mine/0",
    ),
    "binary, then index": (
        "binary",
        lambda root: None,
        "index",
        "16 of another save_indexed_format (first mine/1/",
    ),
    "index, then coco": ("index", lambda root: None, "coco", "8 of another save_indexed_format"),
    "coco, then heatmap": (
        "coco",
        lambda root: None,
        "heatmap",
        "2 of another save_indexed_format (first mine.json)",
    ),
    "index, then overlays": ("index", lambda root: None, "segmentation", ""),
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_files_of_an_earlier_run_are_counted_once(tmp_path: Path, weights: Path, name: str) -> None:
    fake_datasets.two_videos(tmp_path)
    first, change, second, words = LEFTOVERS[name]
    end = segment_folder(tmp_path, weights, save_indexed_format=first)
    assert not warned(end, LEFT) and not warned(end, OTHER)
    change(tmp_path)
    end = segment_folder(tmp_path, weights, save_indexed_format=second)
    end.check_success()
    told = warned(end, LEFT)
    assert words in told and bool(words) == bool(told)
    assert not told or (str(tmp_path / "output/FOLDER") in told and "output_dir" in told)


def test_what_is_not_of_such_a_run_is_not_counted(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    output = tmp_path / "output/FOLDER"
    for path in (
        "notes.json",
        "mine/readme.txt",
        "other run/.lock",
        "other run/00000.png",
        ".hidden/00000.png",
    ):
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_text("{}")
    end = segment_folder(tmp_path, weights)
    end.check_success()
    assert not warned(end, LEFT)


def test_a_video_that_failed_keeps_what_it_had(tmp_path: Path, weights: Path) -> None:
    """Its old masks are not called those of other frames or videos."""
    images, masks = fake_datasets.two_videos(tmp_path)
    segment_folder(tmp_path, weights).check_success()
    (masks / "00000.png").write_bytes(b"")
    end = segment_folder(tmp_path, weights)
    end.check_error("1 of 2 videos failed")
    assert not warned(end, LEFT)


def test_a_zip_holds_the_expected_masks_only(tmp_path: Path, weights: Path) -> None:
    """Those of other frames and videos are warned of; the checker of folders still refuses them."""
    fake_datasets.youtube_vos(tmp_path)
    run = {"valset": "VOS"}
    segment_folder(tmp_path, weights, **run).check_success()
    output = tmp_path / "output/VOS"
    for old in ("old/00000.png", "bbb/9/00000.png"):
        (output / old).parent.mkdir()
        (output / old).write_bytes((output / "bbb/00000.png").read_bytes())
    end = segment_folder(tmp_path, weights, **run, submission=True)
    end.check_success()
    told = warned(end, LEFT)
    assert (
        "of frames that this run did not write" in told and "1 of videos" in told and "1 of another" in told
    )
    with zipfile.ZipFile(tmp_path / "output/VOS.zip") as archive:
        names = archive.namelist()
    assert "Annotations/bbb/00003.png" in names
    assert not {"Annotations/bbb/00001.png", "Annotations/old/00000.png"} & set(names)
    packed = {"bbb": {"00000": {2, 5}, "00003": {2, 5}, "00006": {2, 5}}}
    errors = check(output, expected=packed)
    assert any("bbb/00001.png: the server expects no mask" in line for line in errors)


@pytest.mark.parametrize("style", ["binary", "probability", "coco", "segmentation"])
def test_a_server_gets_index_masks(tmp_path: Path, weights: Path, style: str) -> None:
    fake_datasets.two_videos(tmp_path)
    end = segment_folder(tmp_path, weights, submission=True, save_indexed_format=style)
    end.check_error("'submission'", "save_indexed_format index", style)


OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "a key": ({"save_freq": 2}, "(save_freq)"),
    "two keys": ({"save_freq": 2, "loop": 1}, "(loop, save_freq)"),
    "weights": ({"initial": "{root}/w.pth"}, "(weights)"),
    "the style": ({"save_indexed_format": "coco"}, "(save_indexed_format)"),
    "a key that changes no mask": ({"fps": 3, "epochs": 3}, ""),
}


@pytest.mark.parametrize("name", OTHERS)
def test_two_runs_share_a_folder_with_a_warning(tmp_path: Path, weights: Path, name: str) -> None:
    fake_datasets.two_videos(tmp_path)
    other_weights(tmp_path / "w.pth")
    segment_folder(tmp_path, weights).check_success()
    keys, words = OTHERS[name]
    keys = {key: str(value).format(root=tmp_path) for key, value in keys.items()}
    end = segment_folder(tmp_path, Path(keys.pop("initial", weights)), **keys)
    end.check_success()
    told = warned(end, OTHER)
    assert bool(told) == bool(words) and words in told
    if told:
        assert str(tmp_path / "output/FOLDER") in told and "2 videos" in told and "output_dir" in told


def test_the_demo_names_what_an_earlier_demo_left(tmp_path: Path, weights: Path) -> None:
    images, masks = fake_datasets.two_videos(tmp_path)
    video = {"video_path": images, "mask_path": masks / "00000.png", "output_dir": tmp_path / "demo"}
    keys = small(**video, initial=weights)
    for style, words in (
        ("binary", ""),
        ("probability", ""),
        ("coco", "8 of another"),
        ("index", "9 of another"),
    ):
        end = run_in_process("demo/demo.py", **keys, save_indexed_format=style)
        end.check_success()
        assert words in warned(end, LEFT) and bool(words) == bool(warned(end, LEFT))
        place = tmp_path / "demo" / ("mine.json" if style == "coco" else "mine")
        assert (
            f"wrote 4 frames to {place}\n" in end.out and Image.open(tmp_path / "demo/mine.gif").n_frames > 1
        )


# ---- disks, kills, missing packages --------------------------------------------------------------


@pytest.mark.parametrize(("style", "name"), [("probability", "mine/1/"), ("coco", "mine.json")])
def test_a_full_disk_while_results_are_written(tmp_path: Path, weights: Path, style: str, name: str) -> None:
    fake_datasets.two_videos(tmp_path)
    keys = small(root=tmp_path, valset="FOLDER", initial=weights, save_indexed_format=style)
    end = ForkedScript("test.py", before=small_disk(600), **keys).wait()
    end.check_error(name, "cannot be written", "space")
    assert not list(tmp_path.rglob("*.tmp*")) and not list((tmp_path / "output").rglob("*.json"))


@pytest.mark.parametrize("style", ["binary", "coco"])
def test_a_result_folder_that_is_read_only(tmp_path: Path, weights: Path, style: str) -> None:
    fake_datasets.two_videos(tmp_path)
    (tmp_path / "output/FOLDER").mkdir(parents=True)
    (tmp_path / "output/FOLDER").chmod(0o500)
    end = segment_folder(tmp_path, weights, save_indexed_format=style)
    end.check_error(str(tmp_path / "output/FOLDER"), "cannot be written")


@pytest.mark.parametrize(
    "where", ["JPEGImages", "JPEGImages/out", "JPEGImages/mine", "Annotations/x", "x/../Annotations"]
)
def test_results_among_frames_or_masks(tmp_path: Path, weights: Path, where: str) -> None:
    """The next run would take them for a video, or for masks."""
    fake_datasets.two_videos(tmp_path)
    segment_folder(tmp_path, weights, output_dir=where).check_error(
        "'output_dir'", "among the data set's files"
    )
    assert not list(tmp_path.rglob("FOLDER"))


TAKEN = {"index": ("mine", False), "binary": ("mine/1", False), "coco": ("mine.json", True)}


@pytest.mark.parametrize("style", TAKEN)
def test_a_name_that_is_taken(tmp_path: Path, weights: Path, style: str) -> None:
    """A file lies where a folder must be, or a folder where the file must be."""
    fake_datasets.two_videos(tmp_path)
    name, is_folder = TAKEN[style]
    path = tmp_path / "output/FOLDER" / name
    path.parent.mkdir(parents=True)
    path.mkdir() if is_folder else path.write_text("")
    end = segment_folder(tmp_path, weights, save_indexed_format=style)
    end.check_error(str(path), "cannot be written")


def test_half_written_masks_of_an_object_go(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    left = tmp_path / "output/FOLDER/mine/1/.00000.png.77.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    segment_folder(tmp_path, weights, save_indexed_format="binary").check_success()
    assert not left.exists()


def test_a_coco_file_of_a_run_that_was_killed_is_the_old_one(tmp_path: Path, weights: Path) -> None:
    fake_datasets.folder(tmp_path, masked=(0,), frames=300)
    old = tmp_path / "output/FOLDER/mine.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"info": "old"}')
    keys = small(root=tmp_path, valset="FOLDER", initial=weights, save_indexed_format="coco")
    process = ForkedScript("test.py", **keys)
    while process.is_running() and not (tmp_path / "output/FOLDER/.lock").exists():
        pass
    process.send(signal.SIGKILL)
    assert process.wait().code == 137 and json.loads(old.read_text()) == {"info": "old"}


def test_coco_without_its_package(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_datasets.two_videos(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    end = segment_folder(tmp_path, weights, save_indexed_format="coco")
    end.check_error("'save_indexed_format'", "coco needs pycocotools", "pip install -r requirements.txt")
    assert not (tmp_path / "output").exists()


# ---- a start that fails leaves nothing -----------------------------------------------------------

BAD_STARTS: dict[str, tuple[dict[str, object], str]] = {
    "missing data": ({"root": "{root}/nowhere"}, "nowhere"),
    "missing validation set": ({"epoch_per_test": 1, "valset": "DAVIS17"}, "DAVIS17"),
    "validation mask that cannot be read": (
        {"epoch_per_test": 1, "valset": "FOLDER", "root": "{root}/bad"},
        "00000",
    ),
    "bad weights": ({"initial": "{root}/w.pth"}, "w.pth"),
    "missing weights": ({"initial": "{root}/none.pth"}, "none.pth"),
    "bad state": ({"resume": "{root}/state.pth.tar"}, "initial"),
    "photographs that are missing": ({"paste": 0.5}, "INSTANCES"),
    "DALI with paste": ({"paste": 0.5, "augmentation": "dali"}, "paste"),
}


@pytest.mark.parametrize("name", BAD_STARTS)
def test_training_that_cannot_start_leaves_no_folder(tmp_path: Path, name: str) -> None:
    for root in (tmp_path, tmp_path / "bad"):
        fake_datasets.folder(root)
    (tmp_path / "bad/Annotations/mine/00000.png").write_bytes(b"half")
    (tmp_path / "w.pth").write_bytes(b"half")
    state = {"epoch": 1, "state_dict": small_state_dict(), "max_skip": [None]}
    torch.save(state, tmp_path / "state.pth.tar")
    keys, words = BAD_STARTS[name]
    given = {"root": tmp_path, **keys, "checkpoint": tmp_path / "new/ckpt"}
    keys = {key: str(value).format(root=tmp_path) for key, value in given.items()}
    run_in_process("train.py", **small(**{**TRAIN_ON_FOLDER, **keys})).check_error(words)
    assert not (tmp_path / "new").exists() and not (tmp_path / "output").exists()


def test_testing_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"half")
    segment_folder(tmp_path, tmp_path / "w.pth").check_error("w.pth")
    assert not (tmp_path / "output").exists()


def test_a_start_that_fails_leaves_the_files_of_others(tmp_path: Path) -> None:
    fake_datasets.folder(tmp_path)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt/notes.txt").write_text("mine")
    keys = small(
        **TRAIN_ON_FOLDER, root=tmp_path, checkpoint=tmp_path / "ckpt", initial=tmp_path / "none.pth"
    )
    run_in_process("train.py", **keys).check_error("none.pth")
    assert files(tmp_path / "ckpt") == {"notes.txt"}


def test_too_many_loader_processes_are_named_by_their_key(tmp_path: Path) -> None:
    fake_datasets.folder(tmp_path)
    workers = len(os.sched_getaffinity(0)) + 1
    keys = small(**TRAIN_ON_FOLDER, root=tmp_path, checkpoint=tmp_path / "ckpt", workers=workers, epochs=2)
    end = run_in_process("train.py", **keys)
    end.check_success()
    assert "key 'workers'" in warned(end, "loader processes") and end.err.count("warning") == 1
