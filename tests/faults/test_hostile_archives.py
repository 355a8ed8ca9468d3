"""Archives from strangers: paths that leave the folder, links, devices, bombs, damage. Nothing stays."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset.download import unpack as module
from dataset.download.unpack import unpack
from libs.core.errors import InputError
from tests.helpers.limits import small_disk
from tests.helpers.subprocess_runner import ForkedScript

Entries = dict[str, bytes]
GOOD = {"DAVIS/JPEGImages/480p/a/00000.jpg": b"image", "DAVIS/ImageSets/2017/val.txt": b"a\n"}


def write_zip(path: Path, entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def write_tar(path: Path, entries: Entries, *others: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return path


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_with_mode(path: Path, kind: int) -> Path:
    """A zip whose last member has a type of Unix in its attributes."""
    info = zipfile.ZipInfo("DAVIS/x")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(write_zip(path, GOOD), "a") as archive:
        archive.writestr(info, "/etc/passwd")
    return path


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, *words: str) -> None:
    """Expect one line that names the archive, and nothing on disk but the archive."""
    before = files_in(archive.parent)
    with pytest.raises(InputError) as caught:
        unpack(archive, archive.parent / "in" / "new")
    line = str(caught.value)
    assert "\n" not in line and str(archive) in line and len(line) < 600
    for word in words:
        assert word in line, line
    assert files_in(archive.parent) == before and not (archive.parent / "in/new").exists()


@pytest.mark.parametrize("form", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_good_archives_are_unpacked(tmp_path: Path, form: str) -> None:
    junk = {"__MACOSX/a": b"", "DAVIS/.DS_Store": b"", "DAVIS/JPEGImages/480p/a/._00000.jpg": b""}
    path = tmp_path / "name.does.not.matter"
    write_zip(path, GOOD | junk) if form == "zip" else write_tar(path, GOOD | junk, mode=form)
    assert unpack(path, tmp_path / "new") == 2
    assert files_in(tmp_path / "new") == set(GOOD)
    assert all((tmp_path / "new" / name).read_bytes() == content for name, content in GOOD.items())
    modes = {stat.S_IMODE(path.stat().st_mode) & ~0o666 for path in (tmp_path / "new").rglob("*.*")}
    assert modes == {0}, "no file is executable, whatever the archive says"


LEAVES = [
    "/etc/cron.d/x",
    "../x",
    "DAVIS/../../x",
    "DAVIS/..",
    "C:/x",
    "C:x",
    "..\\x",
    "\\\\host\\x",
    "//host/x",
]


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_paths_that_leave_the_folder(
    tmp_path: Path, name: str, write: Callable[[Path, Entries], Path]
) -> None:
    refused(write(tmp_path / "a", {**GOOD, name: b"x"}), "its path leaves the folder", repr(name))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("DAVIS/x", tarfile.SYMTYPE, "/etc/passwd"), "it is a link"),
        (member("DAVIS/x", tarfile.SYMTYPE, ".."), "it is a link"),
        (member("DAVIS/x", tarfile.LNKTYPE, "DAVIS/ImageSets/2017/val.txt"), "it is a link"),
        (member("DAVIS/x", tarfile.CHRTYPE), "it is a device or the like"),
        (member("DAVIS/x", tarfile.BLKTYPE), "it is a device or the like"),
        (member("DAVIS/x", tarfile.FIFOTYPE), "it is a device or the like"),
        (member("DAVIS/x", tarfile.GNUTYPE_SPARSE), "it is a device or the like"),
        (member("DAVIS/ImageSets/2017/val.txt", tarfile.REGTYPE), "it is there twice"),
        (member("DAVIS/ImageSets/2017/val.txt/x", tarfile.REGTYPE), "it is there twice"),
        (member("DAVIS/ImageSets", tarfile.REGTYPE), "it is there twice"),
    ],
)
def test_members_of_a_tar_file(tmp_path: Path, bad: tarfile.TarInfo, words: str) -> None:
    refused(write_tar(tmp_path / "a.tar", GOOD, bad), words, repr(bad.name))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_members_of_a_zip_file(tmp_path: Path, kind: int) -> None:
    refused(zip_with_mode(tmp_path / "a.zip", kind), "it is a link, a device or the like", "'DAVIS/x'")


def test_a_link_as_folder_is_not_followed(tmp_path: Path) -> None:
    """First a link to a folder elsewhere, then a file below it."""
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as opened:
        opened.addfile(member("DAVIS/out", tarfile.SYMTYPE, str(tmp_path)))
        opened.addfile(member("DAVIS/out/x", tarfile.REGTYPE))
    refused(archive, "it is a link")


def test_an_encrypted_member(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", GOOD)
    content = archive.read_bytes()
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(mark) + offset
        content = content[:start] + b"\x01\x00" + content[start + 2 :]
    archive.write_bytes(content)
    refused(archive, "it is encrypted")


# ---- bombs ----


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any archive may unpack to 1 MB, and to 20 times its own size."""
    monkeypatch.setattr(module, "SMALL", 1_000_000)


