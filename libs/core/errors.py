"""Errors caused by inputs, files or folders, not by bugs; and how their messages name many things."""

from collections.abc import Iterable

LOADER_DIED = (
    "key 'workers': a loader process died, most likely because memory ran out; lower workers or free memory; "
    "`resume auto` resumes from the last checkpoint"
)


class InputError(Exception):
    """An input is wrong. The message is one line: the file or key, what was expected, and what to do."""


class UnreadableError(InputError):
    """A frame or mask cannot be read. Its video fails; other videos continue."""


class FolderBusyError(InputError):
    """Another run holds the lock of a folder."""


LISTED = 10  # names of a long list that a message shows


def named(names: Iterable[object], most: int = LISTED) -> str:
    """Join names with commas; of a long list, the first ones and '...'."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (" ..." if len(texts) > most else "")


def counted(number: int, noun: str) -> str:
    """Put a number before a noun: '1 mask', '2 masks', '2 entries'."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"
