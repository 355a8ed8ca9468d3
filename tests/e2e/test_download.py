"""python3 -m dataset.download: from a local server into the layout that the indices read."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import gdown
import pytest

from dataset.download import addresses, fetch, place, sets
from dataset.download.addresses import RemoteFile
from dataset.known import KNOWN, Known
from dataset.registry import recorded_videos, training_videos
from tests.helpers import fake_datasets as trees
from tests.helpers.file_server import serve
from tests.helpers.limits import small_disk
from tests.helpers.published_sets import Publisher, pack_tar_gz, pack_zip, read_files
from tests.helpers.subprocess_runner import ForkedScript, Result, run_in_process


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    with serve() as server:
        yield Publisher(server, monkeypatch, tmp_path / "scratch")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def download(root: Path, *words: str) -> Result:
    return run_in_process("dataset.download", *words, "--root", root)


def names(root: Path, name: str, split: str) -> list[str]:
    """The complete videos of a split; fails if there are others."""
    videos, incomplete = recorded_videos(root, name, split)
    assert not incomplete
    return [video.name for video in videos]


def check_clean(root: Path, *folders: str) -> None:
    """Nothing is there but the sets, and in each of them nothing hidden but the records and the lock."""
    assert sorted(os.listdir(root)) == sorted(folders)
    hidden = {
        path.suffix or path.name for folder in folders for path in (root / folder / ".download").iterdir()
    }
    assert hidden <= {".json", ".lock"}


def test_davis17(publisher: Publisher, root: Path) -> None:
    """Two archives are merged; of files that are no frames, masks or lists, the first one stays."""
    publisher.davis17()
    end = download(root, "DAVIS17")
    end.check_success("1 file left out, as there are others of that name: SOURCES.md")
    assert end.out.count("as published (sha256:") == 2 and "python3 -m dataset.check DAVIS17" in end.out
    found = {split: names(root, "DAVIS17", split) for split in ("train", "val", "test-dev")}
    assert found == {"train": ["pair", "trio"], "val": ["duo"], "test-dev": ["dev"]}
    assert (root / "DAVIS17/SOURCES.md").read_text() == "videos of trainval"
    check_clean(root, "DAVIS17")


def test_a_second_run_downloads_nothing(publisher: Publisher, root: Path) -> None:
    publisher.davis17()
    download(root, "DAVIS17", "trainval").check_success()
    asked = len(publisher.server.asked)
    again = download(root, "davis17", "trainval")
    again.check_success()
    assert "trainval was downloaded before" in again.out and len(publisher.server.asked) == asked
    download(root, "DAVIS17", "trainval", "--again").check_success()
    assert len(publisher.server.asked) == asked + 1
    check_clean(root, "DAVIS17")


def test_a_set_that_is_complete_is_not_downloaded(
    publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it came there; an additional or missing video makes a difference."""
    publisher.davis17()
    trees.davis17(root)
    monkeypatch.setitem(KNOWN, ("DAVIS17", "train"), (Known("small", 2, 8),))
    monkeypatch.setitem(KNOWN, ("DAVIS17", "val"), (Known("small", 1, 4),))
    assert "trainval is there and complete" in download(root, "DAVIS17", "trainval").out
    assert not publisher.server.asked
    for wrong in (Known("other", 1, 5), Known("other", 2, 4)):
        monkeypatch.setitem(KNOWN, ("DAVIS17", "val"), (wrong,))
        assert "is there" not in download(root, "DAVIS17", "trainval", "--again").out
    assert len(publisher.server.asked) == 2


def test_davis16(publisher: Publisher, root: Path, tmp_path: Path) -> None:
    tree = trees.davis16(tmp_path)
    for kind in ("JPEGImages", "Annotations"):
        shutil.rmtree(tree / kind / "480p/cat")
    (tree / "data/db_info.yaml").unlink()
    (tree / "ImageSets/480p").mkdir(parents=True)
    for split, name in (("train", "bear"), ("val", "dog")):
        lines = [
            f"/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png" for t in range(4)
        ]
        (tree / f"ImageSets/480p/{split}.txt").write_text("\n".join(lines))
    publisher.publish("DAVIS16", "all", pack_zip(read_files(tree, "DAVIS/")))
    download(root, "DAVIS16").check_success()
    assert not (root / "DAVIS16/data/db_info.yaml").exists()
    assert names(root, "DAVIS16", "train") == ["bear"] and names(root, "DAVIS16", "val") == ["dog"]
    check_clean(root, "DAVIS16")


