"""Unpack an archive that may be hostile: no path leaves its folder, and nothing grows without bound.

Only regular files and folders are written, by this code and not by the archive's library: `zipfile` has no
filter, and `tarfile`'s filter 'data' lets links pass. The form is told by the content, not by the suffix.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from dataset.catalogue import SYSTEM
from libs.core.errors import InputError
from libs.core.foreign_files import recognize
from libs.core.log import Progress

RATIO = 20  # an archive may grow by this factor; images hardly shrink when they are packed
SMALL = 100_000_000  # bytes that any archive may unpack to
MOST_FILES = 5_000_000
CHUNK = 1 << 20  # bytes
MOST_AT_ONCE = 16 * CHUNK  # that a tar file may make us hold in memory, as for a name
MB = 1_000_000
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


class Hostile(Exception):
    """An archive is refused; the message says which member and why."""


@dataclass(frozen=True)
class Member:
    """An entry of an archive. `instead` says what it is instead of a file or folder; '' if it is one."""

    name: str
    size: int
    is_folder: bool
    instead: str
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, into: Path) -> int:
    """Unpack an archive into a new folder, which is removed again if anything is wrong.

    Hidden files and files of operating systems are left out.

    Returns: how many files were written.
    Raises: InputError naming the archive, and the member that is refused.
    """
    try:
        with _in_one_line(archive, into):
            into.mkdir(parents=True)
            with _open_archive(archive) as members:
                return _write_members(archive, members, into)
    except BaseException:  # a signal, too
        shutil.rmtree(into, ignore_errors=True)
        raise


@contextmanager
def _in_one_line(archive: Path, into: Path) -> Iterator[None]:
    """Turn whatever goes wrong in the block into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Hostile as error:
        raise InputError(f"{archive}: {error}; nothing was unpacked, remove the archive") from error
    except (
        Exception
    ) as error:  # damaged bytes raise BadZipFile, TarError, zlib.error, EOFError, ValueError ...
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(
                f"{into} cannot be written: {error.strerror}; nothing was unpacked, check space and "
                "permissions"
            ) from error
        foreign = "" if _is_known(archive) else recognize(archive)
        reason = foreign or " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{archive}: expected a zip or tar archive: {reason}; remove {archive.name} and run this command "
            "again"
        ) from error


def _write_members(archive: Path, members: Iterator[Member], into: Path) -> int:
    """Check and write one member after the other. Returns: how many files were written."""
    limit = _limit(archive)
    progress = Progress("unpack", 0, "file")
    total, count, files = 0, 0, 0
    with progress.section(archive.name, 0):
        for member in members:
            path = _safe_path(member)
            total, count = total + member.size, count + 1
            if total > limit or count > MOST_FILES:
                raise Hostile(
                    f"it holds more than {count - 1} files and {limit / MB:.0f} MB, too much for an "
                    f"archive of {archive.stat().st_size / MB:.1f} MB of images"
                )
            if member.is_folder or _is_of_system(path):
                continue
            _write(member, into.joinpath(*path.parts))
            files += 1
            progress.advance()
    if not files:
        raise ValueError("it holds no file")
    return files


def _limit(archive: Path) -> int:
    """Bytes that an archive may unpack to."""
    return max(SMALL, RATIO * archive.stat().st_size)


def _safe_path(member: Member) -> PurePosixPath:
    """The path of a member below its folder.

    Raises: Hostile if it would leave the folder, or if the member is neither a file nor a folder.
    """
    name, path = member.name, PurePosixPath(member.name)
    reason = member.instead
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or set(name) & set("\\\0"):
        reason = "its path leaves the folder"
    if member.size < 0:
        reason = "its size is negative"
    if reason:
        raise Hostile(f"member {name[:200]!r}: {reason}")
    return path


def _is_of_system(path: PurePosixPath) -> bool:
    """Whether a file is hidden, or belongs to an operating system."""
    return any(part.startswith(".") or part.casefold() in SYSTEM for part in path.parts)


def _write(member: Member, target: Path) -> None:
    """Write one file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            source = member.open()
            if source is None:
                raise Hostile(f"member {member.name[:200]!r}: it has no content")
            with source:
                shutil.copyfileobj(source, out, CHUNK)
    except (FileExistsError, NotADirectoryError) as error:
        raise Hostile(f"member {member.name[:200]!r}: it is there twice") from error


# ---- forms of archives ----


@contextmanager
def _open_archive(path: Path) -> Iterator[Iterator[Member]]:
    """The members of a zip or tar file, in order."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as opened:
            _check_space(path, sum(info.file_size for info in opened.infolist()))
            yield (_zip_member(opened, info) for info in opened.infolist())
        return
    with (_decompression(path) or open)(path, "rb") as content:
        bounded = _Bounded(content)  # it reads, seeks and tells, which is all that tarfile needs
        with tarfile.open(fileobj=bounded, mode="r:") as opened:  # type: ignore[call-overload]
            yield _tar_members(opened, content)


def _decompression(path: Path) -> Callable[..., Any] | None:
    """What opens a compressed file; None if it is not compressed."""
    start = _start(path)
    return next((each for magic, each in COMPRESSED.items() if start.startswith(magic)), None)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(tarfile.BLOCKSIZE)


def _is_known(path: Path) -> bool:
    """Whether a file is of a form that is unpacked here, though it may be damaged."""
    return zipfile.is_zipfile(path) or _decompression(path) is not None or _start(path)[257:262] == b"ustar"


def _check_space(archive: Path, needed: int) -> None:
    """Raises: InputError if the disk is too small for what a zip file says that it holds."""
    free = shutil.disk_usage(archive.parent).free
    if free < needed <= _limit(archive):
        raise InputError(
            f"{archive}: unpacking takes {needed / MB:.0f} MB, {free / MB:.0f} MB are free; free some space "
            "and run this command again"
        )


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on Unix
    instead = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "it is a link, a device or the like"
    if info.flag_bits & 1:
        instead = "it is encrypted"
    return Member(info.filename, info.file_size, info.is_dir(), instead, lambda: opened.open(info))


def _tar_members(opened: tarfile.TarFile, content: IO[bytes]) -> Iterator[Member]:
    """The members of a tar file.

    Raises: EOFError if it ends without the zeros that mark its end; other errors if it is damaged.
    """
    while (info := opened.next()) is not None:
        opened.members = []  # type: ignore[attr-defined]  # tarfile would keep all
        instead = "" if info.isdir() or info.isreg() and not info.issparse() else "it is a device or the like"
        if info.issym() or info.islnk():
            instead = "it is a link"
        yield Member(info.name, info.size, info.isdir(), instead, partial(opened.extractfile, info))
    if content.tell() == opened.offset:
        raise EOFError("it ends too early")
    while content.read(CHUNK):  # a compressed file has its checksum at its end
        pass


class _Bounded:
    """A file that never reads much at once: the header of a tar file may announce a name of any length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Raises: Hostile if too much is asked for."""
        if not 0 <= size <= MOST_AT_ONCE:
            raise Hostile(f"a header announces {size} bytes")
        return self._file.read(size)
