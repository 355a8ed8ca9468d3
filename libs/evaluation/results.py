"""The result folder of test.py: masks, completion records for `skip_done`, score tables, the drift table."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from types import NoneType
from typing import Any, TypeVar

import numpy as np

from libs.core.distributed import ALONE, Processes
from libs.core.errors import InputError
from libs.core.files import atomic_write, exclusive_run
from libs.core.structures import Prediction, Scoring, Video
from libs.evaluation.evaluator import CorrectionRow, DriftRow, Report, RoundTripRow
from libs.evaluation.leftovers import Leftovers, of_other_videos, of_video, warn_of_leftovers
from libs.evaluation.outputs import VideoOutput, import_coco_masks, open_output
from libs.evaluation.scores import VideoScores, format_table, write_csv, write_rows

DRIFT = 0.5  # IoU below which a video is named
TABLES = ("scores.csv", "drift.csv", "corrections.csv")
Masks = dict[str, set[int]]  # frame name -> objects that may be in its mask
R = TypeVar("R", CorrectionRow, DriftRow, RoundTripRow)


class ResultFolder:
    """The folder into which one run at a time writes masks, completion records and score tables.

    A completion record says that all masks of a video are written, and with which settings. So a later run
    with `skip_done` can leave the video out. Several processes may segment one video each: each of them
    writes the masks and the record of its video.

    Args:
        fingerprint: of the settings and weights of this run, see libs/app/fingerprint.py.
        style: what is written, one of STYLES in libs/evaluation/outputs.py.
        only_submitted: write only the masks that belong into a submission.
    Raises: InputError if a package is missing that the style needs.
    """

    def __init__(
        self, path: Path, fingerprint: str, style: str = "index", only_submitted: bool = False
    ) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.style = style
        self.only_submitted = only_submitted
        self.masks: dict[str, Masks] = {}  # complete video -> masks of this run, and of earlier ones resumed
        self._pending: dict[str, tuple[VideoOutput, Masks]] = {}
        if style == "coco":
            import_coco_masks()

    @contextmanager
    def locked(self, processes: Processes = ALONE) -> Iterator[None]:
        """Hold an exclusive lock on the folder; of several processes, the main one holds it for all.

        Raises: FolderBusyError if another run holds it; InputError if the folder cannot be written, or if
            the processes do not all see the same folder.
        """
        with ExitStack() as lock:
            with processes.together():
                if processes.is_main:
                    lock.enter_context(exclusive_run(self.path, self.path.with_suffix(".zip")))
            if processes.world_size > 1:
                self._check_shared(processes)
            yield

    def _check_shared(self, processes: Processes) -> None:
        """Check that all processes see the same folder, by a file that the main one writes.

        Raises: InputError if a process does not see it.
        """
        sign = self.path / ".shared"
        with processes.together():
            if processes.is_main:
                sign.touch()
        seen = [sign.name] if sign.exists() else []
        try:
            processes.check_agreement(
                seen, f"{self.path} on a disk that all machines share; give such an output_dir", False
            )
        finally:
            if processes.is_main:
                sign.unlink(missing_ok=True)

    def resume(self, videos: list[Video]) -> tuple[Report, list[Video]]:
        """Report on the videos that an earlier run with the same settings has finished.

        Returns: the report, and the videos that are left.
        """
        report, pending = Report(), []
        for video in videos:
            record = self._read_record(video)
            if record is None:
                pending.append(video)
            else:
                self.masks[video.name], own = record
                report = report.then(own)
        return report, pending

    def start(self, videos: list[Video]) -> None:
        """Remove what will no longer hold: the records of videos to be segmented again, and all tables."""
        if videos:
            for name in TABLES:
                (self.path / name).unlink(missing_ok=True)
        for video in videos:
            self._record(video.name).unlink(missing_ok=True)
            self._pending[video.name] = open_output(self.path, video.name, self.style), {}

    def write(self, video: Video, prediction: Prediction) -> None:
        """Write one mask."""
        frame = prediction.frame
        if frame.submitted or not self.only_submitted:
            output, masks = self._pending[video.name]
            masks[frame.name] = set(prediction.ids)
            output.write(prediction)

    def finish(self, video: Video, report: Report) -> None:
        """Complete the output of a video, and record that it is complete."""
        output, self.masks[video.name] = self._pending.pop(video.name)
        output.finish()
        masks = {name: sorted(ids) for name, ids in self.masks[video.name].items()}
        # The inputs count as the settings do: a mask that was repaired makes its video pending again.
        fingerprints = {"fingerprint": self.fingerprint, "inputs": video.fingerprint()}
        record = {**fingerprints, "frames": masks, "report": asdict(report)}
        with atomic_write(self._record(video.name)) as temporary:
            temporary.write_text(json.dumps(record, default=_plain), encoding="utf-8")

    def fingerprints(self) -> Counter[str]:
        """How many completion records there are of each fingerprint; what is no record is left out."""
        found: Counter[str] = Counter()
        for path in (self.path / ".done").glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found[str(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])] += 1
        return found

    def warn_of_leftovers(self, videos: Collection[str]) -> None:
        """Warn once of the files of earlier runs that do not belong to the results of this run.

        Args:
            videos: names of all videos of the set. Those that are not complete are not looked at.
        """
        found: Leftovers = of_other_videos(self.path, videos)
        for name in (name for name in videos if name in self.masks):
            found |= of_video(open_output(self.path, name, self.style), self.masks[name])
        warn_of_leftovers(self.path, found)

    def _read_record(self, video: Video) -> tuple[Masks, Report] | None:
        """Read the record of a video, if settings and inputs are the same and all its masks are still there.

        Raises: InputError if the file is not such a record.
        """
        path = self._record(video.name)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if "frames" in record and ("inputs" not in record or "drift" not in record["report"]):
                return None  # an older version wrote it
            masks = {name: set(ids) for name, ids in record["frames"].items()}
            output = open_output(self.path, video.name, self.style)
            existing = output.existing(self.path, video.name)
            there = output.expected(masks) <= {path for path in existing if path.stat().st_size}
            same = record["fingerprint"] == self.fingerprint and record["inputs"] == video.fingerprint()
            return (masks, _report(record["report"])) if same and there else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: not a completion record of test.py ({error}); remove it to segment the video again"
            ) from error

    def _record(self, video: str) -> Path:
        return self.path / ".done" / f"{video}.json"


@dataclass(frozen=True)
class Record:
    """A completion record: with which settings a video was segmented, and what came of it."""

    fingerprint: str
    report: Report

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that can change a mask, and 'weights', the hash of the weights' file."""
        _, keys, weights = json.loads(self.fingerprint)
        return {**keys, "weights": weights}