@pytest.mark.parametrize("prefix", ["DUTS-TR/", ""])
def test_duts(publisher: Publisher, root: Path, prefix: str) -> None:
    """Images and masks join those of STATIC that are there."""
    for folder in (root / "STATIC", publisher.scratch):
        name = "own" if folder == root / "STATIC" else "ILSVRC2012_test_00000004"
        image, labels = trees.scene((255,))
        trees.save_image(folder / f"images/{name}.jpg", image)
        trees.save_mask(folder / f"masks/{name}.png", labels, "L")
    files = read_files(publisher.scratch / "images", f"{prefix}DUTS-TR-Image/")
    files |= read_files(publisher.scratch / "masks", f"{prefix}DUTS-TR-Mask/")
    publisher.publish("DUTS", "train", pack_zip({**files, f"{prefix}notes.txt": b""}), "")
    end = download(root, "DUTS")
    end.check_success()
    assert "the publisher gives no checksum" in end.out and "dataset.check DUTS" in end.out
    assert [video.name for video in training_videos(root, "STATIC")] == ["ILSVRC2012_test_00000004", "own"]
    check_clean(root, "STATIC")


def test_mose(publisher: Publisher, root: Path) -> None:
    """The archives in the archive are compared with their checksums."""
    publisher.mose()
    download(root, "MOSE").check_success()
    assert names(root, "MOSE", "train") == ["many", "single"] and names(root, "MOSE", "val") == ["a", "b"]
    check_clean(root, "MOSE")
    publisher.change("MOSE", "release", inner={"train.tar.gz": "sha256:" + "0" * 64})
    download(root, "MOSE", "--again").check_error(
        "release:",
        "wrong sha256 of train.tar.gz in it",
        "0000",
        "; remove MOSE_release.zip and run this command",
    )


