"""Partial downloads: <name>.part, and a note beside it.

The note keeps which file of the server it is the beginning of: ETag or date, and size.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from libs.core.files import atomic_write


@dataclass(frozen=True)
class Begun:
    """Which file of the server a partial download is the beginning of; size 0: not known."""

    address: str
    etag: str
    modified: str
    size: int

    @property
    def validator(self) -> str:
        """What a server compares to tell that its file is still the same one; '' if it gave nothing."""
        return self.modified if self.etag.startswith("W/") or not self.etag else self.etag


def note(part: Path) -> Path:
    """The path of the note beside a partial download."""
    return part.with_name(f"{part.name}.json")


def read_note(part: Path, address: str) -> Begun | None:
    """What a partial download is the beginning of; None if there is none, or one from another address."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        begun = Begun(**json.loads(note(part).read_text(encoding="utf-8")))
        if begun.address == address and isinstance(begun.size, int) and part.exists():
            return begun
    return None


def write_note(part: Path, begun: Begun) -> None:
    """Keep what a partial download is the beginning of."""
    with atomic_write(note(part)) as temporary:
        temporary.write_text(json.dumps(asdict(begun)), encoding="utf-8")


def forget(part: Path) -> None:
    """Remove a partial download. The note goes last: it must never describe the bytes of another file."""
    part.unlink(missing_ok=True)
    note(part).unlink(missing_ok=True)


def size_of(part: Path) -> int:
    """Bytes that have arrived."""
    return part.stat().st_size if part.exists() else 0
