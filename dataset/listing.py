"""List the files of a data set, collect its incomplete videos, and warn of files that are not used."""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dataset.catalogue import catalogue
from libs.core.errors import LISTED, InputError, counted, named
from libs.core.file_list import FileList, FileMap, stem_of, stems
from libs.core.foreign_files import LFS_POINTER, POINTER_ADVICE
from libs.core.image_io import IMAGES
from libs.core.shards import File
from libs.core.structures import VideoIndex

DIGITS = re.compile(r"(\d+)")
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
    return [folder / name for name in _names(folder)]


def _names(folder: Path) -> list[str]:
    try:
        return catalogue().names(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, on disk or in tar shards.

    Raises: InputError if it may be in a damaged shard.
    """
    return catalogue().is_folder(path)


def is_broken_link(path: Path) -> bool:
    """Whether the path is a link to nothing, or to itself."""
    return path.is_symlink() and not path.exists()


def list_images(where: Path) -> FileList:
    """List the image files of a folder in the order of the numbers in their names, 9 before 10.

    Hidden files are left out. A folder that does not exist has none.

    Raises: InputError if the folder cannot be read.
    """
    if not is_folder(where):
        return FileList(where, ())
    names = [name for name in _names(where) if name.lower().endswith(IMAGES)]
    return catalogue().files(where, in_numeric_order(names))


def is_image(path: File) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in IMAGES


def in_numeric_order(names: list[str]) -> list[str]:
    """Sort names of files; texts and numbers alternate, so that each is compared with its own kind."""
    parts = list(map(stem_of, names))
    if len(set(map(len, parts))) == 1 and are_numbers(parts):
        return sorted(names)  # saves taking the names apart

    def key(name: str) -> tuple[list[str | int], str]:
        """Parts of the name."""
        return [int(part) if i % 2 else part for i, part in enumerate(DIGITS.split(stem_of(name)))], name

    return sorted(names, key=key)


def are_numbers(texts: Iterable[str]) -> bool:
    """Whether all texts consist of the digits 0 to 9."""
    joined = "".join(texts)
    return joined.isascii() and joined.isdecimal()


def refuse_duplicates(where: Path, names: Iterable[str]) -> None:
    """Check that no name occurs twice, because results are saved under these names.

    Raises: InputError naming the first that does.
    """
    names = list(names)
    if len(set(names)) == len(names):
        return
    duplicates = [name for name, times in Counter(names).items() if times > 1]
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
    others = [path for path in entries(images) if path.name not in videos] if is_folder(images) else []
    _warn(images, others, "entry", reason)
    if is_folder(masks):
        known = {*videos, *map(stem_of, videos), *(path.name for path in others)}
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
    frames = _by_folder(folders)
    masks: dict[Path, set[str]] = {}
    if with_masks:
        objects = {f.parents[0] for v in videos for each in v.object_masks.values() for f in each.values()}
        masks = _by_folder([*(_mask_files(video) for video in videos), list(objects)])
    others = [
        folder / name
        for folder in sorted({*frames, *masks})
        for name in _unused(folder, frames.get(folder, set()) | masks.get(folder, set()))
    ]
    inside = [path for path in others if is_folder(path) and not is_image(path)]
    _warn(root, inside, "folder", "inside the folder of a video")
    kind = f"not an image ({', '.join(IMAGES)})"
    _warn(root, [path for path in others if not is_folder(path) and not is_image(path)], "file", kind)
    unmatched = [path for path in others if is_image(path) and path.parent not in frames]
    _warn(root, unmatched, "mask", "without a frame of that name")


def _unused(folder: Path, used: set[str]) -> list[str]:
    """The names in a folder that are not used, sorted."""
    return [name for name in _names(folder) if name not in used]


def _mask_files(video: VideoIndex) -> Sequence[File]:
    """The annotation files of a video."""
    masks = video.masks
    return masks.files if isinstance(masks, FileMap) else [path for _, path in video.mask_files()]


def _warn_of_mixed_names(root: Path, videos: Iterable[Sequence[File]]) -> None:
    """Warn of frames whose names differ in more than a number: one of them may be a mask or a preview."""
    mixed = []
    for frames in videos:
        names = stems(frames)
        if are_numbers(names):
            continue  # saves taking them apart
        kinds = {DIGITS.sub("0", name): i for i, name in enumerate(names)}
        if len(kinds) > 1:
            mixed.append([os.path.relpath(str(frames[i]), root) for i in kinds.values()])
    if mixed:
        warnings.warn(
            f"{root}: {counted(len(mixed), 'video')} with frames named in several ways, all of which count "
            f"as frames, in the order of their names: {named(mixed[0], 3)}",
            stacklevel=3,
        )


def _by_folder(lists: Iterable[Sequence[File]]) -> dict[Path, set[str]]:
    """Folder -> names of its files in the lists."""
    found: dict[Path, set[str]] = defaultdict(set)
    for files in lists:
        if isinstance(files, FileList):
            found[files.folder].update(files.names)
            continue
        for file in files:
            found[file.parents[0]].add(file.name)
    return found


def _warn(root: Path, paths: Sequence[Path], noun: str, reason: str) -> None:
    """Warn once of all paths that are left out for the same reason."""
    if paths:
        names = (os.path.relpath(path, root) for path in paths[: LISTED + 1])
        warnings.warn(f"{root}: {counted(len(paths), noun)} left out, {reason}: {named(names)}", stacklevel=3)