def test_lvos(publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive calls its folder valid; lists come from elsewhere, and what cannot be had is named."""
    tree = trees.lvos(publisher.scratch)
    meta = {
        f"{split}_meta.json": (tree / split / f"{split}_meta.json").read_bytes() for split in ("train", "val")
    }
    for split, folder in (("train", "train"), ("val", "valid")):
        (tree / split / f"{split}_meta.json").unlink()
        publisher.publish("LVOS", split, pack_zip(read_files(tree / split, f"{folder}/")))
    unseen = publisher.server.put("unseen_videos.txt", b"rare\n", kind="text/plain")
    publisher.change("LVOS", lists={"LVOS/unseen_videos.txt": RemoteFile("unseen_videos.txt", (unseen,))})
    publisher.change("LVOS", list_folder="folder-id")

    def give(wanted: dict[str, bytes]) -> None:
        def download_folder(id: str, output: str, **_: object) -> list[str]:
            assert id == "folder-id"
            for name, content in wanted.items():
                path = Path(output) / "LVOS meta" / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            if not wanted:
                raise gdown.exceptions.FileURLRetrievalError("quota")
            return []

        monkeypatch.setattr(gdown, "download_folder", download_folder)

    give({})
    end = download(root, "LVOS")
    end.check_success(
        "train_meta.json could not be downloaded (FileURLRetrievalError)", "folder-id with a browser"
    )
    assert f"save it as {root}/LVOS/val/val_meta.json" in end.err
    give({"train_meta.json": meta["train_meta.json"], "valid_meta.json": meta["val_meta.json"]})
    end = download(root, "LVOS")
    end.check_success()
    assert "meta" not in end.err
    assert names(root, "LVOS", "train") == ["long"] and names(root, "LVOS", "val") == ["common", "rare"]
    assert (root / "LVOS/unseen_videos.txt").read_text() == "rare\n"
    check_clean(root, "LVOS")


@pytest.mark.parametrize("prefix", ["train/", "", "a/b/"])
def test_youtube_vos(publisher: Publisher, root: Path, prefix: str) -> None:
    """Wherever the archive puts the folder, and though it is a tar file under the name of a zip."""
    tree = trees.youtube_vos(publisher.scratch)
    publisher.publish("VOS", "train", pack_tar_gz(read_files(tree / "train", prefix)), "")
    publisher.publish("VOS", "valid", pack_zip(read_files(tree / "valid", "valid/")), "")
    download(root, "YouTube-VOS").check_success()
    assert names(root, "VOS", "train") == ["aaa"] and names(root, "VOS", "val") == ["bbb"]
    check_clean(root, "Youtube-VOS")


# ---- releases that share a folder ----


def publish_lvos(publisher: Publisher) -> None:
    """Publish val of both versions of LVOS, with their meta files: common and rare; rare alone."""
    for key, left_out in (("LVOS", ""), ("LVOS1", "common")):
        tree = trees.lvos(publisher.scratch / key)
        if left_out:
            for kind in ("JPEGImages", "Annotations"):
                shutil.rmtree(tree / "val" / kind / left_out)
            trees.write_frame_ranges(tree / "val", {"rare": {1: (1, 26), 2: (6, 26)}})
        publisher.publish(key, "val", pack_zip(read_files(tree / "val", "val/")))


@pytest.mark.parametrize("words", [(), ("--again",)])
@pytest.mark.parametrize("is_known", [True, False])
def test_another_release_is_neither_taken_for_this_one_nor_merged(
    publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], is_known: bool
) -> None:
    """Its number of videos tells it, or else the record of its download. Moving it away is enough."""
    publish_lvos(publisher)
    sizes = (Known("version 2", 2), Known("version 1", 1)) if is_known else ()
    monkeypatch.setitem(KNOWN, ("LVOS", "val"), sizes)
    download(root, "LVOS", "val").check_success()
    if is_known:
        (root / "LVOS/.download/LVOS-val.json").unlink()
    asked = len(publisher.server.asked)
    end = download(root, "LVOS1", "val", *words)
    end.check_error(f"val: {root}/LVOS/val holds the release 'version 2', and LVOS1 is 'version 1'", "move")
    assert "is there" not in end.out and len(publisher.server.asked) == asked
    assert names(root, "LVOS", "val") == ["common", "rare"]
    (root / "LVOS/val").rename(root / "away")
    download(root, "LVOS1", "val", *words).check_success()
    assert names(root, "LVOS", "val") == ["rare"]
    download(root, "LVOS1", "val").check_success()
    download(root, "LVOS", "val").check_error("holds the release 'version 1', and LVOS is 'version 2'")


def test_objects_tell_releases_with_as_many_videos_apart(
    publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.youtube_vos(root)
    sizes = Known("2019", 1, objects=9), Known("2018", 1, objects=2)
    monkeypatch.setitem(KNOWN, ("VOS", "val"), sizes)
    download(root, "VOS", "valid").check_error("holds the release '2018', and VOS is '2019'")
    assert "valid is there and complete" in download(root, "VOS2018", "valid").out
    sizes = Known("2019", 1, objects=9), Known("2018", 1, objects=8)
    monkeypatch.setitem(KNOWN, ("VOS", "val"), sizes)
    assert "valid is there and complete" in download(root, "VOS", "valid").out


def test_meta_files_are_those_of_the_release(
    publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the other version gets none."""
    publish_lvos(publisher)
    download(root, "LVOS", "val").check_success()
    (root / "LVOS/val/val_meta.json").unlink()
    publisher.change("LVOS1", list_folder="folder-id")
    asked: list[str] = []
    monkeypatch.setattr(gdown, "download_folder", lambda id, **_: asked.append(id))
    download(root, "LVOS1", "val").check_error("holds the release 'version 2'")
    assert not asked


def test_every_release_is_one_of_the_known_sizes() -> None:
    for source in addresses.SOURCES.values():
        for split in (split for part in source.parts.values() for split in part.splits):
            releases = [one.release for one in KNOWN[source.index, split]]
            assert source.release in releases if len(releases) > 1 else not source.release


# ---- parts that fail ----


def test_a_part_that_only_a_browser_can_fetch(publisher: Publisher, root: Path) -> None:
    """The line says what to put where; then the same command unpacks it."""
    file = root / "downloads/youtube-vos-2019-test.zip"
    end = download(root, "VOS", "test")
    end.check_error(
        "test: this part can only be had with a browser", f"save the archive as {file}", addresses.VOS_PAGE
    )
    assert not root.exists()
    tree = trees.youtube_vos(publisher.scratch)
    file.parent.mkdir(parents=True)
    file.write_bytes(pack_zip(read_files(tree / "valid", "test/")))
    (file.parent / "mine.zip").touch()
    download(root, "VOS", "test", "--keep").check_success()
    assert names(root, "VOS", "test") == ["bbb"]
    assert sorted(os.listdir(file.parent)) == ["mine.zip", file.name]


def test_the_other_parts_go_on_if_one_fails(publisher: Publisher, root: Path) -> None:
    publisher.davis17()
    publisher.server.files.pop("DAVIS-2017-trainval-480p.zip")
    end = download(root, "DAVIS17")
    end.check_error(
        "trainval: DAVIS-2017-trainval-480p.zip could not be downloaded", "404", "davischallenge.org"
    )
    assert names(root, "DAVIS17", "test-dev") == ["dev"]


# ---- wrong command lines, networks and disks ----


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["DAVIS18"], ("'DAVIS18'", "did you mean 'DAVIS1", "LVOS")),
        (["INSTANCES"], ("'INSTANCES'", "see DATASET.md for the others")),
        (["../etc"], ("'../etc'",)),
        (["DAVIS17", "val"], ("DAVIS17 has no part 'val'", "trainval, test-dev")),
    ],
)
def test_wrong_names(publisher: Publisher, root: Path, words: list[str], named: tuple[str, ...]) -> None:
    download(root, *words).check_error(*named)
    assert not root.exists()


