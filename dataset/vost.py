"""VOST: index of the videos, frames and masks on disk; objects break, are cut or change their form."""

from dataclasses import replace
from pathlib import Path

from dataset.davis import read_list
from dataset.folder import index_video
from dataset.layout import advise
from dataset.listing import Incomplete, index_all, warn_of_others
from dataset.protocol import VOST
from libs.core.errors import InputError, named
from libs.core.structures import VideoIndex


def vost(root: Path, split: str) -> list[VideoIndex | Incomplete]:
    """The set of transformations, at 5 frames per second. `split` is 'train', 'val' or 'test'.

    Raises: InputError if the list of the split is not there, or names no video.
    """
    folder = root / "VOST"
    lists = {path.stem: path for path in sorted((folder / "ImageSets").glob("*.txt"))}
    if split not in lists:
        there = f"there are lists of {named(lists)}; check val_split"
        raise InputError(
            f"{folder / 'ImageSets' / f'{split}.txt'} does not exist; "
            f"{there if lists else advise(root, 'VOST', [''], 'ImageSets')}"
        )
    names = read_list(lists[split])
    if not names:
        raise InputError(f"{lists[split]}: expected the name of a video in each line, found none")
    images, masks = folder / "JPEGImages", folder / "Annotations"
    listed = {name for path in lists.values() for name in read_list(path)}
    warn_of_others(images, masks, listed, "not in a list of the data set")

    def index(name: str) -> VideoIndex:
        """Index one video."""
        return replace(index_video(name, images / name, masks / name), protocol=VOST)

    return index_all(names, index)
