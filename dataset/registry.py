"""Name in the config -> data set. To add one, write an index function (dataset/folder.py shows how) and name it here."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dataset.davis import davis16, davis17
from dataset.folder import folder
from dataset.youtube_vos import youtube_vos
from libs.structures import InputError, VideoIndex


@dataclass(frozen=True)
class DataSet:
    """A data set that the config can name.

    index: (root, split) -> its videos; skip_step: how much max_skip grows at each increment of the curriculum.
    """

    index: Callable[[Path, str], list[VideoIndex]]
    skip_step: int


REGISTRY = {
    "DAVIS16": DataSet(davis16, skip_step=5),
    "DAVIS17": DataSet(davis17, skip_step=5),
    "VOS": DataSet(youtube_vos, skip_step=1),
    "FOLDER": DataSet(folder, skip_step=5),
}


def find(name: str) -> DataSet:
    """The data set of that name.

    Raises: InputError suggesting the nearest name.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0)[0]
        raise InputError(f"there is no data set '{name}'; the nearest is '{near}', known are {', '.join(REGISTRY)}")
    return REGISTRY[name]
