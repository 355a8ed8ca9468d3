"""Check a data set: is it complete and readable, and are its masks as expected?

    python3 -m dataset.check NAME --root data [--splits SPLIT ...] [--sample N | --all]

Prints a table that can be pasted into a bug report, and what train.py and test.py would warn of. The readers
are theirs. Exit code 2 if anything is missing, too many or wrong.
"""

import argparse
import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dataset.build import ReadMasks, read_masks, readable_videos, spread
from dataset.catalogue import catalogued
from dataset.command import run_command
from dataset.davis import RESOLUTIONS
from dataset.known import Found, Known, find_split, index_name, known_size
from dataset.registry import REGISTRY, find, training_videos
from dataset.video import find_start, is_video_file
from libs.core.errors import LISTED, InputError, UnreadableError, counted, named
from libs.core.image_io import read_image
from libs.core.log import Progress
from libs.core.structures import VideoIndex

SAMPLE = 200  # frames and masks of each split that are read
USUAL = ("train", "val")  # splits that are expected to be there
OTHERS = ("test-dev", "test-challenge", "test")  # splits that are checked if they are there
PACKAGES = ("numpy", "pillow", "opencv-python", "torch")
COLUMNS = ("split", "release", "videos", "frames", "masks", "objects", "frames read", "masks read", "result")


@dataclass
class SplitReport:
    """What was found in one split.

    said: what a session says of it, warnings and errors, in its words.
    wrong_frames, wrong_masks: of those that were read.
    differences: what is missing and what is too many, in a few words; errors: why the split cannot be used.
    """

    split: str
    found: Found = field(default_factory=lambda: Found(()))
    known: Known | None = None
    objects: int = 0
    frames_read: int = 0
    masks: ReadMasks = field(default_factory=lambda: ReadMasks(0))
    wrong_frames: list[str] = field(default_factory=list)
    wrong_masks: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, too many or wrong."""
        return not (self.errors or self.differences or self.wrong_frames or self.wrong_masks)


def main() -> None:
    """Run the command line; exit code 2 if something is missing, too many or wrong."""
    args = parse_arguments()
    splits = choose_splits(args.root, args.name, args.splits or ())
    reports = [
        check_split(args.root, args.name, split, None if args.all else args.sample, args.resolution)
        for split in splits
    ]
    print(describe(args.root, args.name, reports))
    failed = [report.split for report in reports if not report.is_right]
    if failed:
        raise InputError(
            f"{args.name} below {args.root}: {', '.join(failed)} incomplete or wrong, as listed above; "
            "DATASET.md has the layout, `python3 -m dataset.download` downloads most sets"
        )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m dataset.check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [name for name in REGISTRY if name != "PROCEDURAL"]
    add = parser.add_argument
    add("name", metavar="NAME", help=f"data set: {', '.join(names)}; DUTS is STATIC with known numbers")
    add("--root", type=Path, default=Path("data"), metavar="DIR", help="holds all data sets (default: data)")
    add(
        "--splits",
        nargs="+",
        metavar="SPLIT",
        help="splits to check (default: train and val, and others there)",
    )
    add(
        "--sample",
        type=_count,
        default=SAMPLE,
        metavar="N",
        help=f"frames and masks to read (default: {SAMPLE})",
    )
    add("--all", action="store_true", help="read all frames and masks")
    add("--resolution", default=RESOLUTIONS[0], choices=RESOLUTIONS, help="of a DAVIS set (default: 480p)")
    return parser.parse_args()


def _count(text: str) -> int:
    """A number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, found '{text}'")
    return int(text)


def choose_splits(root: Path, name: str, wanted: Sequence[str] = ()) -> list[str]:
    """The splits to check: those that are wanted; or else train, val, and of the others those that are there.

    Raises: InputError if there is no such data set, or if it has no such split.
    """
    data = find(index_name(name))
    if name == "PROCEDURAL":
        raise InputError("PROCEDURAL is generated during training; there is nothing on disk to check")
    if data.make and set(wanted) - {"train"}:
        raise InputError(f"{name} is for training only; its only split is train")
    if data.make or wanted:
        return list(wanted) or ["train"]
    if name == "FOLDER":
        return ["val"]
    folder = root / ("Youtube-VOS" if name == "VOS" else name)
    there = [
        split for split in OTHERS if (folder / split).is_dir() or any(folder.glob(f"ImageSets/*/{split}.txt"))
    ]
    there += [split for split in OTHERS if (folder / "ImageSets" / f"{split}.txt").is_file()]
    return [*USUAL, *there]


