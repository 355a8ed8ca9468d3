"""Segment and score videos: python3 test.py --cfg config.yaml initial PATH_TO_MODEL [KEY VALUE ...]"""

import warnings
from pathlib import Path

from yacs.config import CfgNode

from dataset.build import readable_videos
from dataset.submission import TOP_LEVEL, Expected, check_expected, make_zip
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
from libs.core.errors import InputError, UnreadableError, named
from libs.core.log import Progress
from libs.core.named_weights import weights_file
from libs.core.structures import Video
from libs.evaluation.evaluator import Report, VideoSink, count_frames, evaluate_video
from libs.evaluation.inference import VideoSegmenter
from libs.evaluation.results import ResultFolder, report_results

DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main(cfg: CfgNode, signals: SignalHandler) -> None:
    """Segment the videos of `valset` under an exclusive lock on the result folder."""
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
    videos, failed = readable_videos(
        Path(cfg.root),
        cfg.valset,
        cfg.val_split,
        cfg.given_masks,
        print,
        cfg.davis_resolution,
        cache_folder(cfg.index_cache),
    )
    count = len(videos) + len(failed)
    fingerprint = settings_fingerprint(dict(cfg), weights_file(cfg.initial))
    folder = ResultFolder(result_folder(cfg), fingerprint, cfg.save_indexed_format, cfg.submission)
    with folder.locked():
        warn_of_other_runs(folder)
        failed += test(cfg, videos, folder, unreadable=failed)
    if failed:
        raise InputError(
            f"{len(failed)} of {count} videos failed, as warned above: {named(failed)}; "
            "mend them and run again, with `skip_done True` for them alone"
        )


def test(cfg: CfgNode, videos: list[Video], folder: ResultFolder, unreadable: list[str]) -> list[str]:
    """Segment all pending videos, write masks and print scores.

    Args:
        unreadable: names of the set's other videos; a submission is made only if there are none.
    Returns: names of the videos that failed.
    """
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    settings = inference_settings(cfg)
    report, pending = folder.resume(videos) if cfg.skip_done else (Report(), videos)
    if len(pending) < len(videos):
        print(
            f"skip_done: {len(videos) - len(pending)} of {len(videos)} videos are there from an earlier run"
        )
    for video in pending:
        print(video.describe(cfg.backward))
    folder.start(pending)
    new, progress = Report(), Progress("test", count_frames(pending), "frame")
    for video in pending:
        sink = VideoSink(video, folder.write, cfg.score_copy)
        try:
            own = evaluate_video(VideoSegmenter(model, settings), sink, progress)
        except UnreadableError as error:  # one video that cannot be read must not stop the others
            warnings.warn(f"video '{video.name}' failed: {error}", stacklevel=2)
            own = Report(failed=[(video.name, str(error))])
        else:
            folder.finish(video, own)
        new = new.then(own)
    print(f"{new.frames} frames segmented, masks written below {folder.path}")
    report = report.then(new)
    report_results(report, folder.path)
    folder.warn_of_leftovers([*(video.name for video in videos), *unreadable])
    if cfg.submission and not unreadable and not report.failed:
        pack(folder.path, cfg.valset, folder.masks)
    print(new.speed())
    return [name for name, _ in report.failed]


def pack(output: Path, valset: str, written: Expected) -> None:
    """Check the masks and make the zip that the data set's server expects."""
    errors = check_expected(output, written)
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{more}; no zip was made")
    target = make_zip(output, output.with_suffix(".zip"), TOP_LEVEL.get(valset, ""), written)
    print(f"for the server: {target}")


if __name__ == "__main__":
    run_script(main, __doc__, DEFAULT_CFG)
