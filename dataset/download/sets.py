"""Download the parts of a data set: fetch, check, unpack and place each; go on where an earlier run stopped.

Archives lie in root/downloads, each that was downloaded with a note beside it; records.py says what lies
below root/<folder>/.download.
"""

import json
import os
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dataset.download import fetch
from dataset.download.addresses import DRIVE_FOLDER, SOURCES, Part, Source, choose_parts, find_key
from dataset.download.checksum import hash_file
from dataset.download.place import arrange, place
from dataset.download.records import WORK, check_release, forget_others, other_release, work_path
from dataset.download.unpack import unpack
from dataset.known import is_complete
from dataset.lvos import meta_file
from libs.core.errors import InputError, counted, named
from libs.core.files import atomic_write, exclusive_run

ARCHIVES = "downloads"  # below root
TIMEOUT = 60  # seconds without an answer


def download_set(
    root: Path, name: str, parts: Sequence[str] = (), keep: bool = False, again: bool = False
) -> None:
    """Download parts of a data set; a part that is there is left out. If one fails, the others go on.

    Args:
        parts: their names in dataset/download/addresses.py; none: those that most users need.
        keep: keep the archives after they are unpacked.
        again: also download parts that are there; archives are downloaded anew, unless they were put there
            by hand.
    Raises: InputError saying which parts failed, and what to do.
    """
    key = find_key(name)
    source = SOURCES[key]
    chosen = choose_parts(source, parts)
    print(f"{source.folder}: terms of use and citation are at {source.page}", flush=True)
    failures = []
    with exclusive_run(root / source.folder / WORK):
        for part in chosen:
            try:
                _get_part(root, key, part, keep, again)
            except InputError as error:
                failures.append(f"{part}: {error}")
        _get_lists(root, key)
        with suppress(OSError):  # other archives are in it, or there is no such folder
            (root / ARCHIVES).rmdir()
    if failures:
        raise InputError("; ".join(failures))


def _get_part(root: Path, key: str, name: str, keep: bool, again: bool) -> None:
    """Download one part and put it into place."""
    source = SOURCES[key]
    part = source.parts[name]
    record, ready = work_path(root, key, name, "json"), work_path(root, key, name, "ready")
    check_release(root, key, name)
    archive = root / ARCHIVES / part.file.name
    if not ready.exists():
        if not again and _is_there(root, source, name, record):
            return
        record.unlink(missing_ok=True)
        if again and _was_downloaded(archive):
            _remove(archive)
        _get_archive(archive, part, source.page)
        _prepare(archive, part, work_path(root, key, name, "new"), ready)
    stay: list[str] = []
    for target in part.targets.values():
        if (ready / target).is_dir():
            stay += place(ready / target, root / target)
    if stay:
        warnings.warn(
            f"{source.folder}: {counted(len(stay), 'file')} left out, as there are others of that name: "
            f"{named(stay)}",
            stacklevel=3,
        )
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps({"file": part.file.name, "addresses": part.file.addresses}))
    shutil.rmtree(ready)
    forget_others(root, key, name)
    if not keep:
        _remove(archive)
    print(f"{source.folder}: {name} is in {', '.join(str(root / each) for each in part.targets.values())}")


def _is_there(root: Path, source: Source, name: str, record: Path) -> bool:
    """Whether a part need not be downloaded; says so."""
    if is_complete(root, source.index, source.parts[name].splits):
        print(f"{source.folder}: {name} is there and complete; nothing to download (--again downloads it)")
        return True
    if record.exists():
        print(
            f"{source.folder}: {name} was downloaded before; `python3 -m dataset.check` says whether it is "
            "complete (--again downloads it)"
        )
        return True
    return False


def _get_archive(archive: Path, part: Part, page: str) -> None:
    """Download the archive of a part, unless it is there.

    Raises: InputError; if only a browser can fetch it, with what to put where.
    """
    if part.by_hand and not archive.exists():
        raise InputError(
            f"this part can only be had with a browser: open {part.by_hand} (terms of use: {page}), save the "
            f"archive as {archive}, and run this command again, which unpacks it"
        )
    was_there = archive.exists()
    fetch.fetch(part.file, archive.parent, page)
    if not was_there:
        with atomic_write(_mark(archive)) as temporary:
            temporary.write_text(_identity(archive))


