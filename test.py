"""Segment and score videos: python3 test.py --cfg config.yaml initial PATH_TO_MODEL [KEY VALUE ...]

On several GPUs: torchrun --nproc_per_node 4 test.py --cfg config.yaml initial PATH_TO_MODEL [KEY VALUE ...]
"""

import libs.core.threads  # noqa: F401  before torch

# isort: split
import warnings
from functools import reduce
from pathlib import Path

from yacs.config import CfgNode

from dataset.build import readable_videos
from dataset.submission import TOP_LEVEL, UNKNOWN_FORM, Expected, check_expected, make_zip
from libs.app.build import (
    build_device,
    build_model,
    cache_folder,
    for_inference,
    inference_settings,
    result_folder,
)
from libs.app.fingerprint import settings_fingerprint, warn_of_other_runs
from libs.app.script import SignalHandler, run_script
from libs.core.distributed import Processes, join_processes
from libs.core.errors import InputError, UnreadableError, named
from libs.core.log import Progress
from libs.core.named_weights import weights_file
from libs.core.structures import Video
from libs.evaluation.evaluator import Report, VideoSink, count_frames, evaluate_video, share_videos
from libs.evaluation.inference import VideoSegmenter
from libs.evaluation.results import ResultFolder, report_results
from models.stm import STM

DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main(cfg: CfgNode, signals: SignalHandler) -> None:
    """Segment the videos of `valset` under an exclusive lock on the result folder."""
    processes = join_processes("gloo", cfg.init_method)  # they exchange scores, and no tensors of a GPU
    with processes.together():
        check_keys(cfg)
        if processes.local_rank == 0:
            weights_file(cfg.initial)  # one process of a machine downloads them, if need be
    with processes.together():
        videos, failed = readable_videos(
            Path(cfg.root),
            cfg.valset,
            cfg.val_split,
            cfg.given_masks,
            print,
            cfg.davis_resolution,
            cache_folder(cfg.index_cache),
        )
        fingerprint = settings_fingerprint(dict(cfg), weights_file(cfg.initial))
        folder = ResultFolder(result_folder(cfg), fingerprint, cfg.save_indexed_format, cfg.submission)
    processes.check_agreement([fingerprint], "the same weights and keys on all machines", False)
    found = [f"{video.name} ({video.length} frames)" for video in videos]
    processes.check_agreement(found, f"the same readable videos below {cfg.root} on all machines")
    with folder.locked(processes):
        all_failed = failed + test(cfg, videos, folder, failed, processes)
    with processes.together():
        if all_failed:
            raise InputError(
                f"{len(all_failed)} of {len(videos) + len(failed)} videos failed, as warned above: "
                f"{named(all_failed)}; mend them and run again, with `skip_done True` for them alone"
            )
    processes.leave()


def check_keys(cfg: CfgNode) -> None:
    """Raises: InputError naming keys that exclude each other, or the missing one."""
    if not cfg.initial:
        raise InputError(
            "key 'initial': expected trained weights; give a file as `initial PATH_TO_MODEL`, "
            "or try `initial shipped`"
        )
    if cfg.backward and cfg.submission:
        raise InputError(
            "key 'backward': the server expects no object before its first mask; leave out backward or "
            "submission"
        )


def test(
    cfg: CfgNode, videos: list[Video], folder: ResultFolder, unreadable: list[str], processes: Processes
) -> list[str]:
    """Segment all pending videos, write masks and print scores. Processes divide the videos among them.

    Args:
        unreadable: names of the set's other videos; a submission is made only if there are none.
    Returns: names of the videos that failed.
    """
    with processes.together():
        device = build_device(cfg.gpu_id, cfg.multi_gpu_ids, processes)
        model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    earlier, pending = find_pending(cfg, videos, folder, processes)
    new = segment(cfg, model, pending, folder, processes)
    # All processes know the results of all; the main one writes what there is only one of.
    new = reduce(Report.beside, processes.gather(new))
    folder.masks = {name: masks for own in processes.gather(folder.masks) for name, masks in own.items()}
    report = earlier.then(new).ordered([video.name for video in videos])
    with processes.together():
        if processes.is_main:
            print(f"{new.frames} frames segmented, masks written below {folder.path}")
            report_results(report, folder.path)
            folder.warn_of_leftovers([*(video.name for video in videos), *unreadable])
            if cfg.submission and not unreadable and not report.failed:
                pack(folder.path, cfg.valset, folder.masks)
            print(new.speed(processes.world_size))
    return [name for name, _ in report.failed]


def find_pending(
    cfg: CfgNode, videos: list[Video], folder: ResultFolder, processes: Processes
) -> tuple[Report, list[Video]]:
    """Find out which videos are pending, and print a line for each.

    Returns: the report on the others, which an earlier run has finished, in the main process; the pending
        ones.
    """
    report, pending = Report(), videos
    with processes.together():
        if processes.is_main:
            warn_of_other_runs(folder)
            if cfg.skip_done:
                report, pending = folder.resume(videos)
            if len(pending) < len(videos):
                done = len(videos) - len(pending)
                print(f"skip_done: {done} of {len(videos)} videos are there from an earlier run")
            for video in pending:
                print(video.describe(cfg.backward))
    names = processes.gather({video.name for video in pending})[0]
    return report, [video for video in videos if video.name in names]


def segment(
    cfg: CfgNode, model: STM, pending: list[Video], folder: ResultFolder, processes: Processes
) -> Report:
    """Segment this process's part of the pending videos, and report on them."""
    settings, own = inference_settings(cfg), share_videos(pending, processes.world_size)[processes.rank]
    folder.start(own)
    report, progress = Report(), Progress("test", count_frames(own), "frame", shown=processes.is_main)
    for video in own:
        sink = VideoSink(video, folder.write, cfg.score_copy)
        try:
            result = evaluate_video(VideoSegmenter(model, settings), sink, progress)
        except UnreadableError as error:  # one video that cannot be read must not stop the others
            warnings.warn(f"video '{video.name}' failed: {error}", stacklevel=2)
            result = Report(failed=[(video.name, str(error))])
        else:
            folder.finish(video, result)
        report = report.then(result)
    return report


def pack(output: Path, valset: str, written: Expected) -> None:
    """Check the masks and make the zip that the data set's server expects."""
    errors = check_expected(output, written)
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{more}; no zip was made")
    target = make_zip(output, output.with_suffix(".zip"), TOP_LEVEL.get(valset, ""), written)
    print(f"for the server: {target}")
    if valset in UNKNOWN_FORM:
        print(f"it holds <video>/<frame>.png; the form that the server of {valset} expects is not known here")


if __name__ == "__main__":
    run_script(main, __doc__, DEFAULT_CFG)
