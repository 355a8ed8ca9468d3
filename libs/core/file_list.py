"""Lists of image files that hold little memory: one folder, and the names of its files.

A path takes ten times the memory of a name that many folders have in common. A large data set has 200,000
files, and each process of a run has a copy of the lists.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from libs.core.shards import File, Shard, TarMember


@dataclass(frozen=True)
class Places:
    """Where the files of a folder lie in tar shards.

    shards: all that hold files of the folder.
    numbers, offsets, sizes: of each file, the number of its shard in `shards`, and its bytes there.
    """

    shards: tuple[Shard, ...]
    numbers: array
    offsets: array
    sizes: array

    def member(self, index: int, folder: Path, name: str) -> TarMember:
        """The file with this number; for `folder`, see TarMember."""
        shard = self.shards[self.numbers[index]]
        return TarMember(folder, name, shard, self.offsets[index], self.sizes[index])

    def take(self, chosen: Sequence[int]) -> "Places":
        """The places of some files."""
        numbers, offsets, sizes = (
            array(values.typecode, [values[i] for i in chosen])
            for values in (self.numbers, self.offsets, self.sizes)
        )
        return Places(self.shards, numbers, offsets, sizes)


@dataclass(frozen=True)
class FileList(Sequence[File]):
    """Files of one folder, whose paths are made when they are asked for.

    places: None if the folder is on disk.
    """

    folder: Path
    names: tuple[str, ...]
    places: Places | None = None

    @overload
    def __getitem__(self, index: int) -> File: ...

    @overload
    def __getitem__(self, index: slice) -> "FileList": ...

    def __getitem__(self, index: int | slice) -> "File | FileList":
        if isinstance(index, slice):
            return self.take(range(len(self.names))[index])
        name = self.names[index]
        return self.folder / name if self.places is None else self.places.member(index, self.folder, name)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: Sequence[int]) -> "FileList":
        """The files with these numbers, in this order."""
        names = tuple(self.names[i] for i in chosen)
        return FileList(self.folder, names, self.places and self.places.take(chosen))


@dataclass(frozen=True, eq=False)
class FileMap(Mapping[int, File]):
    """Position of a frame -> its file; files[i] is that of the frame at positions[i]."""

    files: FileList
    positions: Sequence[int]

    @classmethod
    def of(cls, files: FileList, numbers: Mapping[int, int]) -> "FileMap":
        """Position of a frame -> number of its file in `files`; the other files are left out."""
        if list(numbers) == list(numbers.values()) == list(range(len(files))):
            return cls(files, range(len(files)))  # each frame has a file, as in training sets
        return cls(files.take(list(numbers.values())), tuple(numbers))

    def __getitem__(self, position: int) -> File:
        try:
            return self.files[self.positions.index(position)]
        except ValueError:
            raise KeyError(position) from None

    def __contains__(self, position: object) -> bool:
        return position in self.positions

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def stems(files: Iterable[File]) -> list[str]:
    """Names without suffix; of a FileList without making its paths."""
    if isinstance(files, FileList):
        return [stem_of(name) for name in files.names]
    return [file.stem for file in files]


def stem_of(name: str) -> str:
    """The name of a file without its suffix, as Path.stem."""
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name
