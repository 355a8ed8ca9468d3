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
        self._holders: dict[str, list[tuple[Shard, Members]]] = defaultdict(list)  # of the files of a folder
        self._inner: dict[str, set[str]] = defaultdict(set)  # folder -> names of the folders in it
        for shard, folders in shards:
            for folder, files in folders.items():
                self._holders[folder].append((shard, files))
        for path in map(PurePosixPath, self._holders):
            while path.name and path.name not in self._inner[str(path.parent)]:
                self._inner[str(path.parent)].add(path.name)
                path = path.parent

    def __contains__(self, folder: Path) -> bool:
        inside = self._path(folder)
        return inside in self._holders or inside in self._inner

    def names(self, folder: Path) -> set[str]:
        """The names of the files and folders in a folder."""
        inside = self._path(folder)
        files = [files.names for _, files in self._holders.get(inside, [])]
        return self._inner.get(inside, set()).union(*files)

    def places(self, folder: Path, names: Sequence[str]) -> Places:
        """Where files of a folder lie.

        Raises: InputError naming a file that several shards hold.
        """
        inside = self._path(folder)
        holders = self._holders.get(inside, [])
        if len(holders) == 1 and tuple(names) == holders[0][1].names:  # as in shards that are made in order
            ((shard, files),) = holders
            return Places((shard,), array("q", bytes(8 * len(names))), files.offsets, files.sizes)
        found: dict[str, tuple[int, int, int]] = {}
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
