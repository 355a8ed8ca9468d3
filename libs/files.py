"""Files that appear only when they are complete, folders that one run has for itself, YAML that runs nothing.

Ground floor, like libs/structures.py and libs/masks.py: it knows of no engine, so that data sets, too, write and read by it.
"""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from libs.structures import InputError


class FolderBusyError(InputError):
    """Another run holds the lock of a folder."""


LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp")  # by a run that was killed while it wrote; see temporary_name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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
    except OSError as fault:
        raise InputError(
            f"{path} cannot be written: {fault.strerror or fault}; nothing was changed, check space and permissions"
        ) from fault


def temporary_name(path: Path, suffix: str = "") -> Path:
    """A hidden name beside `path`, whose folder is made; without a suffix no one takes it for a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{suffix}")


@contextmanager
def only_run(folder: Path, *beside: Path) -> Iterator[None]:
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
    except Timeout as fault:
        raise FolderBusyError(
            f"{folder}: another run is writing there; wait for its end, or give another folder"
        ) from fault
    except OSError as fault:
        raise InputError(
            f"{folder} cannot be written: {fault.strerror or fault}; give another folder"
        ) from fault
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
    except Exception as fault:  # odd tags make PyYAML raise KeyError, IndexError, AttributeError; deep nesting RecursionError
        raise ValueError(" ".join(str(fault).split()) or type(fault).__name__) from fault
