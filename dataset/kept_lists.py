"""Lists of files that are kept between runs, in a JSON file.

A list is used as long as its folder or shard has the same stamp. Anyone may have written the file, so its
content is checked, and a damaged one is ignored.
"""

import json
import os
import time
import warnings
from operator import add
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

from dataset.tar_index import Members
from libs.core.errors import InputError
from libs.core.files import atomic_write

VERSION = 1  # of the format
SETTLED = 60.0  # seconds after a change of a folder in which another one may not change its times


class Stamp(NamedTuple):
    """What the file system says of a folder or shard. It changes with its content.

    mtime, ctime: in nanoseconds. If a program sets mtime back, ctime still changes.
    """

    size: int
    mtime: int
    ctime: int
    inode: int
    mode: int

    @classmethod
    def of(cls, path: str) -> "Stamp":
        """Ask the file system. Raises: OSError."""
        found = os.stat(path)
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)

    def is_settled(self) -> bool:
        """Whether the next change will show. Some file systems have no times of folders, and say 0."""
        return self.mtime > 0 and max(self.mtime, self.ctime) < (time.time() - SETTLED) * 1e9


class Folder(NamedTuple):
    """The names in a folder on disk."""

    stamp: Stamp
    names: tuple[str, ...]


class IndexedShard(NamedTuple):
    """The files in a tar shard, by folder."""

    stamp: Stamp
    folders: dict[str, Members]


class Lists(NamedTuple):
    """Absolute path of a folder or shard -> its content."""

    folders: dict[str, Folder]
    shards: dict[str, IndexedShard]


def read_lists(file: Path) -> Lists:
    """Read the lists of an earlier run; none if there are none.

    Warns if the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        if content["version"] != VERSION:
            return Lists({}, {})
        folders = {
            path: Folder(_stamp(stamp), _names(names)) for path, (stamp, names) in content["folders"].items()
        }
        return Lists(folders, {path: _shard(*entry) for path, entry in content["shards"].items()})
    except (FileNotFoundError, NotADirectoryError):
        return Lists({}, {})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(
            f"{file} does not hold lists of files ({reason}); it is ignored, and written again", stacklevel=2
        )
        return Lists({}, {})


def write_lists(file: Path, lists: Lists) -> None:
    """Write lists for a later run. Warns if they cannot be written."""
    content = {
        "version": VERSION,
        "folders": {path: (found.stamp, "/".join(found.names)) for path, found in lists.folders.items()},
        "shards": {
            path: (found.stamp, {folder: _plain(files) for folder, files in found.folders.items()})
            for path, found in lists.shards.items()
        },
    }
    try:
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="ascii")
    except InputError as error:
        warnings.warn(
            f"{error}; each run lists the files of the data set again: set index_cache to another folder, or "
            "to off",
            stacklevel=2,
        )


def _plain(files: Members) -> tuple[str, list[int], list[int]]:
    return "/".join(files.names), files.offsets.tolist(), files.sizes.tolist()


def _stamp(values: Any) -> Stamp:
    """Check and convert a stamp. Raises: ValueError or TypeError, as all functions below."""
    if not all(type(value) is int for value in values):
        raise ValueError("expected whole numbers")
    return Stamp(*values)


def _names(text: Any) -> tuple[str, ...]:
    """Split names. None of them can hold a slash, so none leads out of its folder but these two."""
    names = text.split("/") if text else []
    if {"", ".", ".."} & {*names}:
        raise ValueError("expected names of files")
    return tuple(map(intern, names))


def _shard(stamp: Any, folders: Any) -> IndexedShard:
    """Check and convert the content of a shard."""
    checked = _stamp(stamp)
    members = {}
    for folder, (text, offsets, sizes) in folders.items():
        files = Members.of(_names(text), offsets, sizes)
        inside = min((0, *files.offsets, *files.sizes)) == 0
        inside = inside and max(map(add, files.offsets, files.sizes), default=0) <= checked.size
        if not inside or not len(files.names) == len(files.offsets) == len(files.sizes):
            raise ValueError("expected places in the shard")
        members[folder] = files
    return IndexedShard(checked, members)
