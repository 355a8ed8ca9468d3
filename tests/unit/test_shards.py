"""Tar shards: training and testing read them as they read the folder; bad ones are refused with one line."""

import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import catalogue, kept_lists, tar_index
from dataset.build import check_masks, test_videos, training_sets
from dataset.clips import ClipSampler
from dataset.loader import PilLoader
from dataset.registry import recorded_videos
from dataset.sampling import ClipSettings
from dataset.shards import write_shards
from tests.helpers import fake_datasets as trees
from tests.helpers.small_network import segment_folder
from tests.helpers.subprocess_runner import run_in_process

SETS = {"DAVIS16": "DAVIS16", "DAVIS17": "DAVIS17", "VOS": "Youtube-VOS/train", "FOLDER": "."}
SPLIT = 0.001  # megabytes of a shard that holds one file

test_videos.__test__ = False  # type: ignore[attr-defined]


def write_sets(root: Path) -> None:
    trees.davis16(root), trees.davis17(root), trees.youtube_vos(root)
    trees.folder(root, mode="RGB")


def pack(root: Path, out: Path, name: str, megabytes: float = 0.01) -> list[Path]:
    """Pack a set below `root`; `out` is the root of the shards."""
    return write_shards(root / SETS[name], out / SETS[name], megabytes)


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """The roots of the same sets, as folders and as shards."""
    folders, shards = tmp_path / "folders", tmp_path / "shards"
    write_sets(folders)
    for name in ("DAVIS16", "DAVIS17", "VOS"):
        pack(folders, shards, name)
    return folders, shards


def clips_of(root: Path, names: list[str], workers: int = 0) -> Iterator:
    settings = ClipSettings(size=(32, 48), max_skip=[1] * len(names), sampled_frames=2)
    sets = training_sets(root, names, [1] * len(names))
    check_masks(sets, settings, 100)
    return (clip for clips in PilLoader(sets, settings, workers=workers).batches(0) for clip in clips)


@pytest.mark.parametrize("workers", [0, 1])
def test_clips_from_shards_are_those_from_the_folder(roots: tuple[Path, Path], workers: int) -> None:
    folders, shards = roots
    assert not list(shards.glob("**/*.jpg")) and len(list(shards.glob("**/*.tar"))) > 4
    names = ["DAVIS16", "DAVIS17", "VOS"]
    pairs = list(zip(clips_of(folders, names), clips_of(shards, names, workers), strict=True))
    assert len(pairs) == 4
    for one, other in pairs:
        assert one.name == other.name and one.num_objects == other.num_objects
        assert torch.equal(one.frames, other.frames) and torch.equal(one.labels, other.labels)


def test_results_from_shards_are_those_from_the_folder(tmp_path: Path, weights: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    trees.folder(one)
    trees.folder(one, name="second", objects=(1,))
    for path in sorted((one / "Annotations/second").iterdir()):  # a folder of masks for each object
        (path.parent / "1").mkdir(exist_ok=True)
        path.rename(path.parent / "1" / path.name)
    pack(one, other, "FOLDER")
    assert {path.suffix for path in other.iterdir()} == {".tar"}
    ends = [segment_folder(root, weights, backward=True) for root in (one, other)]
    for end in ends:
        end.check_success()
    assert ends[0].err.replace(str(one), "") == ends[1].err.replace(str(other), "")
    written = sorted(path.relative_to(one) for path in one.glob("output/**/*.png"))
    assert len(written) == 8 and (one / "output/FOLDER/scores.csv").exists()
    for path in [*written, Path("output/FOLDER/scores.csv")]:
        assert (one / path).read_bytes() == (other / path).read_bytes()


def test_skip_done_with_shards(tmp_path: Path, weights: Path) -> None:
    """A finished video is left out; with shards that were changed it is segmented again."""
    trees.folder(tmp_path / "one")
    (shard,) = pack(tmp_path / "one", tmp_path / "two", "FOLDER")
    segment_folder(tmp_path / "two", weights).check_success()
    again = segment_folder(tmp_path / "two", weights, skip_done=True)
    assert "1 of 1 videos are there from an earlier run" in again.out
    os.utime(shard)
    assert "earlier run" not in segment_folder(tmp_path / "two", weights, skip_done=True).out


def test_a_video_may_lie_in_several_shards(tmp_path: Path) -> None:
    trees.davis17(tmp_path / "one")
    assert len(pack(tmp_path / "one", tmp_path / "two", "DAVIS17", SPLIT)) > 16
    (one,), (two,) = (test_videos(tmp_path / n, "DAVIS17", "val") for n in ("one", "two"))
    for frame, other in zip(one.read(), two.read(), strict=True):
        assert frame.name == other.name and np.array_equal(frame.image, other.image)


def test_a_shard_made_by_tar(tmp_path: Path) -> None:
    """Its names may begin with ./, and it holds folders and hidden files of macOS."""
    trees.davis17(tmp_path / "one")
    (tmp_path / "two/DAVIS17").mkdir(parents=True)
    (tmp_path / "one/DAVIS17/data").rename(tmp_path / "two/DAVIS17/data")
    (tmp_path / "one/DAVIS17/JPEGImages/480p/duo/._00000.jpg").write_bytes(b"x")
    with tarfile.open(tmp_path / "two/DAVIS17/all.tar", "w", format=tarfile.GNU_FORMAT) as shard:
        shard.add(tmp_path / "one/DAVIS17", ".")
    (video,) = test_videos(tmp_path / "two", "DAVIS17", "val")
    assert len(list(video.read())) == 4


def test_shards_are_indexed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "LARGE", 1)
    monkeypatch.setattr(kept_lists, "SETTLED", 0.0)
    trees.davis17(tmp_path / "one")
    shards = pack(tmp_path / "one", tmp_path / "two", "DAVIS17")
    calls: list[Path] = []
    monkeypatch.setattr(
        catalogue, "list_members", lambda path: calls.append(path) or tar_index.list_members(path)
    )
    first = recorded_videos(tmp_path / "two", "DAVIS17", "train", cache=tmp_path / "cache")
    assert sorted(calls) == sorted(shards)
    calls.clear()
    again = recorded_videos(tmp_path / "two", "DAVIS17", "train", cache=tmp_path / "cache")
    assert calls == [] and again == first == pickle.loads(pickle.dumps(first))
    with tarfile.open(shards[0], "a") as shard:
        shard.addfile(tarfile.TarInfo("JPEGImages/480p/pair/00009.jpg"))
    (changed, _), _ = recorded_videos(tmp_path / "two", "DAVIS17", "train", cache=tmp_path / "cache")
    assert calls == [shards[0]] and len(changed.frames) == 5