ZEROS = {f"DAVIS/{i}": bytes(400_000) for i in range(3)}


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("form", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_grows_too_much(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    write_zip(path, ZEROS) if form == "zip" else write_tar(path, ZEROS, mode=form)
    refused(path, "it holds more than 2 files and 1 MB")


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_header_that_announces_more_than_there_is(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    info = tarfile.TarInfo("DAVIS/x")
    info.size = 10**15
    (tmp_path / "a").write_bytes(compress(info.tobuf() + bytes(1024)))
    refused(tmp_path / "a", "it holds more than 0 files")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_of_a_terabyte(tmp_path: Path, kind: bytes) -> None:
    """Such headers are held in memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 40
    (tmp_path / "a").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))
    refused(tmp_path / "a", "a header announces 1099511627776 bytes")


@pytest.mark.usefixtures("low")
def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """Many entries of the directory point to the same compressed bytes; `zipfile` compares their names."""
    archive = write_zip(tmp_path / "a.zip", {"x": bytes(100_000)})
    content = archive.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entries = b"".join(content[start:end].replace(b"x", bytes([letter])) for letter in range(97, 123))
    last = content[end : end + 8] + struct.pack("<HHIIH", 26, 26, len(entries), start, 0)
    archive.write_bytes(content[:start] + entries + last)
    refused(archive, "expected a zip or tar archive")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 3)
    refused(write_tar(tmp_path / "a", {str(i): b"" for i in range(4)}), "it holds more than 3 files")
    refused(write_zip(tmp_path / "a", {f"{i}/": b"" for i in range(4)}), "it holds more than 3 files")


def test_a_member_that_is_longer_than_its_entry_says(tmp_path: Path) -> None:
    """No more than announced is written, and the checksum tells that it is not all."""
    archive = write_zip(tmp_path / "a.zip", {"x": b"y" * 5000})
    content = archive.read_bytes()
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(mark) + offset
        content = content[:start] + struct.pack("<I", 10) + content[start + 4 :]
    archive.write_bytes(content)
    refused(archive, "expected a zip or tar archive", "Bad CRC-32")


# ---- damage ----


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 255]) + content[half + 1 :]


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("form", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_damaged_archives(tmp_path: Path, damage: Callable[[bytes], bytes], form: str) -> None:
    entries, path = {"DAVIS/x": os.urandom(200_000)}, tmp_path / "a"
    write_zip(path, entries) if form == "zip" else write_tar(path, entries, mode=form)
    path.write_bytes(damage(path.read_bytes()))
    refused(path, "expected a zip or tar archive", "; remove a and run this command again")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_file_that_ends_between_two_members(tmp_path: Path, mode: str) -> None:
    """Nothing in a tar file says how many members it has, but its end is marked by zeros."""
    write_tar(tmp_path / "whole", {"a": b"a" * 512, "b": b"b" * 512})
    half = (tmp_path / "whole").read_bytes()[:1024]
    (tmp_path / "a").write_bytes(half if mode == "w" else gzip.compress(half))
    (tmp_path / "whole").unlink()
    refused(tmp_path / "a", "it ends too early")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"<!doctype html><html>sign in", "this is a web page"),
        (b"Rar!\x1a\x07\x00 and so on", "compressed file (rar)"),
        (b"quota exceeded", "a text that begins with 'quota exceeded'"),
        (bytes(2048), "begins with zeros"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "expected a zip or tar archive", words)


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage(tmp_path)._replace(free=4)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    refused(write_zip(tmp_path / "a.zip", GOOD), "unpacking takes 0 MB, 0 MB are free")


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"x": bytes(200_000)})
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom dataset.command import run_command\n"
        "from dataset.download.unpack import unpack\n"
        f"run_command(lambda: unpack(Path({str(tmp_path / 'a.tar')!r}), Path({str(tmp_path / 'new')!r})))\n"
    )
    end = ForkedScript(script, before=small_disk(100_000)).wait(60)
    end.check_error(str(tmp_path / "new"), "cannot be written: File too large; nothing was unpacked")
    assert files_in(tmp_path) == {"a.tar", "script.py"}
