"""MOSE: index of the videos, frames and masks on disk. There are no lists: the folders are the videos."""

from dataclasses import replace
from pathlib import Path

from dataset.folder import index_video
from dataset.layout import split_folder
from dataset.listing import Incomplete, entries, index_all, is_folder, warn_of_others
from dataset.protocol import DAVIS
from libs.core.errors import InputError
from libs.core.structures import VideoIndex


def mose(root: Path, split: str) -> list[VideoIndex | Incomplete]:
    """The set of crowded scenes. `split` is 'train', 'val' (folder valid) or 'test'.

    Raises: InputError if the split is not there, or holds no folder of frames.
    """
    folder = split_folder(root, "MOSE", split)
    images, masks = folder / "JPEGImages", folder / "Annotations"
    names = [entry.name for entry in entries(images) if is_folder(entry)]
    if not names:
        raise InputError(f"{images}: expected a folder of frames for each video, found none; see DATASET.md")
    warn_of_others(images, masks, names, "not a folder of frames")

    def index(name: str) -> VideoIndex:
        """Index one video."""
        return replace(index_video(name, images / name, masks / name), protocol=DAVIS)

    return index_all(names, index)
