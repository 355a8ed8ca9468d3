"""Write files whole or not at all, lock folders, parse YAML safely."""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from libs.core.errors import FolderBusyError, InputError

LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp")  # by a run that was killed while it wrote; see temporary_name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`. It replaces `path` if the block succeeds, else it is removed.

    Raises: InputError naming `path` if it cannot be written.
    """
    try:
        temporary = temporary_name(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}; nothing was changed, "
            "check space and permissions"
        ) from error


def temporary_name(path: Path, suffix: str = "") -> Path:
    """A hidden name beside `path`, whose folder is created.

    It has no suffix of an image unless one is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{suffix}")


@contextmanager
def exclusive_run(folder: Path, *beside: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder`, which the operating system releases when the process ends.

    Temporary files that a killed run left in the folder are removed, also those of the files `beside`, which
    the run writes elsewhere. A folder that did not exist and in which nothing was written is removed again.

    Raises: FolderBusyError if another run holds the lock; InputError if the folder cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        for path in _left_behind(folder, beside):
            path.unlink(missing_ok=True)
    except Timeout as error:
        raise FolderBusyError(
            f"{folder}: another run is writing there; wait for its end, or give another folder"
        ) from error
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}; give another folder"
        ) from error
    try:
        yield
    finally:
        _remove_unused(created)  # while it is locked, so that it is not removed under another run
        lock.release()


def _remove_unused(folders: list[Path]) -> None:
    """Remove folders, each inside the next one, as far as they hold nothing but the lock of the first."""
    with suppress(OSError):  # something else has been written into one of them
        if folders and os.listdir(folders[0]) == [".lock"]:
            (folders[0] / ".lock").unlink()
            for folder in folders:
                folder.rmdir()


def remove_left_behind(folder: Path) -> None:
    """Remove the temporary files that a killed run left in one folder."""
    for path in folder.glob(".*.tmp*"):
        if LEFT_BEHIND.match(path.name):
            path.unlink(missing_ok=True)


def _left_behind(folder: Path, beside: tuple[Path, ...]) -> list[Path]:
    """Temporary files in `folder` and its subfolders, except for subfolders that have a lock of their own."""
    own = [
        folder,
        *(entry for entry in folder.iterdir() if entry.is_dir() and not (entry / ".lock").exists()),
    ]
    found = [path for place in own for path in place.glob(".*.tmp*")]
    found += [path for file in beside for path in file.parent.glob(f".{glob.escape(file.name)}.*.tmp*")]
    return [path for path in found if LEFT_BEHIND.match(path.name)]


def parse_yaml(text: str) -> object:
    """Parse YAML that holds plain values only; nothing in it is run.

    Raises: ValueError, in one line.
    """
    try:
        return yaml.safe_load(text)
    except Exception as error:
        # Odd tags make PyYAML raise KeyError, IndexError or AttributeError, deep nesting RecursionError.
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