def test_photographs_in_shards(tmp_path: Path) -> None:
    image, labels = trees.scene([1, 2])
    for number in range(3):
        trees.save_image(tmp_path / f"one/INSTANCES/images/{number}.jpg", image)
        trees.save_mask(tmp_path / f"one/INSTANCES/masks/{number}.png", labels)
    write_shards(tmp_path / "one/INSTANCES", tmp_path / "two/INSTANCES", SPLIT)
    settings = ClipSettings(size=(32, 48), max_skip=[1], sampled_frames=2)
    one, two = (
        ClipSampler(training_sets(tmp_path / name, ["INSTANCES"], [1]), settings)[0]
        for name in ("one", "two")
    )
    assert torch.equal(one.frames, two.frames) and torch.equal(one.labels, two.labels)


def test_the_frames_of_a_folder_come_before_shards(tmp_path: Path) -> None:
    """An archive beside the unpacked folder is not looked at, even a damaged one."""
    tree = trees.davis17(tmp_path)
    (tree / "old.tar").write_bytes(b"x" * 2000)
    assert len(test_videos(tmp_path, "DAVIS17", "val")) == 1


def test_warnings_name_files_as_if_the_shards_were_unpacked(tmp_path: Path) -> None:
    trees.folder(tmp_path / "one")
    (tmp_path / "one/Annotations/mine/00009.png").write_bytes(b"x")
    pack(tmp_path / "one", tmp_path / "two", "FOLDER")
    with pytest.warns(UserWarning, match="1 mask left out, without a frame of that name") as caught:
        recorded_videos(tmp_path / "two", "FOLDER", "val")
    assert str(caught[0].message).endswith("Annotations/mine/00009.png")


# ---- the command ----


def test_the_command(tmp_path: Path) -> None:
    """Frames and masks are packed, links as files; lists are copied, all else is named."""
    tree = trees.davis17(tmp_path / "one")
    frame = tree / "JPEGImages/480p/duo/00001.jpg"
    frame.rename(tmp_path / "frame.jpg")
    frame.symlink_to(tmp_path / "frame.jpg")
    (tree / "JPEGImages/480p/duo/clip.mp4").write_bytes(b"x")
    out = tmp_path / "two/DAVIS17"
    end = run_in_process("dataset.shards", tree, out, "--size", "0.01")
    end.check_success("1 file left out", "JPEGImages/480p/duo/clip.mp4")
    assert "shards in" in end.out and (out / "data/db_info.yaml").exists()
    names = sorted(path.relative_to(tree) for path in tree.glob("*/480p/*/*.[jp][pn]g"))
    unpacked = []
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as opened:
            unpacked += [Path(info.name) for info in opened if info.isreg()]
    assert sorted(unpacked) == names
    run_in_process("dataset.shards", tree, out).check_error(f"{out} is not empty; give a new folder")


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("one/Youtube-VOS", "Youtube-VOS/train, "),
        ("one", "found none of them; give the folder of a data set's split"),
        ("none", "expected JPEGImages"),
    ],
)
def test_the_command_names_the_folder_to_give(tmp_path: Path, folder: str, words: str) -> None:
    trees.youtube_vos(tmp_path / "one")
    run_in_process("dataset.shards", tmp_path / folder, tmp_path / "out").check_error(words)
