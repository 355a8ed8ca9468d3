"""List the files of a data set, collect its incomplete videos, and warn of files that are not used."""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from libs.core.errors import LISTED, InputError, counted, named
from libs.core.foreign_files import LFS_POINTER, POINTER_ADVICE
from libs.core.image_io import IMAGES
from libs.core.structures import VideoIndex

# Written by operating systems, storage devices and archive programs. Hidden files are ignored as well.
SYSTEM = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin"}
SYSTEM |= {"icon\r", "lost+found", "system volume information"}
T = TypeVar("T")


@dataclass(frozen=True)
class Incomplete:
    """A video of a data set that cannot be used, and the reason."""

    name: str
    reason: str


def index_all(names: Iterable[str], index: Callable[[str], VideoIndex]) -> list[VideoIndex | Incomplete]:
    """Index each video; one for which `index` raises an InputError is incomplete, and the others go on."""
    found: list[VideoIndex | Incomplete] = []
    for name in names:
        try:
            found.append(index(name))
        except InputError as error:
            found.append(Incomplete(name, str(error)))
    return found


def entries(folder: Path) -> list[Path]:
    """List a folder, sorted, without hidden files and files of the system.

    Raises: InputError if the folder cannot be read.
    """
    return [folder / name for name in sorted(_names(folder))]


def _names(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    return [name for name in names if not name.startswith(".") and name.casefold() not in SYSTEM]


def is_broken_link(path: Path) -> bool:
    """Whether the path is a link to nothing, or to itself."""
    return path.is_symlink() and not path.exists()


def list_images(where: Path) -> list[Path]:
    """List the image files of a folder in the order of the numbers in their names, 9 before 10.

    Hidden files are left out. A folder that does not exist has none.

    Raises: InputError if the folder cannot be read.
    """
    if not where.is_dir():
        return []
    return sorted((path for path in entries(where) if is_image(path)), key=numeric_order)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in IMAGES


def numeric_order(path: Path) -> tuple[list[str | int], str]:
    """Sort key: texts and numbers of the name alternate, so that each is compared with its own kind."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.stem))], path.name


def refuse_duplicates(where: Path, names: Iterable[str]) -> None:
    """Check that no name occurs twice, because results are saved under these names.

    Raises: InputError naming the first that does.
    """
    duplicates = [name for name, times in Counter(names).items() if times > 1]
    if duplicates:
        raise InputError(
            f"{where}: '{duplicates[0]}' is there twice, with different suffixes; rename or remove one"
        )


def read_annotation_text(path: Path, parse: Callable[[str], T]) -> T:
    """Read and parse a text file of a data set.

    Raises: InputError naming the file if it cannot be read or parsed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        if text.startswith(LFS_POINTER.decode()):
            raise InputError(f"{path}: {POINTER_ADVICE}")
        return parse(text)
    except (OSError, ValueError, RecursionError) as error:
        # UnicodeDecodeError and JSONDecodeError are ValueErrors.
        raise InputError(
            f"{path} cannot be read: {' '.join(str(error).split())}; download the data set's file again"
        ) from error


# ---- what is not used ----


def warn_of_incomplete(incomplete: Sequence[Incomplete], count: int) -> None:
    """Warn of the incomplete ones of `count` videos, with the reason of the first ten."""
    for video in incomplete[:LISTED]:
        warnings.warn(f"video '{video.name}' is left out: {video.reason}", stacklevel=2)
    others = [video.name for video in incomplete[LISTED:]]
    if others:
        warnings.warn(f"{len(incomplete)} of {count} videos are left out, also {named(others)}", stacklevel=2)


def warn_of_others(images: Path, masks: Path, videos: Collection[str], reason: str) -> None:
    """Warn of the entries of the folders of all frames and all masks that belong to no video.

    Args:
        videos: names of the entries of `images` that are videos.
        reason: why its other entries are none.
    """
    others = [path for path in entries(images) if path.name not in videos] if images.is_dir() else []
    _warn(images, others, "entry", reason)
    if masks.is_dir():
        known = {*videos, *(Path(name).stem for name in videos), *(path.name for path in others)}
        _warn(
            masks,
            [path for path in entries(masks) if path.name not in known],
            "entry",
            "without a video of that name",
        )


def warn_of_unused(root: Path, videos: Collection[VideoIndex], with_masks: bool = True) -> None:
    """Warn of what lies in the folders of the videos' frames and masks and is not used.

    Args:
        with_masks: False if the masks are single files, whose folders hold other things.
    """
    folders = [video.frames for video in videos if is_image(video.frames[0])]
    _warn_of_mixed_names(root, folders)
    frames = _by_folder(path for files in folders for path in files)
    masks: dict[str, set[str]] = {}
    if with_masks:
        files = [path for video in videos for _, path in video.mask_files()]
        objects = {f.parent for v in videos for each in v.object_masks.values() for f in each.values()}
        masks = _by_folder([*files, *objects])
    others = [
        Path(folder, name)
        for folder in sorted({*frames, *masks})
        for name in sorted({*_names(Path(folder))} - frames.get(folder, set()) - masks.get(folder, set()))
    ]
    inside = [path for path in others if path.is_dir() and not is_image(path)]
    _warn(root, inside, "folder", "inside the folder of a video")
    kind = f"not an image ({', '.join(IMAGES)})"
    _warn(root, [path for path in others if not path.is_dir() and not is_image(path)], "file", kind)
    unmatched = [path for path in others if is_image(path) and str(path.parent) not in frames]
    _warn(root, unmatched, "mask", "without a frame of that name")


def _warn_of_mixed_names(root: Path, videos: Iterable[Sequence[Path]]) -> None:
    """Warn of frames whose names differ in more than a number: one of them may be a mask or a preview."""
    mixed = []
    for frames in videos:
        kinds = {re.sub(r"\d+", "0", frame.stem): frame for frame in frames}
        if len(kinds) > 1:
            mixed.append([os.path.relpath(frame, root) for frame in kinds.values()])
    if mixed:
        warnings.warn(
            f"{root}: {counted(len(mixed), 'video')} with frames named in several ways, all of which count "
            f"as frames, in the order of their names: {named(mixed[0], 3)}",
            stacklevel=3,
        )


def _by_folder(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Folder -> names of its entries among `paths`; as texts, which are fast for many files."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        folder, name = os.path.split(path)
        found[folder].add(name)
    return found


def _warn(root: Path, paths: Sequence[Path], noun: str, reason: str) -> None:
    """Warn once of all paths that are left out for the same reason."""
    if paths:
        names = (os.path.relpath(path, root) for path in paths[: LISTED + 1])
        warnings.warn(f"{root}: {counted(len(paths), noun)} left out, {reason}: {named(names)}", stacklevel=3)
