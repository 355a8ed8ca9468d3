"""Errors caused by inputs, files or folders, not by bugs."""

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
