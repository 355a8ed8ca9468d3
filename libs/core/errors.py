"""Errors of what lies outside the code: inputs, files, folders."""

LOADER_DIED = (
    "key 'workers': a loader process died, as it does where memory runs out; lower workers, or free memory; "
    "`resume auto` goes on from the last checkpoint"
)


class InputError(Exception):
    """Something outside the code is wrong: one line that names the file or key, what was expected and what to do."""


class UnreadableError(InputError):
    """The same of a frame or mask: what does not depend on it can go on."""


class FolderBusyError(InputError):
    """Another run holds the lock of a folder."""