def test_no_network(publisher: Publisher, root: Path) -> None:
    """Nobody listens at port 1, and the name of the second address cannot be resolved."""
    places = ("http://127.0.0.1:1/a.zip", "http://does-not-exist.invalid/a.zip")
    publisher.change("DAVIS17", "trainval", file=RemoteFile("a.zip", places))
    end = download(root, "DAVIS17", "trainval")
    assert "a.zip: no connection, or it broke" in end.err
    end.check_error(
        "127.0.0.1:1: no connection", "does-not-exist.invalid: no connection", f"as {root}/downloads/a.zip"
    )
    assert not root.exists()


def test_a_wrong_checksum(publisher: Publisher, root: Path) -> None:
    publisher.davis17(test_dev=False)
    name = "DAVIS-2017-trainval-480p.zip"
    content = publisher.server.files[name].content
    publisher.server.put(name, content[:-1] + b"x")
    download(root, "DAVIS17", "trainval").check_error("trainval", "wrong checksum, expected sha256:")
    assert not root.exists()


@pytest.mark.parametrize("remedy", ["remove", "--again"])
def test_a_damaged_archive_can_be_replaced(publisher: Publisher, root: Path, remedy: str) -> None:
    """By removing it, as the line says, or by --again. Without a checksum, only unpacking tells."""
    publisher.davis17(test_dev=False)
    archive = root / "downloads/DAVIS-2017-trainval-480p.zip"
    good = publisher.server.files[archive.name].content
    publisher.publish("DAVIS17", "trainval", good[: len(good) // 2], "")
    advice = f"; remove {archive.name} and run this command again"
    for _ in range(2):
        download(root, "DAVIS17", "trainval").check_error(f"{archive}: expected a zip or tar archive", advice)
    assert len(publisher.server.asked) == 1
    publisher.server.put(archive.name, good)
    words = [remedy] if remedy == "--again" else archive.unlink() or []
    download(root, "DAVIS17", "trainval", *words).check_success()
    assert names(root, "DAVIS17", "val") == ["duo"]
    check_clean(root, "DAVIS17")


def test_a_kept_archive_is_downloaded_anew(publisher: Publisher, root: Path) -> None:
    """But not one that the user put in its place."""
    publisher.davis17(test_dev=False)
    archive = root / "downloads/DAVIS-2017-trainval-480p.zip"
    for count in (1, 2):
        download(root, "DAVIS17", "trainval", "--keep", "--again").check_success()
        assert len(publisher.server.asked) == count and archive.exists()
    content = archive.read_bytes()
    archive.unlink()
    archive.write_bytes(content)
    os.utime(archive, (1, 1))
    download(root, "DAVIS17", "trainval", "--keep", "--again").check_success()
    assert len(publisher.server.asked) == 2 and archive.exists()
    download(root, "DAVIS17", "trainval", "--again").check_success()
    check_clean(root, "DAVIS17")


def test_a_hostile_archive(publisher: Publisher, root: Path, tmp_path: Path) -> None:
    publisher.publish(
        "DAVIS17", "trainval", pack_zip({"DAVIS/../../../../../evil": b"x", "DAVIS/JPEGImages/a": b""})
    )
    end = download(root, "DAVIS17", "trainval")
    end.check_error(
        "DAVIS-2017-trainval-480p.zip: member 'DAVIS/../../../../../evil': its path leaves the folder"
    )
    assert not list(tmp_path.rglob("evil")) and not (root / "DAVIS17").exists()


@pytest.mark.parametrize("files", [{"other/a": b"x"}, {"a/JPEGImages/1": b"x", "b/JPEGImages/1": b"x"}])
def test_an_archive_with_another_layout(publisher: Publisher, root: Path, files: dict[str, bytes]) -> None:
    publisher.publish("DAVIS17", "trainval", pack_zip(files))
    found = "a, b" if "other/a" not in files else "none"
    end = download(root, "DAVIS17", "trainval")
    end.check_error("expected one folder of any name with JPEGImages in the archive", f"found {found}")
    assert not (root / "DAVIS17").exists()


def test_other_files_of_these_names_are_not_replaced(publisher: Publisher, root: Path) -> None:
    """The line names them, nothing is moved, and the same command goes on when they are gone."""
    publisher.davis17(test_dev=False)
    frame = root / "DAVIS17/JPEGImages/480p/duo/00001.jpg"
    frame.parent.mkdir(parents=True)
    frame.write_text("mine")
    download(root, "DAVIS17", "trainval").check_error("1 file there with other content", "480p/duo/00001.jpg")
    assert frame.read_text() == "mine" and not (root / "DAVIS17/Annotations").exists()
    frame.unlink()
    asked = len(publisher.server.asked)
    download(root, "DAVIS17", "trainval").check_success()
    assert names(root, "DAVIS17", "val") == ["duo"] and len(publisher.server.asked) == asked
    check_clean(root, "DAVIS17")


def test_a_move_that_was_interrupted_goes_on(
    publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the lists are there, none of its videos is found."""
    publisher.davis17(test_dev=False)
    move, moved = place._move, []

    def interrupt(source: Path, target: Path) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target.name)
        move(source, target)

    monkeypatch.setattr(place, "_move", interrupt)
    end = download(root, "DAVIS17", "trainval")
    assert (end.code, end.err) == (130, "interrupted\n") and moved == ["Annotations", "JPEGImages"]
    with pytest.raises(Exception, match="found no video"):
        names(root, "DAVIS17", "val")
    monkeypatch.setattr(place, "_move", move)
    download(root, "DAVIS17", "trainval").check_success()
    assert names(root, "DAVIS17", "val") == ["duo"] and len(publisher.server.asked) == 1
    check_clean(root, "DAVIS17")


def test_unpacking_that_was_killed_begins_again(publisher: Publisher, root: Path) -> None:
    publisher.davis17(test_dev=False)
    left = root / "DAVIS17/.download/DAVIS17-trainval.new/tree/DAVIS/JPEGImages/480p/duo"
    left.mkdir(parents=True)
    (left / "00000.jpg").write_text("half of a fr")
    download(root, "DAVIS17", "trainval").check_success()
    assert names(root, "DAVIS17", "val") == ["duo"]
    check_clean(root, "DAVIS17")


def test_two_downloads_at_a_time(publisher: Publisher, root: Path) -> None:
    publisher.davis17()
    with sets.exclusive_run(root / "DAVIS17/.download"):
        download(root, "DAVIS17").check_error("DAVIS17/.download", "another run is writing there")


def test_a_disk_without_space(publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.davis17(test_dev=False)
    usage = sets.shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(sets.shutil, "disk_usage", lambda path: usage)
    download(root, "DAVIS17", "trainval").check_error(
        "MB are still to come, 0 MB are free", "free some space"
    )
    assert not (root / "DAVIS17").exists() and not list(root.rglob("*.zip*"))


def test_a_disk_that_fills_up_while_downloading(publisher: Publisher, root: Path) -> None:
    """What has arrived is kept, and the same command resumes when there is space again."""
    publisher.davis17(test_dev=False)
    name = "DAVIS-2017-trainval-480p.zip"
    words = ("DAVIS17", "trainval", "--root", str(root))
    end = ForkedScript("dataset/download/__main__.py", *words, before=small_disk(5000)).wait(60)
    end.check_error(f"{name}.part cannot be written: File too large", "it resumes")
    assert (root / f"downloads/{name}.part").stat().st_size == 5000
    download(root, "DAVIS17", "trainval").check_success()
    assert publisher.server.asked[-1] == (name, "bytes=5000-") and names(root, "DAVIS17", "val") == ["duo"]


def test_a_kill_while_downloading(publisher: Publisher, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the beginning of the file and its note, with which the next run resumes."""
    publisher.davis17(test_dev=False)
    name = "DAVIS-2017-trainval-480p.zip"
    content = publisher.server.files[name].content
    publisher.server.put(name, content, cuts=[6000], hangs=True)
    monkeypatch.setattr(fetch, "CHUNK", 1000)
    script = ForkedScript("dataset/download/__main__.py", "DAVIS17", "trainval", "--root", str(root))
    part, end = root / f"downloads/{name}.part", time.monotonic() + 30
    while not part.exists() or part.stat().st_size < 6000:
        assert script.is_running() and time.monotonic() < end
        time.sleep(0.02)
    script.send(signal.SIGKILL)
    script.wait()
    publisher.server.put(name, content)
    download(root, "DAVIS17", "trainval").check_success()
    assert publisher.server.asked[-1] == (name, "bytes=6000-") and names(root, "DAVIS17", "val") == ["duo"]
    check_clean(root, "DAVIS17")
