"""Which files an uncompressed tar file holds, and where their bytes are."""

import tarfile
from array import array
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from sys import intern
from typing import NamedTuple

from libs.core.errors import InputError
from libs.core.foreign_files import recognize

Spans = dict[str, tuple[int, int]]  # name of a file -> (offset, size) of its bytes


class Members(NamedTuple):
    """The files of one folder in a shard: their names, and where their bytes are."""

    names: tuple[str, ...]
    offsets: array
    sizes: array

    @classmethod
    def of(cls, names: Iterable[str], offsets: Iterable[int], sizes: Iterable[int]) -> "Members":
        """Keep them in little memory: folders have many names in common."""
        return cls(tuple(map(intern, names)), array("q", offsets), array("q", sizes))

    @classmethod
    def of_spans(cls, files: Spans) -> "Members":
        """As `of`."""
        return cls.of(files, (offset for offset, _ in files.values()), (size for _, size in files.values()))


def list_members(path: Path) -> dict[str, Members]:
    """List the files of each folder in a tar file; reads only its headers.

    Raises: InputError naming the file if it is compressed or damaged, or if a member is neither a file nor a
        folder, or would leave the folder.
    """
    folders: dict[str, Spans] = {}
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as shard:
            while (member := shard.next()) is not None:
                shard.members = []  # type: ignore[attr-defined]  # tarfile would keep all
                _add(folders, member, path, size)
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise TarError, ValueError, OverflowError, RecursionError ...
        foreign = "" if folders else recognize(path)
        reason = foreign or f"{' '.join(str(error).split())}; copy or make it again"
        raise InputError(f"{path}: expected an uncompressed tar file: {reason}") from error
    return {folder: Members.of_spans(files) for folder, files in folders.items()}


def _add(folders: dict[str, Spans], member: tarfile.TarInfo, path: Path, size: int) -> None:
    """Add a member to the files of its folder.

    Args:
        path, size: of the tar file.
    Raises: InputError if it cannot be read by its offset.
    """
    name = PurePosixPath(member.name)
    reason = ""
    if name.is_absolute() or ".." in name.parts:
        reason = "its path leaves the folder"
    elif member.issym() or member.islnk():
        reason = "it is a link"
    elif member.isdir():
        folders.setdefault(str(name), {})
        return
    elif not member.isreg() or member.issparse():
        reason = "it is a sparse file, a device or the like"
    elif member.size < 0 or member.offset_data + member.size > size:
        reason = "the tar file is cut off"
    elif name.name in folders.get(str(name.parent), {}):
        reason = "it is there twice"
    if reason:
        raise InputError(f"{path}: member '{member.name}': {reason}; make the shard again from regular files")
    folders.setdefault(str(name.parent), {})[name.name] = (member.offset_data, member.size)
