"""Check a data set: is it complete and readable, and are its masks as expected?

    python3 -m dataset.check NAME --root data [--splits SPLIT ...] [--sample N | --all]

Prints a table that can be pasted into a bug report, and what train.py and test.py would warn of. The readers
are theirs. Exit code 2 if anything is missing, too many or wrong.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from dataset.build import read_masks, readable_videos, spread
from dataset.catalogue import catalogued
from dataset.check_report import SplitReport, describe
from dataset.command import run_command
from dataset.davis import RESOLUTIONS
from dataset.known import find_split, index_name, known_size
from dataset.registry import REGISTRY, find, training_videos
from dataset.video import find_start, is_video_file
from libs.core.errors import InputError, UnreadableError, counted
from libs.core.image_io import read_image
from libs.core.log import Progress
from libs.core.structures import VideoIndex

SAMPLE = 200  # frames and masks of each split that are read
USUAL = ("train", "val")  # splits that are expected to be there
OTHERS = ("test-dev", "test-challenge", "test")  # splits that are checked if they are there


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


if __name__ == "__main__":
    run_command(main)
