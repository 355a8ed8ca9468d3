"""A folder that lies in tar shards: which files and folders it has, and where their bytes are."""

from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dataset.tar_index import Members
from libs.core.errors import InputError
from libs.core.file_list import Places
from libs.core.shards import Shard


class ShardedFolder:
    """What would lie below the folder `root`, which holds the shards, if all of them were unpacked there."""

    def __init__(self, root: Path, shards: Sequence[tuple[Shard, dict[str, Members]]]) -> None:
        """Join the shards.

        Args:
            shards: each with the files of each folder, whose path is relative to `root`.
        """
        self._root = root
        self._shards = shards
        self._inner: dict[str, set[str]] = defaultdict(set)  # folder -> names of the folders in it
        for path in {PurePosixPath(path) for _, folders in shards for path in folders}:
            while path.name:
                self._inner[str(path.parent)].add(path.name)
                path = path.parent

    def __contains__(self, folder: Path) -> bool:
        inside = self._path(folder)
        return inside in self._inner or any(inside in folders for _, folders in self._shards)

    def names(self, folder: Path) -> set[str]:
        """The names of the files and folders in a folder."""
        inside = self._path(folder)
        files = [folders[inside].names for _, folders in self._shards if inside in folders]
        return self._inner.get(inside, set()).union(*files)

    def places(self, folder: Path, names: Sequence[str]) -> Places:
        """Where files of a folder lie.

        Raises: InputError naming a file that several shards hold.
        """
        inside = self._path(folder)
        found: dict[str, tuple[int, int, int]] = {}
        holders = [(shard, folders[inside]) for shard, folders in self._shards if inside in folders]
        for number, (shard, files) in enumerate(holders):
            twice = found.keys() & set(files.names)
            if twice:
                name = min(twice)
                other = holders[found[name][0]][0]
                raise InputError(f"{other.path} and {shard.path} both hold {inside}/{name}; remove one")
            found.update(zip(files.names, zip([number] * len(files.names), files.offsets, files.sizes)))
        numbers, offsets, sizes = (array("q", [found[name][i] for name in names]) for i in range(3))
        return Places(tuple(shard for shard, _ in holders), numbers, offsets, sizes)

    def _path(self, folder: Path) -> str:
        return folder.relative_to(self._root).as_posix()
