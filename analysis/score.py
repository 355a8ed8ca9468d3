"""Score folders of masks, of any system: python3 -m analysis.score FOLDER ... --root DATA --valset DAVIS17

A folder holds <video>/<frame>.png. The numbers equal those of test.py, whose scorer is used. With
`--truth DIR` in place of `--root`, DIR holds the true masks in the same layout, and no frames are needed.
"""

import argparse
import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.runs import PredictedMasks, list_masks
from dataset.protocol import DAVIS, OWN_SET, YOUTUBE_VOS
from dataset.registry import recorded_videos
from dataset.video import open_video
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError, counted, named
from libs.core.files import atomic_write
from libs.core.masks import object_ids
from libs.core.structures import Prediction, Video, VideoIndex
from libs.evaluation.evaluator import VideoSink
from libs.evaluation.scores import Summary, VideoScores, format_table, overall, summarise, write_csv


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    indices = truth_indices(args.truth, args.protocol) if args.truth else data_set_indices(args)
    results = {folder: score_folder(folder, indices) for folder in args.folders}
    for folder, scores in results.items():
        print(f"\n{folder}\n{format_table(summarise(scores))}")
    if len(results) > 1:
        summaries = [summarise(scores) for scores in results.values()]
        print(f"\n{summaries[0].overall_name} side by side\n{side_by_side(summaries)}")
    for number, scores in enumerate(results.values(), start=1):
        if args.out:
            write_csv(args.out / f"scores_{number}.csv", summarise(scores))
            write_frames(args.out / f"frames_{number}.csv", scores)
            print(
                f"scores of folder {number} written to {args.out}/scores_{number}.csv and frames_{number}.csv"
            )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m analysis.score",
        description=(__doc__ or "").split(":")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="masks: <video>/<frame>.png")
    add("--root", type=Path, default=Path("data"), metavar="DATA", help="folder that holds the data sets")
    add("--valset", default="DAVIS17", help="data set to score against")
    add("--split", default="val", help="split of the data set")
    add("--resolution", default="480p", help="subfolder of the masks in a DAVIS set")
    add("--truth", type=Path, metavar="DIR", help="folder of true masks, in place of a data set")
    add(
        "--protocol",
        default=DAVIS,
        choices=(DAVIS, YOUTUBE_VOS, OWN_SET),
        help="with --truth: what is scored",
    )
    add(
        "--out", type=Path, metavar="DIR", help="write CSV files of the objects' and the frames' scores there"
    )
    return parser.parse_args()


def data_set_indices(args: argparse.Namespace) -> list[VideoIndex]:
    """The videos of the data set that the arguments name."""
    return recorded_videos(args.root, args.valset, args.split, args.resolution)[0]


def truth_indices(folder: Path, protocol: str) -> list[VideoIndex]:
    """Index a folder of true masks. The masks stand in for the frames, of which only the size counts.

    Raises: InputError if there are none.
    """
    indices = []
    for video in sorted(path for path in folder.glob("*") if path.is_dir()):
        masks = tuple(list_masks(video).values())
        if masks:
            indices.append(VideoIndex(video.name, masks, dict(enumerate(masks)), protocol, binary=None))
    if not indices:
        raise InputError(f"{folder}: expected true masks <video>/<frame>.png, found none")
    return indices


def score_folder(folder: Path, indices: Sequence[VideoIndex]) -> list[VideoScores]:
    """Score the masks in a folder by the protocol of each video; a mask that is missing counts as empty.

    Warns of videos and masks that are missing.

    Raises: InputError if the folder has no mask of any of the videos, or a mask cannot be read.
    """
    found = [index for index in indices if list_masks(folder / index.name)]
    if not found:
        raise InputError(
            f"{folder}: expected masks <video>/<frame>.png, such as {indices[0].name}/...; found none"
        )
    missing = [index.name for index in indices if index not in found]
    if missing:
        warnings.warn(
            f"{folder}: has no masks of {counted(len(missing), 'video')}, not scored: {named(missing)}",
            stacklevel=2,
        )
    return [scores for index in found for scores in score_video(folder, index)]


def score_video(folder: Path, index: VideoIndex) -> list[VideoScores]:
    """Score the masks of one video, through the scorer of test.py. Returns: one entry, none without truth."""
    video, masks = open_video(index), PredictedMasks(folder, index.name, index.binary or None)
    lacking: list[str] = []
    sink = VideoSink(video)
    with sink:
        for prediction in read_predictions(video, masks, lacking):
            sink.put(prediction)
    sink.finish(None)
    if lacking:
        warnings.warn(
            f"{folder / index.name}: {counted(len(lacking), 'mask')} of scored frames are missing and count "
            f"as empty: {named(lacking)}",
            stacklevel=2,
        )
    return sink.report.scores


def read_predictions(video: Video, masks: PredictedMasks, lacking: list[str]) -> Iterator[Prediction]:
    """Yield the masks of a folder as if they were predicted now; names of missing ones go to `lacking`."""
    ids: set[int] = set()
    for frame in video.read():
        ids |= set(object_ids(frame.given)) if frame.given is not None else set()
        size = frame.image.shape[0], frame.image.shape[1]
        labels = masks.read(frame.name, size) if frame.truth is not None else None
        if labels is None:
            lacking += [frame.name] if frame.truth is not None else []
            labels = np.zeros(size, np.uint8)
        yield Prediction(frame, labels, None, ids=tuple(sorted(ids)))


def side_by_side(summaries: Sequence[Summary]) -> str:
    """Format the score to compare by in percent: a row for each object, a column a folder; '-': none."""
    columns: list[Mapping[tuple[str, str], float | None]] = [
        {
            **{(scores.video, str(scores.object_id)): overall(scores) for scores in summary.objects},
            ("global", ""): overall(summary),
        }
        for summary in summaries
    ]
    rows = list(dict.fromkeys(key for column in columns for key in column if key != ("global", "")))
    width = max(len(video) for video, _ in [*rows, ("global", "")])
    lines = [
        f"{'video':{width}}  object" + "".join(f"  {f'folder {n}':>9}" for n in range(1, len(columns) + 1))
    ]
    for video, number in [*rows, ("global", "")]:
        values = [column.get((video, number)) for column in columns]
        cells = "".join(f"  {'-' if value is None else f'{100 * value:.1f}':>9}" for value in values)
        lines.append(f"{video:{width}}  {number:>6}{cells}")
    return "\n".join(lines)


def write_frames(path: Path, scores: Sequence[VideoScores]) -> None:
    """Write J and F (if the benchmark has it) of each object in each scored frame, as fractions."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["video", "object", "frame", "J", "F"])
        for video in scores:
            for number, names, J, F in zip(video.ids, video.frames, video.jaccard, video.boundary):
                shown = F.tolist() if "F" in video.scoring.measures else [""] * len(F)
                writer.writerows([video.name, number, *row] for row in zip(names, J.tolist(), shown))


if __name__ == "__main__":
    run_with_error_messages(main)
