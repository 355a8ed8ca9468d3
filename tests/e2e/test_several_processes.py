"""test.py in several processes, connected by Gloo, writes the files that one process writes."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.core.files import exclusive_run
from libs.core.image_io import read_image
from tests.helpers import fake_datasets, small_network
from tests.helpers.subprocess_runner import ForkedScript, Result, run_in_process, start_group

TIMES = re.compile(r'"(seconds|milliseconds)": [^,}]+')


def small(root: Path, weights: Path, /, **keys: object) -> dict[str, object]:
    return small_network.small(**{"root": root, "valset": "FOLDER", "initial": weights, **keys})


def segment(root: Path, weights: Path, /, **keys: object) -> Result:
    """Run test.py in one process."""
    return run_in_process("test.py", **small(root, weights, **keys))


def segment_in(
    count: int,
    root: Path,
    weights: Path,
    /,
    before: Callable[[int], object] = lambda rank: None,
    **keys: object,
) -> list[Result]:
    """Run test.py in so many processes."""
    group = start_group("test.py", count, before=before, **small(root, weights, **keys))
    return [process.wait() for process in group]


def tree(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files below a folder; times in records and tables are left out."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.parent.name == ".done":
            content = TIMES.sub("", content.decode()).encode()
        if path.name == "corrections.csv":
            table = [line.split(",") for line in content.decode().splitlines()]
            column = table[0].index("milliseconds")
            content = repr([row[:column] + row[column + 1 :] for row in table]).encode()
        found[str(path.relative_to(folder))] = content
    return found


def move_results(root: Path) -> dict[str, bytes]:
    """Return the files of a run and remove them, so that the next run writes into the same folder."""
    files = tree(root / "output")
    shutil.rmtree(root / "output")
    return files


def errors(ends: list[Result]) -> list[str]:
    """The lines of error that all processes have printed together; each must end with code 2."""
    assert [end.code for end in ends] == [2] * len(ends), ends
    assert not any("Traceback" in end.err for end in ends), ends
    return [line for end in ends for line in end.err.splitlines() if line.startswith("error: ")]


def warned(ends: list[Result], words: str) -> int:
    """How many lines of warning with these words all processes have printed together."""
    return sum(
        line.startswith("warning: ") and words in line for end in ends for line in end.err.splitlines()
    )


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Five videos of one to three objects and 3 to 11 frames; 'c' has no ground truth."""
    for number, (name, frames) in enumerate({"a": 4, "b": 9, "c": 6, "d": 11, "e": 3}.items()):
        masked = (0,) if name == "c" else None
        objects = range(1, number % 3 + 2)
        fake_datasets.folder(tmp_path, name=name, objects=list(objects), frames=frames, masked=masked)
    return tmp_path


def with_video_files(root: Path) -> None:
    """Two of the videos become files, whose length is not known."""
    for name in ("a", "d"):
        images = sorted((root / "JPEGImages" / name).iterdir())
        fake_datasets.write_mp4(root / f"JPEGImages/{name}.mp4", map(read_image, images))
        shutil.rmtree(root / "JPEGImages" / name)


EQUAL: dict[str, tuple[int, dict[str, object]]] = {
    # processes, keys
    "2": (2, {"score_copy": True, "drift_every": 2}),
    "more than videos": (6, {}),
    "correction": (2, {"loop": 2, "save_freq": 2}),
    "binary": (2, {"save_indexed_format": "binary"}),
    "coco, backward": (3, {"save_indexed_format": "coco", "backward": True}),
    "submission": (2, {"submission": True}),
}


@pytest.mark.parametrize("name", EQUAL)
def test_all_files_are_those_of_one_process(five: Path, weights: Path, name: str) -> None:
    count, keys = EQUAL[name]
    alone = segment(five, weights, **keys)
    alone.check_success()
    expected = move_results(five)
    main, *others = segment_in(count, five, weights, **keys)
    for end in (main, *others):
        end.check_success()
        assert end.err == ""
    assert tree(five / "output") == expected
    assert all(end.out == "" for end in others)
    *lines, speed = main.out.splitlines()
    assert lines == alone.out.splitlines()[:-1]
    assert speed.startswith("33 frames in ") and f"frames per second in {count} processes" in speed


def test_videos_of_unknown_length_are_shared_too(five: Path, weights: Path) -> None:
    with_video_files(five)
    segment(five, weights).check_success()
    expected = move_results(five)
    for end in segment_in(2, five, weights):
        end.check_success()
    assert tree(five / "output") == expected


