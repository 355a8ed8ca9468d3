"""What comes of test.py beside masks: tables, and notes on what is finished, so that a later run with the same settings can leave it out."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from types import NoneType
from typing import TypeVar

import numpy as np

from libs.distributed import Processes
from libs.evaluator import CorrectionRow, Report, RoundTripRow
from libs.files import FolderBusyError, only_run, replacing
from libs.scores import VideoScores, format_table, write_csv, write_rows
from libs.structures import InputError, Prediction, Video
from libs.visualize import save

ANYWAY = ("skip_done", "debug", "gpu_id", "compile")  # keys that change nothing in a mask, nor which masks there are
DRIFT = 0.5  # IoU below which a video is named
R = TypeVar("R", CorrectionRow, RoundTripRow)
Writer = Callable[[Video, Prediction], None]


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


@contextmanager
def validation_folder(folder: Path, videos: list[Video], processes: Processes) -> Iterator[Writer | None]:
    """Lock the folder of test.py's results and yield what writes a mask into it; None where another run holds the lock.

    Completion records of these videos and score tables are removed first, because they no longer hold. A training
    run must not end because test.py is at work, so a busy folder is only warned of.

    Args:
        processes: those that validate together; the main one holds the lock for all.
    """
    with ExitStack() as held:
        free = True
        if processes.writes:
            try:
                held.enter_context(only_run(folder))
                forget(folder)
                for video in videos:
                    Notes(folder, "").forget(video.name)
            except FolderBusyError as fault:
                warnings.warn(f"{fault}; the masks of this validation are not written", stacklevel=2)
                free = False
        free = processes.gather(free)[0]

        def write(video: Video, prediction: Prediction) -> None:
            """Write one mask as palette PNG, with the data set's own labels."""
            save(folder / video.name / f"{prediction.frame.name}.png", prediction.with_ids(video.ids), "index")

        yield write if free else None
        processes.gather(None)  # the lock is held until the slowest has written its last mask


TABLES = ("scores.csv", "drift.csv", "corrections.csv")


def forget(folder: Path) -> None:
    """Remove the tables of an earlier run, before masks change that they tell of."""
    for name in TABLES:
        (folder / name).unlink(missing_ok=True)


def tell(report: Report, folder: Path) -> None:
    """Print what came out and write it to TABLES in `folder`, each where there is something in it."""
    scores, drift, corrections = (folder / name for name in TABLES)
    _tell_scores(report, scores)
    _tell_drift(report, drift)
    if report.corrections:
        write_rows(corrections, report.corrections)
        print(f"what gradient correction did to each frame is in {corrections}")


def _tell_scores(report: Report, csv: Path) -> None:
    """Table of J, F and J&F, and the same as CSV; a plain statement where there is no ground truth."""
    if report.scores:
        print(format_table(report.summary, report.references))
        write_csv(csv, report.summary, report.references)
        print(f"scores written to {csv}")
    if report.unscored:
        print(f"no ground truth to score {', '.join(report.unscored)}: only the given masks are there")


def _tell_drift(report: Report, csv: Path) -> None:
    """How much of each video's latest given mask is found again from its last frame, and which videos to look at."""
    if not report.round_trips:
        return
    write_rows(csv, report.round_trips)
    lost = [f"{row.video} ({row.iou:.2f})" for row in report.round_trips if row.iou < DRIFT]
    print(f"IoU of the given mask with itself, predicted back from the last frame: mean {mean(r.iou for r in report.round_trips):.2f}, in {csv}")
    if lost:
        print(f"below {DRIFT}, which means that the objects are gone or the masks have drifted: {', '.join(lost)}")
