"""Lists of files: each folder is listed once, and the lists of large sets are kept between runs."""

import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset import catalogue, kept_lists
from dataset.folder import index_video
from dataset.listing import in_numeric_order, list_images
from dataset.registry import recorded_videos, training_videos
from libs.core.file_list import FileList, FileMap
from libs.core.shards import File
from libs.core.structures import VideoIndex
from tests.helpers import fake_datasets as trees


@pytest.fixture(autouse=True)
def keep_small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the lists of small sets, and of folders that a test has just written."""
    monkeypatch.setattr(catalogue, "LARGE", 1)
    monkeypatch.setattr(kept_lists, "SETTLED", 0.0)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed, in order."""
    calls: list[str] = []
    listdir = os.listdir

    def count(folder: str) -> list[str]:
        calls.append(str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", count)
    return calls


def index(root: Path, cache: Path | None) -> tuple[list[VideoIndex], list[str]]:
    """The training videos of YouTube-VOS, and the warnings about them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        videos, _ = recorded_videos(root, "VOS", "train", cache=cache)
    return videos, [str(warning.message) for warning in caught]


def two_videos(root: Path) -> Path:
    """YouTube-VOS with the training videos aaa and bbb. Returns: its folder `train`."""
    train = trees.youtube_vos(root) / "train"
    trees.write_video(train / "JPEGImages/bbb", train / "Annotations/bbb", {1: 0})
    every = [f"{t:05d}" for t in range(4)]
    trees.write_meta(train, {"aaa": {"1": every, "2": every}, "bbb": {"1": every}})
    return train


def test_each_folder_is_listed_once_and_then_never(tmp_path: Path, listed: list[str]) -> None:
    train, cache = two_videos(tmp_path), tmp_path / "cache"
    first, _ = index(tmp_path, cache)
    folders = [train / kind / name for kind in ("JPEGImages", "Annotations") for name in ("", "aaa", "bbb")]
    assert sorted(listed) == sorted(map(str, folders))
    listed.clear()
    again, _ = index(tmp_path, cache)
    assert listed == [] and again == first == index(tmp_path, None)[0]
    assert [sorted(video.masks) for video in again] == [[0, 1, 2, 3]] * 2


def add(train: Path) -> None:
    trees.save_image(train / "JPEGImages/aaa/00004.jpg", trees.scene([1])[0])


def remove_mask(train: Path) -> None:
    (train / "Annotations/aaa/00002.png").unlink()


def rename_frame(train: Path) -> None:
    (train / "JPEGImages/aaa/00003.jpg").rename(train / "JPEGImages/aaa/00007.jpg")


def leave_out(train: Path) -> None:
    (train / "JPEGImages/aaa/notes.txt").write_text("")


def remove_video(train: Path) -> None:
    for path in sorted((train / "JPEGImages/aaa").iterdir()):
        path.unlink()
    (train / "JPEGImages/aaa").rmdir()


def other_list(train: Path) -> None:
    trees.write_meta(train, {"bbb": {"1": ["00000"]}})


def set_time_back(train: Path) -> None:
    """As a program does that unpacks a second archive into the same folders."""
    folder = train / "JPEGImages/aaa"
    before = folder.stat().st_mtime_ns
    add(train)
    os.utime(folder, ns=(before, before))


def other_target(train: Path) -> None:
    """Let a link lead to another folder."""
    (train / "JPEGImages/aaa").rename(train / "one")
    trees.write_video(train / "other", train / "unused", {1: 0}, frames=5)
    (train / "JPEGImages/aaa").symlink_to(train / "other")


CHANGES = [add, remove_mask, rename_frame, leave_out, remove_video, other_list, set_time_back, other_target]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_set_is_seen(tmp_path: Path, change: Callable[[Path], None]) -> None:
    train, cache = two_videos(tmp_path), tmp_path / "cache"
    before, _ = index(tmp_path, cache)
    change(train)
    kept, warned = index(tmp_path, cache)
    plain, plainly_warned = index(tmp_path, None)
    assert kept == plain != before or change is leave_out
    assert warned == plainly_warned and index(tmp_path, cache) == (plain, warned)


def test_warnings_are_the_same_from_kept_lists(tmp_path: Path) -> None:
    train, cache = two_videos(tmp_path), tmp_path / "cache"
    remove_video(train)
    leave_out(train / "../train") if (train / "JPEGImages/aaa").exists() else None
    (train / "Annotations/bbb/00009.png").write_bytes(b"")
    (_, first), (_, again) = index(tmp_path, cache), index(tmp_path, cache)
    assert len(first) == 2 and again == first
    assert "video 'aaa' is left out" in first[0] and "without a frame of that name" in first[1]


def test_lists_of_folders_that_may_still_change_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str]
) -> None:
    two_videos(tmp_path)
    monkeypatch.setattr(kept_lists, "SETTLED", 60.0)
    index(tmp_path, tmp_path / "cache")
    listed.clear()
    index(tmp_path, tmp_path / "cache")
    assert len(listed) == 6


def test_lists_of_small_sets_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_videos(tmp_path)
    monkeypatch.setattr(catalogue, "LARGE", 100)
    index(tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_sets_and_splits_have_lists_of_their_own(tmp_path: Path) -> None:
    two_videos(tmp_path)
    recorded_videos(tmp_path, "VOS", "train", cache=tmp_path / "cache")
    recorded_videos(tmp_path, "VOS", "val", cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache/index").iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: "",
        lambda content: "[]",
        lambda content: '{"version": 1}',
        lambda content: "[" * 100_000,
        lambda content: content.replace("00000.jpg", "../00000.jpg"),
        lambda content: content.replace('"00000.jpg', '"'),
        lambda content: content.replace("[[", '[["x",'),
        lambda content: content.replace('"00000.jpg', '7,"'),
        lambda content: content.replace("{}", '{"a": [[1, 1, 1, 1, 1], {"f": ["a", [5], [5]]}]}'),
        lambda content: content.replace("{}", '{"a": [[1, 1, 1, 1, 1], {"f": ["a", [-1], [1]]}]}'),
        lambda content: content.replace("{}", '{"a": [[9, 1, 1, 1, 1], {"f": ["a", [1, 2], [1]]}]}'),
    ],
)
def test_damaged_lists_are_ignored_with_one_line(tmp_path: Path, damage: Callable[[str], str]) -> None:
    two_videos(tmp_path)
    plain = index(tmp_path, tmp_path / "cache")
    (file,) = (tmp_path / "cache/index").iterdir()
    content = file.read_text()
    assert damage(content) != content
    file.write_text(damage(content))
    videos, warned = index(tmp_path, tmp_path / "cache")
    assert len(warned) == 1 and f"{file} does not hold lists of files" in warned[0] and "\n" not in warned[0]
    assert (videos, []) == plain == index(tmp_path, tmp_path / "cache")  # written again


def test_lists_of_another_version_are_written_again(tmp_path: Path) -> None:
    two_videos(tmp_path)
    plain = index(tmp_path, tmp_path / "cache")
    (file,) = (tmp_path / "cache/index").iterdir()
    file.write_text(json.dumps({"version": 0}))
    assert index(tmp_path, tmp_path / "cache") == plain
    assert json.loads(file.read_text())["version"] == kept_lists.VERSION


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    two_videos(tmp_path)
    (tmp_path / "cache").write_text("a file")
    videos, (warned,) = index(tmp_path, tmp_path / "cache")
    assert len(videos) == 2 and "index_cache" in warned and str(tmp_path / "cache") in warned


def test_relative_and_absolute_roots_have_the_same_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str]
) -> None:
    two_videos(tmp_path)
    index(tmp_path, tmp_path / "cache")
    listed.clear()
    monkeypatch.chdir(tmp_path)
    videos, _ = index(Path("."), tmp_path / "cache")
    assert listed == [] and str(videos[0].frames[0]) == "Youtube-VOS/train/JPEGImages/aaa/00000.jpg"


# ---- lists of files ----


def test_a_file_list_is_a_sequence_of_paths() -> None:
    files = FileList(Path("a"), ("0.png", "1.png", "2.png"))
    assert list(files) == [Path("a/0.png"), Path("a/1.png"), Path("a/2.png")] and files[-1] == Path("a/2.png")
    assert list(files[:2]) == list(files)[:2] and list(files[::-1]) == list(files)[::-1]
    with pytest.raises(IndexError):
        files[3]


def test_a_file_map_is_a_mapping_from_positions() -> None:
    files = FileList(Path("a"), ("0.png", "x.png", "2.png"))
    some, none, every = FileMap.of(files, {0: 0, 2: 2}), FileMap.of(files, {}), FileMap.of(files[:1], {0: 0})
    assert some == {0: Path("a/0.png"), 2: Path("a/2.png")} and sorted(some) == [0, 2] and len(some) == 2
    assert 1 not in some and some.get(1) is None and not none and every == {0: Path("a/0.png")}
    with pytest.raises(KeyError):
        some[1]


def test_lists_of_many_files_take_little_memory(tmp_path: Path) -> None:
    """Their pickle, which other processes get, has a name that several folders hold once."""
    for name in ("a", "b"):
        trees.write_video(tmp_path / "f" / name, tmp_path / "m" / name, {1: 0})
    one, two = (
        [index_video(name, tmp_path / "f" / name, tmp_path / "m" / name) for name in names]
        for names in ("a", "ab")
    )
    assert pickle.loads(pickle.dumps(two)) == two
    assert pickle.dumps(two).count(b"00003.jpg") == pickle.dumps(one).count(b"00003.jpg") == 1


@pytest.mark.parametrize(
    "names",
    [
        ["00009.png", "00010.png", "00002.png"],
        ["9.png", "10.png", "2.png"],
        ["a9.png", "a10.png", "b1.png"],
        ["\u0661.png", "0.png", "2.png"],
        ["1.png", "1.jpg"],
        ["a.b.png", "a.png", "a.10.png", "a.9.png"],
        [],
    ],
)
def test_names_of_numbers_are_sorted_as_all_others(names: list[str]) -> None:
    """The short cut for numbers of one length gives the order of taking the names apart."""
    apart = in_numeric_order([*names, "zzz.zzz"])[:-1]
    assert in_numeric_order(names) == apart


def test_a_folder_that_does_not_exist_has_no_images(tmp_path: Path) -> None:
    assert list(list_images(tmp_path / "none")) == []
    (tmp_path / "file").write_text("")
    assert list(list_images(tmp_path / "file")) == [] == list(list_images(tmp_path / "file/inside"))


def test_training_on_photographs_lists_their_folders_once(tmp_path: Path, listed: list[str]) -> None:
    image, labels = trees.scene([1])
    trees.save_image(tmp_path / "STATIC/images/0.jpg", image)
    trees.save_mask(tmp_path / "STATIC/masks/0.png", labels)
    training_videos(tmp_path, "STATIC", cache=tmp_path / "cache")
    assert len(listed) == 2
    listed.clear()
    (video,) = training_videos(tmp_path, "STATIC", cache=tmp_path / "cache")
    assert listed == [] and paths(video.photo) == ["STATIC/images/0.jpg"]


def paths(video: VideoIndex) -> list[str]:
    """The last three parts of the paths of the frames."""
    return ["/".join(str(file).split("/")[-3:]) for file in video.frames if isinstance(file, File)]