def test_a_zip_for_the_server_is_made_of_the_masks_of_all(tmp_path: Path, weights: Path) -> None:
    part = fake_datasets.youtube_vos(tmp_path) / "valid"
    meta = json.loads((part / "meta.json").read_text())
    for folder in ("JPEGImages", "Annotations"):
        shutil.copytree(part / folder / "bbb", part / folder / "aaa")
    (part / "meta.json").write_text(
        json.dumps({"videos": dict.fromkeys(("aaa", "bbb"), meta["videos"]["bbb"])})
    )
    keys = {"valset": "VOS", "submission": True}
    segment(tmp_path, weights, **keys).check_success()
    expected = move_results(tmp_path)
    assert "VOS.zip" in expected
    for end in segment_in(2, tmp_path, weights, **keys):
        end.check_success()
    assert tree(tmp_path / "output") == expected


def test_skip_done_leaves_the_rows_in_the_order_of_the_set(five: Path, weights: Path) -> None:
    """Whoever segmented a video, and whether in this run or in an earlier one."""
    segment(five, weights).check_success()
    expected = tree(five / "output")
    for name, count in (("a", 1), ("b", 2), ("d", 2)):
        (five / f"output/FOLDER/.done/{name}.json").unlink()
        ends = segment_in(count, five, weights, skip_done=True)
        assert "skip_done: 4 of 5 videos" in ends[0].out
        assert tree(five / "output") == expected
    ends = segment_in(2, five, weights, skip_done=True)
    assert "skip_done: 5 of 5" in ends[0].out and tree(five / "output") == expected


# ---- one process is killed -----------------------------------------------------------------------


def wait_for_records(root: Path, names: str, group: list[ForkedScript]) -> None:
    """Wait until these videos are complete, while all processes still run."""
    end = time.monotonic() + 120
    while not all((root / f"output/FOLDER/.done/{name}.json").exists() for name in names):
        assert time.monotonic() < end and all(process.is_running() for process in group)
        time.sleep(0.01)


@pytest.mark.parametrize(("killed", "count"), [(0, 1), (1, 2)])
def test_a_process_that_is_killed_loses_nothing(
    tmp_path: Path, weights: Path, killed: int, count: int
) -> None:
    """Each process has two short videos and a long one, in which one of them is killed."""
    for name in "abcdyz":
        frames = 60 if name in "yz" else 4
        fake_datasets.folder(tmp_path, name=name, frames=frames, masked=(0,))
    keys = {"memory_frames": 3}
    segment(tmp_path, weights, **keys).check_success()
    expected = move_results(tmp_path)
    group = start_group("test.py", 2, **small(tmp_path, weights, **keys))
    wait_for_records(tmp_path, "abcd", group)
    group[killed].send(signal.SIGKILL)
    ends = [process.wait(60) for process in group]
    assert ends[killed].code == 137
    ends[1 - killed].check_error("another process of this run has ended", "skip_done True")
    assert len(ends[1 - killed].err.splitlines()) == 1
    done = len(list((tmp_path / "output/FOLDER/.done").iterdir()))
    assert done == 5  # the other one has finished its long video
    ends = segment_in(count, tmp_path, weights, skip_done=True, **keys)
    ends[0].check_success()
    assert "skip_done: 5 of 6 videos" in ends[0].out
    assert tree(tmp_path / "output") == expected


def test_a_signal_ends_all(tmp_path: Path, weights: Path) -> None:
    """Ctrl-C reaches all processes; one line says so."""
    for name in "ab":
        fake_datasets.folder(tmp_path, name=name, frames=400, masked=(0,))
    group = start_group("test.py", 2, **small(tmp_path, weights))
    while not all(list((tmp_path / f"output/FOLDER/{name}").glob("*.png")) for name in "ab"):
        assert all(process.is_running() for process in group)
        time.sleep(0.01)
    for process in group:
        os.kill(process.pid, signal.SIGINT)
    ends = [process.wait(60) for process in group]
    assert [end.code for end in ends] == [130, 130] and [end.err for end in ends] == ["interrupted\n", ""]


# ---- bad input is reported once ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "d"])
def test_a_video_that_fails_is_reported_once(five: Path, weights: Path, name: str) -> None:
    """By the process that has it; the error line comes from the main one, after all results."""
    frame = five / f"JPEGImages/{name}/00002.png"
    frame.write_bytes(frame.read_bytes()[:60])
    alone = segment(five, weights, submission=True)
    alone.check_error("1 of 5 videos failed", f": {name};")
    expected = move_results(five)
    ends = segment_in(2, five, weights, submission=True)
    assert errors(ends) == [line for line in alone.err.splitlines() if line.startswith("error: ")]
    assert ends[1].err.count("error: ") == 0 and warned(ends, f"video '{name}' failed: {frame}") == 1
    found = tree(five / "output")
    early = f"FOLDER/{name}/"  # masks before the frame: how many depends on what was read ahead
    assert {p: c for p, c in found.items() if not p.startswith(early)} == {
        p: c for p, c in expected.items() if not p.startswith(early)
    }
    assert not (five / "output/FOLDER.zip").exists()


