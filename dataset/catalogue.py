"""The names of the files of a data set. Each folder is listed once; the lists of large sets are kept.

A kept list of a folder is used if the folder has not changed since: a file that is added, removed or renamed
changes the folder's times. So a later run asks for the times of each folder, and lists and opens none.

A set may also lie in tar shards (libs/core/shards.py). Of a shard, the places of its files are kept.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from sys import intern

from dataset.kept_lists import Folder, IndexedShard, Lists, Stamp, read_lists, write_lists
from dataset.sharded import ShardedFolder
from dataset.tar_index import list_members
from libs.core.file_list import FileList
from libs.core.shards import Shard

# Written by operating systems, storage devices and archive programs. Hidden files are ignored as well.
SYSTEM = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin"}
SYSTEM |= {"icon\r", "lost+found", "system volume information"}
SHARD = ".tar"
CHECKPOINT = ".pth.tar"  # the suffix of checkpoints, which are no tar files
LARGE = 20_000  # files of a set from which on its lists are kept
THREADS = 16  # that wait for the file system


class Catalogue:
    """The names in the folders of a data set. Each folder is listed once.

    A folder lies in shards if it is not on disk, and if the nearest folder around it that is on disk holds
    tar files.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Read the lists of an earlier run.

        Args:
            file: where lists are kept; None keeps none.
        """
        self._file = file
        self._kept = read_lists(file) if file else Lists({}, {})
        self._lists = Lists({}, {})  # of this run
        self._stamps = _ask_all([*self._kept.folders, *self._kept.shards])
        self._unsettled: set[str] = set()
        self._around: dict[Path, ShardedFolder | None] = {}  # folder -> shards in it or around it
        self._absent: set[Path] = set()  # folders in shards

    def names(self, folder: Path) -> list[str]:
        """The sorted names in a folder, without hidden files and files of the system.

        Raises: OSError if it does not exist or cannot be read; InputError if it is in a damaged shard.
        """
        if folder.parent not in self._absent:
            try:
                return list(self._list(os.path.abspath(folder)).names)
            except (FileNotFoundError, NotADirectoryError):
                if not self._shards_with(folder):
                    raise
        sharded = self._shards_with(folder)
        if not sharded:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        return _visible(sharded.names(folder))

    def is_folder(self, path: Path) -> bool:
        """Whether a folder is on disk or in shards.

        Raises: InputError if it may be in a damaged shard.
        """
        if path.parent not in self._absent:
            with suppress(OSError, ValueError):  # ValueError: a list may name a video with a null character
                return stat.S_ISDIR(self._stamp(os.path.abspath(path)).mode)
        return self._shards_with(path) is not None

    def files(self, folder: Path, names: Iterable[str]) -> FileList:
        """List files of a folder, of which `names` says the names.

        Raises: InputError naming a file that several shards hold.
        """
        names = tuple(map(intern, names))
        sharded = None if os.path.abspath(folder) in self._lists.folders else self._shards_with(folder)
        return FileList(folder, names, sharded.places(folder, names) if sharded else None)

    def keep(self) -> None:
        """Keep the lists of a large set for later runs."""
        if self._file and self._count() >= LARGE:
            settled = Lists(
                {path: found for path, found in self._lists.folders.items() if path not in self._unsettled},
                {path: found for path, found in self._lists.shards.items() if path not in self._unsettled},
            )
            if settled != self._kept:
                write_lists(self._file, settled)

    def _count(self) -> int:
        """Number of names in the folders, also in those in shards."""
        count = sum(len(folder.names) for folder in self._lists.folders.values())
        for shard in self._lists.shards.values():
            count += sum(len(files.names) for files in shard.folders.values())
        return count

    def _stamp(self, path: str) -> Stamp:
        if path not in self._stamps:
            self._stamps[path] = Stamp.of(path)
        return self._stamps[path]

    def _list(self, path: str) -> Folder:
        """List a folder on disk, or take the kept list. Raises: OSError."""
        if path not in self._lists.folders:
            # Ask for the stamp first: if the folder changes meanwhile, its list is not used again.
            stamp, kept = self._stamp(path), self._kept.folders.get(path)
            if kept is None or kept.stamp != stamp:
                kept = Folder(stamp, tuple(map(intern, _visible(os.listdir(path)))))
                self._note(path, stamp)
            self._lists.folders[path] = kept
        return self._lists.folders[path]

    def _index(self, path: str) -> IndexedShard:
        """List the files in a shard, or take the kept list. Raises: OSError; InputError naming the shard."""
        if path not in self._lists.shards:
            stamp, kept = self._stamp(path), self._kept.shards.get(path)
            if kept is None or kept.stamp != stamp:
                kept = IndexedShard(stamp, list_members(Path(path)))
                self._note(path, stamp)
            self._lists.shards[path] = kept
        return self._lists.shards[path]

    def _note(self, path: str, stamp: Stamp) -> None:
        """Note that a list is new; it is not kept if the next change of its folder may not show."""
        if not stamp.is_settled():
            self._unsettled.add(path)

    def _shards_with(self, folder: Path) -> ShardedFolder | None:
        """The shards that hold a folder that is not on disk."""
        sharded = self._shards_around(folder)
        if sharded is None or folder not in sharded:
            return None
        self._absent.add(folder)
        return sharded

    def _shards_around(self, path: Path) -> ShardedFolder | None:
        """The shards in the nearest folder around a path that is on disk."""
        parent = path.parent
        if parent not in self._around:
            on_disk = parent not in self._absent and parent.is_dir()
            self._around[parent] = self._open_shards(parent) if on_disk else self._shards_around(parent)
        return self._around[parent]

    def _open_shards(self, root: Path) -> ShardedFolder | None:
        """Join the shards in a folder; None if it holds none."""
        shards = []
        for name in self.names(root):
            if name.lower().endswith(SHARD) and not name.lower().endswith(CHECKPOINT):
                found = self._index(os.path.abspath(root / name))
                shards.append((Shard(root / name, found.stamp.size, found.stamp.mtime), found.folders))
        return ShardedFolder(root, shards) if shards else None


_open: list[Catalogue] = []  # those of the blocks of `catalogued`; the innermost one counts


@contextmanager
def catalogued(file: Path | None = None) -> Iterator[None]:
    """Within the block, list each folder once. A block inside another one uses its catalogue.

    Args:
        file: where lists are kept between runs, see `list_file`.
    """
    if _open:
        yield
        return
    _open.append(Catalogue(file))
    try:
        yield
        _open[-1].keep()
    finally:
        _open.pop()


def catalogue() -> Catalogue:
    """The catalogue of the block; outside of one, an empty one."""
    return _open[-1] if _open else Catalogue()


def list_file(cache: Path | None, root: Path, *names: str) -> Path | None:
    """The file in which the lists of one set and split are kept, in the folder `cache`."""
    if cache is None:
        return None
    digest = hashlib.sha256("\n".join((os.path.abspath(root), *names)).encode("utf-8", "surrogateescape"))
    return cache / "index" / f"{digest.hexdigest()[:20]}.json"


def _visible(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(".") and name.casefold() not in SYSTEM)


def _ask_all(paths: list[str]) -> dict[str, Stamp]:
    """The stamps of those paths that exist. Threads ask side by side, as a file server takes its time."""

    def ask(some: list[str]) -> dict[str, Stamp]:
        """Those of some paths."""
        found = {}
        for path in some:
            with suppress(OSError):
                found[path] = Stamp.of(path)
        return found

    if not paths:
        return {}
    with ThreadPoolExecutor(THREADS) as threads:
        parts = threads.map(ask, (paths[i::THREADS] for i in range(THREADS)))
        return {path: stamp for part in parts for path, stamp in part.items()}
