"""What test.py has finished, noted beside its masks, so that a later run with the same settings can leave it out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import TypeVar

import numpy as np

from libs.evaluator import CorrectionRow, Report, RoundTripRow
from libs.files import replacing
from libs.scores import VideoScores
from libs.structures import InputError

ANYWAY = ("skip_done", "debug", "gpu_id", "compile")  # keys that change nothing in a mask, nor which masks there are
R = TypeVar("R", CorrectionRow, RoundTripRow)


@dataclass(frozen=True)
class Notes:
    """Notes on finished videos in `folder`/.done; `recipe`: what the masks depend on but the video."""

    folder: Path
    recipe: str

    def write(self, video: str, frames: dict[str, set[int]], report: Report) -> None:
        """The video is complete: `frames` are its masks, with the objects that may be in each."""
        note = {"recipe": self.recipe, "frames": {name: sorted(ids) for name, ids in frames.items()}, "report": asdict(report)}
        with replacing(self._path(video)) as temporary:
            temporary.write_text(json.dumps(note, default=_plain), encoding="utf-8")

    def read(self, video: str) -> tuple[dict[str, set[int]], Report] | None:
        """What was noted, if it was noted with the same recipe and all masks are still there."""
        try:
            note = json.loads(self._path(video).read_text(encoding="utf-8"))
            frames = {name: set(ids) for name, ids in note["frames"].items()}
            masks = {path.stem for path in (self.folder / video).glob("*.png")}
            return (frames, _report(note["report"])) if note["recipe"] == self.recipe and frames.keys() <= masks else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            raise InputError(f"{self._path(video)}: not a note of test.py ({fault}); remove it to segment the video anew") from fault

    def forget(self, video: str) -> None:
        """The video is about to be segmented anew."""
        self._path(video).unlink(missing_ok=True)

    def _path(self, video: str) -> Path:
        return self.folder / ".done" / f"{video}.json"


def recipe(cfg: Mapping[str, object], weights: Path) -> str:
    """All keys that can change a mask, and which file of weights it was."""
    told = weights.stat() if weights.is_file() else None
    keys = {key: value for key, value in cfg.items() if key not in ANYWAY}
    return json.dumps([keys, told and (told.st_size, told.st_mtime_ns)], sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a report")


def _report(told: dict) -> Report:
    scores, copies = (
        [VideoScores(s["name"], tuple(s["ids"]), np.array(s["jaccard"], np.float64), np.array(s["boundary"], np.float64)) for s in told[key]]
        for key in ("scores", "copies")
    )
    corrections = [_row(CorrectionRow, row) for row in told["corrections"]]
    trips = [_row(RoundTripRow, row) for row in told["round_trips"]]
    return Report(scores, copies, [str(name) for name in told["unscored"]], corrections, trips, [], int(told["frames"]), float(told["seconds"]))


def _row(kind: type[R], told: dict) -> R:
    """Names are texts, all else numbers, or None where nothing could be measured."""
    row = kind(**told)
    for entry in fields(row):
        value = getattr(row, entry.name)
        if not isinstance(value, str if entry.name in ("video", "frame") else (int, float, NoneType)):
            raise TypeError(f"{entry.name} is {value!r}")
    return row