def test_a_mask_that_all_processes_read_is_warned_of_once(five: Path, weights: Path) -> None:
    """Each process opens all videos, before they are shared."""
    (five / "Annotations/b/00000.png").write_bytes(b"")
    ends = segment_in(3, five, weights)
    assert warned(ends, "video 'b' failed") == 1 and len(errors(ends)) == 1
    assert "1 of 5 videos failed" in errors(ends)[0]


def test_a_warning_of_one_process_is_printed_once(five: Path, weights: Path) -> None:
    """In all of them CUDA is not there, and only one of them is the first on its machine."""
    ends = segment_in(2, five, weights, gpu_id=0)
    for end in ends:
        end.check_success()
    assert warned(ends, "CUDA is not available") == 1


ALIKE: dict[str, tuple[dict[str, object], str]] = {
    # keys, words of the error line: the same in all processes
    "no weights": ({"initial": ""}, "'initial'"),
    "no such weights": ({"initial": "nowhere.pth"}, "nowhere.pth"),
    "no data": ({"root": "nowhere"}, "nowhere"),
    "no such key": ({"gpu": 1}, "there is no key 'gpu'"),
    "no videos": ({"valset": "VOS"}, "VOS"),
    "keys that exclude each other": ({"submission": True, "backward": True}, "'backward'"),
    "results among frames": ({"output_dir": "JPEGImages"}, "'output_dir'"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_an_error_that_all_processes_find_is_printed_once(five: Path, weights: Path, name: str) -> None:
    keys, words = ALIKE[name]
    (line,) = errors(segment_in(2, five, weights, **keys))
    assert words in line


def test_one_lock_for_the_group(five: Path, weights: Path) -> None:
    with exclusive_run(five / "output/FOLDER"):
        (line,) = errors(segment_in(2, five, weights))
        assert "another run" in line and str(five / "output/FOLDER") in line
    assert not (five / "output/FOLDER").exists() or not list((five / "output/FOLDER").glob("*/*.png"))


def two_machines(tmp_path: Path, change: Callable[[Path], object]) -> Callable[[int], object]:
    """Copy `data` into a folder per rank, change that of rank 1, and return what makes it its directory."""
    for rank in range(2):
        shutil.copytree(tmp_path / "data", tmp_path / f"machine{rank}/data")
    change(tmp_path / "machine1/data")
    return lambda rank: os.chdir(tmp_path / f"machine{rank}")


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


MACHINES: dict[str, tuple[Callable[[Path], object], dict[str, object], tuple[str, ...]]] = {
    # what is different on the second machine, keys, words of the error line
    "a video is missing": (
        lambda data: remove(data / "JPEGImages/mine"),
        {},
        ("processes 0 and 1 of 2", "the same readable videos below data", "differ in mine (4 frames)"),
    ),
    "a frame is missing": (
        lambda data: remove(data / "JPEGImages/mine/00003.png"),
        {},
        ("processes 0 and 1 of 2", "differ in mine (3 frames), mine (4 frames)"),
    ),
    "no data": (lambda data: remove(data), {}, ("data",)),
    "a mask cannot be read": (
        lambda data: (data / "Annotations/mine/00000.png").write_bytes(b""),
        {},
        ("the same readable videos below data", "differ in mine (4 frames)"),
    ),
    "other weights": (
        lambda data: (data / "w.pth").write_bytes((data / "w.pth").read_bytes() + b"x"),
        {"initial": "data/w.pth"},
        ("processes 0 and 1 of 2", "the same weights"),
    ),
    "a result folder of its own": (
        lambda data: None,
        {"output_dir": "output"},
        ("data/output/FOLDER", "on a disk that all machines share"),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_machines_that_differ(tmp_path: Path, weights: Path, name: str) -> None:
    fake_datasets.two_videos(tmp_path / "data")
    shutil.copy(weights, tmp_path / "data/w.pth")
    change, keys, words = MACHINES[name]
    keys = {"root": "data", "output_dir": tmp_path / "output", **keys}
    before = two_machines(tmp_path, change)
    (line,) = errors(segment_in(2, tmp_path, weights, before, **keys))
    assert all(word in line for word in words), line
    assert not list(tmp_path.rglob(".shared")) and not list(tmp_path.rglob("output/*/*/*.png"))


def test_one_machine_of_two_that_is_alike(tmp_path: Path, weights: Path) -> None:
    """Copies of the data will do, as long as the results come together."""
    fake_datasets.two_videos(tmp_path / "data")
    before = two_machines(tmp_path, lambda data: None)
    for end in segment_in(2, tmp_path, weights, before, root="data", output_dir=tmp_path / "output"):
        end.check_success()
    assert len(list(tmp_path.glob("output/FOLDER/*/*.png"))) == 8
