"""DAVIS 2016 and 2017: index of the videos, frames and masks on disk."""

from dataclasses import replace
from pathlib import Path

from dataset.folder import index_all, index_video, read_annotation_text
from dataset.protocol import DAVIS
from libs.core.errors import InputError
from libs.core.files import parse_yaml
from libs.core.structures import VideoIndex

RESOLUTION = "480p"


def davis16(root: Path, split: str) -> list[VideoIndex]:
    """The single-object set: masks of 0 and 255. `split` is 'train' or 'val'."""
    return _davis(root / "DAVIS16", split, year=2016)


def davis17(root: Path, split: str) -> list[VideoIndex]:
    """The multi-object set: indexed masks. `split` is 'train', 'val' or 'test-dev'."""
    return _davis(root / "DAVIS17", split, year=2017)


def _davis(folder: Path, split: str, year: int) -> list[VideoIndex]:
    """Index a DAVIS folder.

    Raises: InputError if neither data/db_info.yaml nor ImageSets lists the split, or if videos are missing.
    """
    names = _names(folder, split, year)
    if not names:
        raise InputError(
            f"{folder}: its lists name no video for the split '{split}'; check val_split and the download"
        )
    images, masks = folder / "JPEGImages" / RESOLUTION, folder / "Annotations" / RESOLUTION
    binary = year == 2016  # masks of 0 and 255: here 255 is the object, not void

    def index(name: str) -> VideoIndex:
        return replace(index_video(name, images / name, masks / name, binary), protocol=DAVIS)

    return index_all(names, index)


def _names(folder: Path, split: str, year: int) -> list[str]:
    """Names of the videos of a split, from db_info.yaml if it exists, else from ImageSets."""
    info = folder / "data" / "db_info.yaml"
    listing = folder / "ImageSets" / str(year) / f"{split}.txt"
    if info.is_file():
        content = read_annotation_text(info, parse_yaml)
        sequences = content.get("sequences") if isinstance(content, dict) else None
        if not isinstance(sequences, list) or not all(
            isinstance(s, dict) and isinstance(s.get("name"), (str, int)) and "set" in s for s in sequences
        ):
            raise InputError(
                f"{info}: expected a list 'sequences' with 'name' and 'set' in each; "
                "download the data set's file"
            )
        return [
            str(s["name"]) for s in sequences if s["set"] == split and (year != 2016 or s.get("year") == 2016)
        ]
    if listing.is_file():
        return read_annotation_text(listing, str.split)
    raise InputError(
        f"{folder}: found neither {info.relative_to(folder)} nor {listing.relative_to(folder)}; "
        "set root, see DATASET.md"
    )
