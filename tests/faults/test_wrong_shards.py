"""Tar shards that are damaged or hold what is not read: one line, which names the shard and the member."""

import io
import os
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset.registry import recorded_videos
from dataset.shards import write_shards
from libs.core.errors import InputError, UnreadableError
from libs.core.image_io import read_image
from libs.core.shards import TarMember
from tests.helpers import fake_datasets as trees
from tests.helpers.small_network import segment_folder


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


MEMBERS = {
    "its path leaves the folder": [
        member("/JPEGImages/mine/00000.png"),
        member("JPEGImages/../../mine/00000.png"),
        member("../x", tarfile.DIRTYPE),
    ],
    "it is a link": [
        member("JPEGImages/mine/9.png", tarfile.SYMTYPE, "/etc/passwd"),
        member("JPEGImages/mine/9.png", tarfile.LNKTYPE, "JPEGImages/mine/00000.png"),
    ],
    "it is a sparse file, a device or the like": [
        member("JPEGImages/mine/9.png", tarfile.CHRTYPE),
        member("JPEGImages/mine/9.png", tarfile.FIFOTYPE),
        member("JPEGImages/mine/9.png", tarfile.GNUTYPE_SPARSE),
    ],
    "it is there twice": [member("JPEGImages/mine/00000.png")],
}


@pytest.mark.parametrize(
    ("reason", "bad"), [(reason, bad) for reason, found in MEMBERS.items() for bad in found]
)
def test_members_that_are_no_plain_files_are_refused(
    tmp_path: Path, reason: str, bad: tarfile.TarInfo
) -> None:
    trees.folder(tmp_path / "one")
    (shard,) = write_shards(tmp_path / "one", tmp_path / "two")
    with tarfile.open(shard, "a") as opened:
        opened.addfile(bad)
    with pytest.raises(InputError) as caught:
        recorded_videos(tmp_path / "two", "FOLDER", "val")
    assert str(caught.value) == (
        f"{shard}: member '{bad.name}': {reason}; make the shard again from regular files"
    )


def compress(kind: str) -> Callable[[Path], None]:
    def change(shard: Path) -> None:
        content = shard.read_bytes()
        with tarfile.open(shard, f"w:{kind}") as opened:
            opened.addfile(tarfile.TarInfo("JPEGImages/mine/0.png"), io.BytesIO(content))

    return change


def cut_data(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:700])


def cut_header(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:100])


def empty(shard: Path) -> None:
    shard.write_bytes(b"")


def flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[130] ^= 7  # within the first member's size
    shard.write_bytes(content)


def web_page(shard: Path) -> None:
    shard.write_text("<!doctype html><html>" + "sign in " * 200)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (compress("gz"), "compressed file (gzip)"),
        (compress("bz2"), "compressed file (bzip2)"),
        (compress("xz"), "compressed file (xz)"),
        (cut_data, ""),
        (cut_header, ""),
        (empty, "the file is empty"),
        (flip, ""),
        (web_page, "web page"),
    ],
)
def test_damaged_shards_are_refused(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    trees.folder(tmp_path / "one")
    (shard,) = write_shards(tmp_path / "one", tmp_path / "two")
    damage(shard)
    with pytest.raises(InputError) as caught:
        recorded_videos(tmp_path / "two", "FOLDER", "val")
    assert str(shard) in str(caught.value) and words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_a_wrong_size_of_shards_is_refused(tmp_path: Path, size: float) -> None:
    trees.folder(tmp_path / "set")
    with pytest.raises(InputError, match="--size: expected a number of megabytes above 0"):
        write_shards(tmp_path / "set", tmp_path / "out", size)
    assert not (tmp_path / "out").exists()


def test_a_shard_holds_a_file_at_least(tmp_path: Path) -> None:
    trees.folder(tmp_path / "set")
    files = list((tmp_path / "set").rglob("*.png"))
    assert len(write_shards(tmp_path / "set", tmp_path / "out", 1e-9)) == len(files)


def test_a_file_in_two_shards_is_refused(tmp_path: Path) -> None:
    trees.folder(tmp_path / "one")
    (shard,) = write_shards(tmp_path / "one", tmp_path / "two")
    copy = shard.with_name("copy.tar")
    copy.write_bytes(shard.read_bytes())
    with pytest.raises(InputError, match=r"both hold JPEGImages/mine/00000.png; remove one"):
        recorded_videos(tmp_path / "two", "FOLDER", "val")


def test_a_damaged_frame_in_a_shard_fails_alone(tmp_path: Path, weights: Path) -> None:
    trees.folder(tmp_path / "one")
    trees.folder(tmp_path / "one", name="other")
    (tmp_path / "one/JPEGImages/mine/00002.png").write_bytes(b"\x89PNG but no more")
    (shard,) = write_shards(tmp_path / "one", tmp_path / "two")
    end = segment_folder(tmp_path / "two", weights)
    end.check_error("1 of 2 videos failed", "mine")
    assert f"{shard}/JPEGImages/mine/00002.png: expected a readable image" in end.err
    assert len(list((tmp_path / "two/output/FOLDER/other").glob("*.png"))) == 4


def test_a_shard_that_changes_during_a_run(tmp_path: Path) -> None:
    trees.folder(tmp_path / "one")
    (shard,) = write_shards(tmp_path / "one", tmp_path / "two")
    ((video,), _) = recorded_videos(tmp_path / "two", "FOLDER", "val")
    frame = video.frames[0]
    assert isinstance(frame, TarMember) and read_image(frame).shape == (*trees.SIZE, 3)
    os.utime(shard, (5, 5))
    with pytest.raises(UnreadableError, match="was changed while it was in use; start again"):
        read_image(frame)
    shard.unlink()
    with pytest.raises(UnreadableError, match=r"00000\.png: expected a readable image .* No such file"):
        read_image(frame)


def test_video_files_in_shards_are_not_read(tmp_path: Path) -> None:
    trees.folder(tmp_path / "one")
    write_shards(tmp_path / "one", tmp_path / "two")
    with tarfile.open(tmp_path / "two/films.tar", "w") as shard:
        shard.addfile(tarfile.TarInfo("JPEGImages/film.mp4"))
        shard.addfile(tarfile.TarInfo("Annotations/film/00000.png"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        videos, (incomplete,) = recorded_videos(tmp_path / "two", "FOLDER", "val")
    assert [video.name for video in videos] == ["mine"] and incomplete.name == "film"
    assert "lies in a tar shard" in str(caught[0].message)
