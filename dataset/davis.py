"""DAVIS 2016 and 2017: index of the videos, frames and masks on disk."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataset.folder import index_video
from dataset.layout import advise
from dataset.listing import Incomplete, index_all, is_folder, read_annotation_text, warn_of_others
from dataset.protocol import DAVIS
from libs.core.errors import InputError, named
from libs.core.files import parse_yaml
from libs.core.structures import VideoIndex

RESOLUTIONS = ("480p", "1080p", "Full-Resolution")
# A line of the lists in the archive of 2016: a frame, and mostly its mask.
FRAME_LINE = re.compile(r"/?JPEGImages/[^/]+/([^/]+)/[^/]+(/?Annotations/[^/]+/\1/[^/]+)?")
EXAMPLE = "/JPEGImages/480p/dog/00000.jpg /Annotations/480p/dog/00000.png"


def davis16(root: Path, split: str, resolution: str = RESOLUTIONS[0]) -> list[VideoIndex | Incomplete]:
    """The single-object set: masks of 0 and 255. `split` is 'train', 'val' or 'trainval'."""
    return _davis(root / "DAVIS16", split, resolution, year=2016)


def davis17(root: Path, split: str, resolution: str = RESOLUTIONS[0]) -> list[VideoIndex | Incomplete]:
    """The multi-object set: indexed masks. `split` is 'train', 'val', 'test-dev' or 'test-challenge'."""
    return _davis(root / "DAVIS17", split, resolution, year=2017)


def _davis(folder: Path, split: str, resolution: str, year: int) -> list[VideoIndex | Incomplete]:
    """Index a DAVIS folder.

    Raises: InputError if no list names videos of the split, or if there are no frames of this resolution.
    """
    names = _names(folder, split, year)
    images, masks = (_of_resolution(folder / kind, resolution) for kind in ("JPEGImages", "Annotations"))
    warn_of_others(images, masks, _all_names(folder), "not in a list of the data set")
    binary = year == 2016  # masks of 0 and 255: here 255 is the object, not void

    def index(name: str) -> VideoIndex:
        """Index one video."""
        return replace(index_video(name, images / name, masks / name, binary), protocol=DAVIS)

    return index_all(names, index)


def _names(folder: Path, split: str, year: int) -> list[str]:
    """Names of the videos of a split, each once, from db_info.yaml or from ImageSets.

    Raises: InputError if neither is there, or names videos of this split; the message says of which it does.
    """
    info, files = _db_info(folder), _list_files(folder, year)
    sequences = _read_db_info(info) if info.is_file() else []
    sequences = [s for s in sequences if year != 2016 or s.get("year") == 2016]
    names = [str(s["name"]) for s in sequences if s["set"] == split]
    if not names and split in files:
        names = read_list(files[split])
    if names:
        return list(dict.fromkeys(names))
    known = sorted({str(s["set"]) for s in sequences} | files.keys() - {split})
    if known:
        raise InputError(
            f"{folder}: its lists name no video for the split '{split}', only for {named(known)}; "
            "check val_split and the download"
        )
    raise InputError(
        f"{folder}: found no video in {info.relative_to(folder)} or ImageSets/{year}/{split}.txt; "
        f"{advise(folder.parent, folder.name, [''], 'JPEGImages')}"
    )


def _all_names(folder: Path) -> set[str]:
    """Names of the videos of all splits and years; a list that cannot be read has none."""
    names: set[str] = set()
    readers = {_db_info(folder): lambda path: [str(s["name"]) for s in _read_db_info(path)]}
    for path in (folder / "ImageSets").glob("*/*.txt"):
        readers[path] = read_list
    for path, read in readers.items():
        try:
            names.update(read(path))
        except InputError:  # it is not needed for this split
            continue
    return names


def _db_info(folder: Path) -> Path:
    return folder / "data" / "db_info.yaml"


def _read_db_info(info: Path) -> list[dict[str, Any]]:
    """Read the list of all videos, each with 'name' and 'set'.

    Raises: InputError naming the file.
    """
    content = read_annotation_text(info, parse_yaml)
    sequences = content.get("sequences") if isinstance(content, dict) else None
    if not isinstance(sequences, list) or not all(
        isinstance(s, dict) and isinstance(s.get("name"), (str, int)) and "set" in s for s in sequences
    ):
        raise InputError(
            f"{info}: expected a list 'sequences' with 'name' and 'set' in each; download the data set's file"
        )
    return sequences


def _list_files(folder: Path, year: int) -> dict[str, Path]:
    """Split -> its list. That of the year comes first; the archive of 2016 has one for each resolution."""
    places = [str(year), *(RESOLUTIONS if year == 2016 else ())]
    found = [path for place in places for path in sorted((folder / "ImageSets" / place).glob("*.txt"))]
    return {path.stem: path for path in reversed(found)}


def read_list(path: Path) -> list[str]:
    """Names of videos in a list: one in each line, or a frame and its mask as in the archive of 2016.

    Raises: InputError naming the file, and the line that is neither.
    """
    names: dict[str, None] = {}  # in order, each once
    for number, line in enumerate(read_annotation_text(path, str.splitlines), start=1):
        line = line.strip()
        frame = FRAME_LINE.fullmatch(line)
        name = frame[1] if frame else line
        if "/" in name or name in (".", ".."):
            raise InputError(
                f"{path}, line {number}: expected the name of a video, or a line as '{EXAMPLE}', found "
                f"'{line}', which would leave the folder of the videos; correct the list"
            )
        if name:
            names[name] = None
    return list(names)


def _of_resolution(folder: Path, resolution: str) -> Path:
    """The subfolder of the frames or masks of a resolution.

    Raises: InputError naming the key if only other resolutions are there.
    """
    if not is_folder(folder / resolution):
        others = [name for name in RESOLUTIONS if is_folder(folder / name)]
        if others:
            raise InputError(
                f"{folder / resolution} does not exist, only {named(others)}; "
                f"set davis_resolution {others[0]}"
            )
    return folder / resolution
