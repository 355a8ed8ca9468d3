"""Read what test.py wrote: scores per object and frame, corrections, drift, masks and settings of a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dataset.annotations import Annotations
from dataset.registry import recorded_videos
from libs.core.errors import InputError, named
from libs.core.structures import VideoIndex
from libs.evaluation.evaluator import Report
from libs.evaluation.results import Record, read_records


@dataclass(frozen=True)
class Run:
    """One result folder of test.py.

    settings: the keys that can change a mask, and 'weights', a hash of the file.
    records: of the videos that are complete, by name.
    """

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A short name for tables."""
        return "/".join(self.folder.parts[-2:])

    @property
    def report(self) -> Report:
        """The report on all videos."""
        report = Report()
        for record in self.records.values():
            report = report.then(record.report)
        return report


def read_run(folder: Path) -> Run:
    """Read a result folder of test.py.

    Raises: InputError if it has no completion record, or records of runs with different settings.
    """
    records = read_records(folder)
    if not records:
        raise InputError(
            f"{folder}: expected a result folder of test.py, such as data/output/DAVIS17, found no "
            "completion record (.done/<video>.json)"
        )
    kinds = {record.fingerprint for record in records.values()}
    if len(kinds) > 1:
        raise InputError(
            f"{folder}: holds results of {len(kinds)} runs with different settings or weights; run test.py "
            "again without skip_done, or into another output_dir"
        )
    return Run(folder, next(iter(records.values())).settings, records)


def check_label_maps(run: Run) -> None:
    """Check that the masks of a run are label maps, which can be drawn.

    Raises: InputError if test.py wrote something else.
    """
    style = run.settings.get("save_indexed_format", "index")
    if style != "index":
        raise InputError(
            f"{run.folder}: holds results of save_indexed_format {style}, which cannot be drawn; run test.py "
            "with save_indexed_format index"
        )


def video_indices(run: Run, root: Path | None = None) -> list[VideoIndex]:
    """Find the frames and true masks of a run's videos, in the order of the data set.

    Args:
        root: of the data sets; None: the one of the run.
    Raises: InputError if the data set lacks a video of the run.
    """
    keys = run.settings
    where = root or Path(keys["root"])
    found, _ = recorded_videos(where, keys["valset"], keys["val_split"], keys["davis_resolution"])
    missing = sorted(run.records.keys() - {index.name for index in found})
    if missing:
        raise InputError(
            f"{keys['valset']} below {where}: lacks {named(missing)} of the run in {run.folder}; name the "
            "folder of the data sets with --root"
        )
    return [index for index in found if index.name in run.records]


def list_masks(folder: Path) -> dict[str, Path]:
    """List the masks of one video, <frame>.png, by the names of their frames."""
    return {path.stem: path for path in sorted(folder.glob("*.png"))}


class PredictedMasks:
    """The masks of one video in a folder, <folder>/<video>/<frame>.png, of this project or of another one.

    Every form that the data sets accept is read (DATASET.md).

    Args:
        binary: every label above 0 is object 1, as in DAVIS16; None: see VideoIndex.
    """

    def __init__(self, folder: Path, video: str, binary: bool | None = False) -> None:
        paths = list_masks(folder / video)
        self._position = {name: t for t, name in enumerate(paths)}
        files = tuple(paths.values())
        self._annotations = Annotations(VideoIndex(video, files, dict(enumerate(files)), binary=binary))

    def read(self, frame: str, size: tuple[int, int]) -> np.ndarray | None:
        """Read the mask of a frame: (H, W) uint8 ids; None if there is none.

        Raises: UnreadableError if it cannot be read, or has another size than (H, W).
        """
        if frame not in self._position:
            return None
        return self._annotations.read(self._position[frame], size)
