"""Tar shards: files of a data set packed into uncompressed tar files, and read by their offsets.

The members have the paths that the files have below the folder that holds the shards. So `tar xf` gives the
folder back, and `tar cf` makes a shard.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath

from libs.core.errors import UnreadableError


@dataclass(frozen=True)
class Shard:
    """A tar file; its size and time of change show whether it is still the one that was indexed."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class TarMember:
    """A file in a shard. It has those attributes and methods of a Path that readers of images use.

    folder: that would hold the file if the shard were unpacked where it lies.
    """

    folder: Path
    name: str
    shard: Shard
    offset: int
    size: int

    def __str__(self) -> str:
        shard = self.shard.path
        return str(shard / self.folder.relative_to(shard.parent) / self.name)

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot on."""
        return PurePath(self.name).suffix

    @property
    def parents(self) -> Sequence[Path]:
        """`folder`, and the folders around it."""
        return (self.folder, *self.folder.parents)

    def is_file(self) -> bool:
        """Whether it is a file, as it always is."""
        return True

    def open(self, mode: str = "rb") -> BytesIO:
        """Open the file to be read; its bytes are in memory."""
        return BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Read the file. Processes and threads may read the same shard at the same time.

        Raises: UnreadableError naming the shard if it was changed since it was indexed; OSError.
        """
        shard = os.open(self.shard.path, os.O_RDONLY)
        try:
            stat = os.fstat(shard)
            if (stat.st_size, stat.st_mtime_ns) != (self.shard.size, self.shard.mtime_ns):
                raise UnreadableError(f"{self.shard.path} was changed while it was in use; start again")
            content = os.pread(shard, self.size, self.offset)
        finally:
            os.close(shard)
        if len(content) < self.size:
            raise OSError(f"{self.shard.path} ends within this file")
        return content


File = Path | TarMember  # an image file on disk, or in a shard


def size_and_time(file: File) -> tuple[int, int]:
    """Size of a file in bytes, and when it, or its shard, was changed, in nanoseconds. Raises: OSError."""
    if isinstance(file, TarMember):
        return file.size, file.shard.mtime_ns
    found = file.stat()
    return found.st_size, found.st_mtime_ns