def read_records(folder: Path) -> dict[str, Record]:
    """Read all completion records in a result folder, by the names of their videos.

    Raises: InputError if a file is not such a record, or if an older version wrote it.
    """
    records = {}
    for path in sorted((folder / ".done").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            record = Record(str(content["fingerprint"]), _report(content["report"]))
            record.settings  # noqa: B018  (raises ValueError if it cannot be read)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: not a completion record of this version of test.py ({error!r}); run test.py again"
            ) from error
        records[path.stem] = record
    return records


def _plain(value: object) -> object:
    """Turn arrays into lists, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a report")


def _report(record: dict[str, Any]) -> Report:
    """Rebuild a report from a completion record."""
    scores, copies = ([_scores(video) for video in record[key]] for key in ("scores", "copies"))
    return Report(
        scores=scores,
        copies=copies,
        unscored=[str(name) for name in record["unscored"]],
        corrections=[_row(CorrectionRow, row) for row in record["corrections"]],
        round_trips=[_row(RoundTripRow, row) for row in record["round_trips"]],
        drift=[_row(DriftRow, row) for row in record["drift"]],
        frames=int(record["frames"]),
        seconds=float(record["seconds"]),
    )


def _scores(record: dict[str, Any]) -> VideoScores:
    """Rebuild the scores of a video from a completion record.

    Raises: ValueError unless each object has as many values of J as of F.
    """
    jaccard, boundary = (
        tuple(np.array(values, float).reshape(len(values)) for values in record[key])
        for key in ("jaccard", "boundary")
    )
    if not [len(values) for values in jaccard] == [len(values) for values in boundary]:
        raise ValueError("J and F of different lengths")
    if len(jaccard) != len(record["ids"]):
        raise ValueError("scores of other objects than `ids`")
    frames = tuple(tuple(map(str, names)) for names in record["frames"])
    if [len(names) for names in frames] != [len(values) for values in jaccard]:
        raise ValueError("scores of other frames than `frames`")
    ids = tuple(map(int, record["ids"]))
    return VideoScores(
        str(record["name"]), ids, jaccard, boundary, frames, _scoring(record.get("scoring", {}))
    )


def _scoring(record: dict[str, Any]) -> Scoring:
    """Rebuild what a benchmark reports from a completion record; older ones do not hold it."""
    unseen = record.get("unseen")
    measures = tuple(map(str, record.get("measures", Scoring.measures)))
    return Scoring(measures, None if unseen is None else tuple(map(int, unseen)))


def _row(kind: type[R], record: dict[str, Any]) -> R:
    """Rebuild a row from a completion record: names are texts, all else numbers, or None if not measured.

    Raises: TypeError for anything else, because anyone can write such a file.
    """
    row = kind(**record)
    for entry in fields(row):
        value = getattr(row, entry.name)
        if not isinstance(value, str if entry.name in ("video", "frame") else (int, float, NoneType)):
            raise TypeError(f"{entry.name} is {value!r}")
    return row


def report_results(report: Report, folder: Path) -> None:
    """Print the results and write them to TABLES in `folder`; empty tables are left out."""
    scores, drift, corrections = (folder / name for name in TABLES)
    _report_scores(report, scores)
    _report_drift(report, drift)
    if report.corrections:
        write_rows(corrections, report.corrections)
        print(f"what gradient correction did to each frame is in {corrections}")


def _report_scores(report: Report, csv: Path) -> None:
    """Print and write J, F and J&F; say so if there is no ground truth."""
    if report.scores:
        print(format_table(report.summary, report.references))
        write_csv(csv, report.summary, report.references)
        print(f"scores written to {csv}")
    if report.unscored:
        print(f"no ground truth to score {', '.join(report.unscored)}: only the given masks are there")


def _report_drift(report: Report, csv: Path) -> None:
    """Print and write how well each given mask is predicted back, and name the videos to look at."""
    if not report.round_trips:
        return
    write_rows(csv, report.drift)
    average = mean(row.iou for row in report.round_trips)
    lost = [f"{row.video} ({row.iou:.2f})" for row in report.round_trips if row.iou < DRIFT]
    print(
        f"IoU of the given mask with itself, predicted back from the last frame: mean {average:.2f}, in {csv}"
    )
    if lost:
        print(f"below {DRIFT}: the objects are gone or the masks have drifted in {', '.join(lost)}")
