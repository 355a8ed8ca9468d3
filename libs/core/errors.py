"""Errors in what lies outside the code: inputs, files, folders."""

LOADER_DIED = (
    "key 'workers': a loader process died, most likely because memory ran out; lower workers or free memory; "
    "`resume auto` resumes from the last checkpoint"
)


class InputError(Exception):
    """An input is wrong. The message is one line: the file or key, what was expected, and what to do."""


class UnreadableError(InputError):
    """A frame or mask is wrong: its video fails, and other videos can go on."""


class FolderBusyError(InputError):
    """Another run holds the lock of a folder."""