def _was_downloaded(archive: Path) -> bool:
    """Whether an archive is the one that was downloaded, not one that the user put there."""
    with suppress(FileNotFoundError):
        return _mark(archive).read_text() == _identity(archive)
    return False


def _identity(archive: Path) -> str:
    """What tells an archive from another one of its name."""
    found = archive.stat()
    return f"{found.st_size} bytes, changed at {found.st_mtime_ns} ns\n"


def _mark(archive: Path) -> Path:
    """The note beside an archive that was downloaded."""
    return archive.with_name(f"{archive.name}.downloaded")


def _remove(archive: Path) -> None:
    """Remove an archive. Its note goes last."""
    archive.unlink(missing_ok=True)
    _mark(archive).unlink(missing_ok=True)


def _prepare(archive: Path, part: Part, new: Path, ready: Path) -> None:
    """Unpack an archive, and the archives in it. The folder `ready` appears when it is complete."""
    shutil.rmtree(new, ignore_errors=True)  # an earlier run was interrupted
    try:
        count = unpack(archive, new / "tree")
        for name, digest in part.inner.items():
            count += _unpack_inner(new / "tree", name, digest, archive)
        arrange(new / "tree", part, new / "layout")
        os.rename(new / "layout", ready)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    print(f"{archive.name}: {counted(count, 'file')} unpacked", flush=True)


def _unpack_inner(tree: Path, name: str, digest: str, archive: Path) -> int:
    """Check and unpack an archive within an archive, and remove it. Returns: how many files were written."""
    found = sorted(tree.rglob(name))
    if len(found) != 1:
        raise InputError(f"{archive}: expected {name} in it, found {len(found)} of that name")
    kind, _, expected = digest.partition(":")
    if hash_file(found[0], {kind})[kind] != expected:
        raise InputError(
            f"{archive}: wrong {kind} of {name} in it, expected {expected}; remove {archive.name} and "
            "run this command again"
        )
    count = unpack(found[0], found[0].with_name(f"{name}.unpacked"))
    found[0].unlink()
    return count


def _get_lists(root: Path, key: str) -> None:
    """Download the small files beside the archives; warn of those that cannot be had."""
    source = SOURCES[key]
    if not any(
        (root / target).is_dir() for part in source.parts.values() for target in part.targets.values()
    ):
        return
    for place_below, file in source.lists.items():
        target = root / place_below
        if not target.exists():
            try:
                os.replace(fetch.fetch(file, root / source.folder / WORK, source.page), target)
            except InputError as error:
                warnings.warn(f"{error}; its place is {target}", stacklevel=3)
    if source.list_folder:
        _get_meta_files(root, key)


def _get_meta_files(root: Path, key: str) -> None:
    """Download the meta files of LVOS that are not there; warn of those that cannot be had."""
    source = SOURCES[key]
    own = [part for name, part in source.parts.items() if not other_release(root, key, name)]
    folders = [root / target for part in own for target in part.targets.values()]
    lacking = [folder for folder in folders if folder.is_dir() and not _has_meta_file(folder)]
    if not lacking:
        return
    scratch, reason = root / source.folder / WORK / "lists.new", ""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        reason = _download_folder(source.list_folder, scratch)
        for folder in lacking:
            names = (f"{folder.name}_meta.json", *(("valid_meta.json",) if folder.name == "val" else ()))
            found = [path for name in names for path in sorted(scratch.rglob(name))]
            if found:
                os.replace(found[0], folder / found[0].name)
                continue
            warnings.warn(
                f"{folder}: {names[0]} could not be downloaded{reason}; download it from "
                f"{DRIVE_FOLDER}{source.list_folder} with a browser and save it as {folder / names[0]}",
                stacklevel=4,
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _has_meta_file(folder: Path) -> bool:
    try:
        return bool(meta_file(folder))
    except InputError:
        return False


def _download_folder(number: str, into: Path) -> str:
    """Download a folder of small files at Google Drive. Returns: why it failed, '' if it did not."""
    import gdown  # here, because few runs need it

    into.mkdir(parents=True)
    try:
        gdown.download_folder(id=number, output=f"{into}/", quiet=True, use_cookies=False, timeout=TIMEOUT)
    except (gdown.exceptions.DownloadError, OSError, ValueError, AttributeError) as error:
        return f" ({type(error).__name__})"
    return ""
