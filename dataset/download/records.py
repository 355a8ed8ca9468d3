"""What earlier downloads left below root/<folder>/.download, and which release a folder holds.

Releases of a data set may share their folders, as LVOS and LVOS1 do. So the names hold the source and the
part: LVOS-val.new is being unpacked; LVOS-val.ready is complete and being moved into place; LVOS-val.json is
the record of a part that is in place.
"""

import shutil
from pathlib import Path

from dataset.download.addresses import SOURCES
from dataset.known import matching_releases
from libs.core.errors import InputError

WORK = ".download"  # below the folder of a set; data sets ignore hidden folders


def work_path(root: Path, key: str, name: str, suffix: str) -> Path:
    """A path for part `name` of the source `key`. `suffix`: new, ready or json."""
    return root / SOURCES[key].folder / WORK / f"{key}-{name}.{suffix}"


def check_release(root: Path, key: str, name: str) -> None:
    """Make sure that the folders of a part do not hold another release of its set.

    Raises: InputError naming the folder and both releases.
    """
    source = SOURCES[key]
    folders = [root / each for each in source.parts[name].targets.values() if (root / each).is_dir()]
    other = other_release(root, key, name)
    if other:
        raise InputError(
            f"{folders[0]} holds the release '{other}', and {key} is '{source.release}', which must not be "
            f"merged with it; move {folders[0]} away, or give another root"
        )


def other_release(root: Path, key: str, name: str) -> str:
    """The other release of its set that the folders of a part hold; '' if none is known to be there.

    The numbers of videos and objects decide. If they fit no release, as in an incomplete split, records do.
    """
    source = SOURCES[key]
    part = source.parts[name]
    if not source.release or not any((root / target).is_dir() for target in part.targets.values()):
        return ""
    fit = [{one.release for one in matching_releases(root, source.index, split)} for split in part.splits]
    for releases in fit:
        if releases and source.release not in releases:
            return min(releases)
    if {source.release} in fit:
        return ""
    recorded = [
        SOURCES[other].release
        for other, its_part in _others(key, name)
        if any(work_path(root, other, its_part, suffix).exists() for suffix in ("json", "ready"))
    ]
    return next(iter(recorded), "")


def forget_others(root: Path, key: str, name: str) -> None:
    """Remove the records of other releases of a part, whose folders the user has moved away."""
    for other, part in _others(key, name):
        work_path(root, other, part, "json").unlink(missing_ok=True)
        shutil.rmtree(work_path(root, other, part, "ready"), ignore_errors=True)


def _others(key: str, name: str) -> list[tuple[str, str]]:
    """Source and name of the parts of other sources that go to the same folders."""
    targets = set(SOURCES[key].parts[name].targets.values())
    return [
        (other, part)
        for other, source in SOURCES.items()
        for part, its in source.parts.items()
        if other != key and targets & set(its.targets.values())
    ]