def check_split(
    root: Path, name: str, split: str, sample: int | None = SAMPLE, resolution: str = RESOLUTIONS[0]
) -> SplitReport:
    """Check one split.

    Args:
        sample: frames and masks to read, spread evenly over the split; None: all.
    """
    report = SplitReport(split)
    with catalogued(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            report.found = find_split(root, name, split, resolution)
            _start_session(root, name, split, resolution, report.said.append)
        except InputError as error:
            report.errors.append(str(error))
    report.said = [*(str(warning.message) for warning in told), *report.said]
    if report.found.videos:
        is_photos = bool(find(index_name(name)).make)
        _read(report, sample, count_objects=not is_photos)
        _compare(report, name, "image" if is_photos else "video")
    return report


def _start_session(root: Path, name: str, split: str, resolution: str, say: Callable[[str], None]) -> None:
    """Do what train.py or test.py does with the files of a split before it starts. Gives their warnings."""
    registered = index_name(name)
    if split == "train" or find(registered).make:
        training_videos(root, registered, resolution=resolution)
    else:
        readable_videos(root, registered, split, "first", say, resolution)


def _read(report: SplitReport, sample: int | None, count_objects: bool) -> None:
    """Read frames and masks of a split, and count the objects of the first masks."""
    videos = report.found.videos
    frames = [(v, i) for v in videos if not is_video_file(v) for i in range(len(v.frames))]
    report.frames_read = len(frames) if sample is None else min(sample, len(frames))
    masks = report.found.masks if sample is None else min(sample, report.found.masks)
    progress = Progress("check", len(videos) + report.frames_read + masks, "file")
    with progress.section(report.split, len(videos) + report.frames_read + masks):
        for video in videos:
            report.objects += _count_objects(video, report.wrong_masks) if count_objects else 0
            progress.advance()
        for i in spread(len(frames), report.frames_read):
            video, position = frames[i]
            try:
                read_image(video.frames[position])
            except UnreadableError as error:
                report.wrong_frames.append(str(error))
            progress.advance()
        report.masks = read_masks(videos, masks, progress.advance)
    of_frames = report.masks.of_frames
    report.wrong_frames = _once([*report.wrong_frames, *map(str, of_frames)])
    masks_only = [str(error) for error in report.masks.problems if error not in of_frames]
    report.wrong_masks = _once([*report.wrong_masks, *masks_only])


def _once(messages: Sequence[str]) -> list[str]:
    """The first message about each file: a frame or mask may be read twice."""
    return list({message.partition(": ")[0]: message for message in reversed(messages)}.values())[::-1]


def _count_objects(video: VideoIndex, wrong: list[str]) -> int:
    """How many objects a list names, or else the first mask shows."""
    if video.objects:
        return len(video.objects)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the session has told it
            return len(find_start(video)[2])
    except UnreadableError as error:
        wrong.append(str(error))
        return 0


def _compare(report: SplitReport, name: str, noun: str) -> None:
    """Compare with the numbers of the release. `noun`: what a video of this set is called."""
    found = report.found
    if found.incomplete:
        report.differences.append(f"{counted(len(found.incomplete), noun)} incomplete")
    known = report.known = known_size(name, report.split, len(found.videos), report.objects)
    if known is None:
        return
    counts = {noun: (len(found.videos), known.videos), "frame": (found.frames, known.frames)}
    if "objects" not in known.likely:
        counts["object"] = (report.objects, known.objects)
    is_shared = index_name(name) != name  # other images than those of this set may lie in its folder
    for what, (there, expected) in counts.items():
        if there < expected:
            report.differences.append(f"{counted(expected - there, what)} missing")
        elif there > expected > 0 and not is_shared:
            report.differences.append(f"{counted(there - expected, what)} too many")


# ---- the report ----


def describe(root: Path, name: str, reports: Sequence[SplitReport]) -> str:
    """The report in Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(report) for report in reports)]
    lines = [f"{name} below {root}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    if any("~" in cell for row in rows for cell in row):
        lines.append("~: this number is likely, not certain; its source is weak")
    for report in reports:
        script = "train.py" if report.split == "train" else "test.py"
        lines += _list(f"{report.split}: errors", report.errors)
        lines += _list(f"{report.split}: wrong frames", report.wrong_frames)
        lines += _list(f"{report.split}: wrong masks", report.wrong_masks)
        lines += _list(f"{report.split}: unusual masks", report.masks.notes)
        lines += _list(f"{report.split}: {script} says", report.said)
    return "\n".join([*lines, _versions()])


def _row(report: SplitReport) -> tuple[str, ...]:
    """The cells of one split."""
    found, known = report.found, report.known
    if not found.videos:
        return (report.split, *("" for _ in COLUMNS[2:]), "not there, or not readable")
    numbers = {"videos": len(found.videos), "frames": found.frames, "objects": report.objects}
    cells = {kind: _of(number, kind, known) for kind, number in numbers.items()}
    if found.files:
        cells["frames"] = f"in {counted(found.files, 'video file')}, not counted"
    frames, masks = len(report.wrong_frames), len(report.wrong_masks)
    unusual = f", {len(report.masks.notes)} unusual" if report.masks.notes else ""
    read = [_wrong(report.frames_read, frames), _wrong(report.masks.count, masks) + unusual]
    wrong = [f"{counted(frames + masks, 'file')} wrong"] if frames + masks else []
    wrong += ["errors, see below"] if report.errors else []
    result = "; ".join([*report.differences, *wrong]) or (
        "complete" if known else "no numbers are known to compare with"
    )
    counts = [cells["videos"], cells["frames"], str(found.masks), cells["objects"]]
    return (report.split, known.release if known else "-", *counts, *read, result)


def _of(number: int, kind: str, known: Known | None) -> str:
    """'60 of 60', or '60' if it is not known how many there should be."""
    expected = getattr(known, kind) if known else 0
    likely = "~" if known and kind in known.likely else ""
    return f"{number} of {likely}{expected}" if expected else str(number or "-")


def _wrong(count: int, wrong: int) -> str:
    return f"{count}, {wrong} wrong" if wrong else f"{count}, all right"


def _list(title: str, lines: Sequence[str]) -> list[str]:
    """A list under a title, cut after the first entries; nothing if there are none."""
    if not lines:
        return []
    more = [f"- ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [
        "",
        f"{title} ({len(lines)}):",
        *(f"- {' '.join(line.split())}" for line in lines[:LISTED]),
        *more,
    ]


def _versions() -> str:
    """The versions that matter to a bug report."""
    found = [f"Python {platform.python_version()}", platform.platform()]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return f"\n{named(found)}"


if __name__ == "__main__":
    run_command(main)
