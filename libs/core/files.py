"""Files that appear only when they are complete, folders that one run has for itself, YAML that runs nothing.

Ground floor, like libs/core/structures.py and libs/core/masks.py: it knows of no engine, so that data sets, too, write and read by it.
"""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from libs.core.errors import FolderBusyError, InputError

LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp")  # by a run that was killed while it wrote; see temporary_name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Raises: InputError naming `path` where the disk does not take it.
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
            f"{path} cannot be written: {error.strerror or error}; nothing was changed, check space and permissions"
        ) from error


def temporary_name(path: Path, suffix: str = "") -> Path:
    """A hidden name beside `path`, whose folder is made; without a suffix no one takes it for a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{suffix}")


@contextmanager
def exclusive_run(folder: Path, *beside: Path) -> Iterator[None]:
    """Keep other runs out of `folder`; a lock of the operating system, which ends with the process, however it ends.

    What an earlier run that was killed has left half-written there is removed, also of the files `beside` that it makes elsewhere.
    Raises: FolderBusyError where another run is at work there; InputError where the folder cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
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
        lock.release()


def _left_behind(folder: Path, beside: tuple[Path, ...]) -> list[Path]:
    """In `folder` and the folders in it, but for those that are another run's."""
    own = [
        folder,
        *(entry for entry in folder.iterdir() if entry.is_dir() and not (entry / ".lock").exists()),
    ]
    found = [path for place in own for path in place.glob(".*.tmp*")]
    found += [path for file in beside for path in file.parent.glob(f".{glob.escape(file.name)}.*.tmp*")]
    return [path for path in found if LEFT_BEHIND.match(path.name)]


def parse_yaml(text: str) -> object:
    """Plain values, by safe_load.

    Raises: ValueError, in one line.
    """
    try:
        return yaml.safe_load(text)
    except Exception as error:  # odd tags make PyYAML raise KeyError, IndexError, AttributeError; deep nesting RecursionError
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
