"""Segment and score videos: python3 test.py --cfg config.yaml initial PATH_TO_MODEL [KEY VALUE ...]"""

from pathlib import Path

from yacs.config import CfgNode

from dataset.loader import readable_videos
from dataset.submission import TOP_LEVEL, Expected, check, make_zip
from libs.build import build_device, build_model, for_inference, inference_settings, result_folder
from libs.evaluator import Report, evaluate
from libs.files import only_run
from libs.named_weights import weights_file
from libs.results import Notes, forget, recipe, tell
from libs.script import StopSign, run_script
from libs.structures import InputError, Prediction, Video
from libs.visualize import save

LISTED = 10  # failed videos that are named at the end
DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main(cfg: CfgNode, sign: StopSign) -> None:
    """Segment every video of `valset` into a folder that no other run writes to."""
    if not cfg.initial:
        raise InputError("key 'initial': expected trained weights; give a file as `initial PATH_TO_MODEL`, or try `initial shipped`")
    videos, failed = readable_videos(Path(cfg.root), cfg.valset, cfg.val_split)
    count, output = len(videos) + len(failed), result_folder(cfg)
    with only_run(output, output.with_suffix(".zip")):
        failed += test(cfg, videos, output, complete=not failed)
    if failed:
        told = ", ".join(failed[:LISTED]) + (" ..." if len(failed) > LISTED else "")
        raise InputError(f"{len(failed)} of {count} videos failed, as warned above: {told}; mend them and run again, with `skip_done True` for them alone")


def test(cfg: CfgNode, videos: list[Video], output: Path, complete: bool) -> list[str]:
    """Build the parts, segment what is to be segmented, write masks, print scores; the names of the videos that failed.

    complete: whether these are all videos, without which there is no submission.
    """
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    settings = inference_settings(cfg, object_probs=cfg.save_indexed_format == "heatmap")
    notes = Notes(output, recipe(dict(cfg), weights_file(cfg.initial)))
    written, report = _earlier(notes, videos) if cfg.skip_done else ({}, Report())
    left = [video for video in videos if video.name not in written]
    if len(left) < len(videos):
        print(f"skip_done: {len(videos) - len(left)} of {len(videos)} videos are there from an earlier run")
    if left:
        forget(output)
    for video in left:
        notes.forget(video.name)
        written[video.name] = {}

    def write(video: Video, prediction: Prediction) -> None:
        """Write one mask, with the data set's own labels."""
        if prediction.frame.submitted or not cfg.submission:
            written[video.name][prediction.frame.name] = set(video.ids)
            save(output / video.name / f"{prediction.frame.name}.png", prediction.with_ids(video.ids), cfg.save_indexed_format)

    def done(video: Video, own: Report) -> None:
        """Note that a video is finished."""
        notes.write(video.name, written[video.name], own)

    new = evaluate(model, left, settings, write, cfg.score_copy, done=done, tolerant=True)
    speed, report = new.speed(), report + new
    print(f"{new.frames} frames segmented, masks written below {output}")
    tell(report, output)
    if cfg.submission and complete and not report.failed:
        pack(output, cfg.valset, written)
    print(speed)
    return [name for name, _ in report.failed]


def _earlier(notes: Notes, videos: list[Video]) -> tuple[Expected, Report]:
    """The masks and the reports of the videos that an earlier run has finished."""
    found = {video.name: note for video in videos if (note := notes.read(video.name))}
    return {name: frames for name, (frames, _) in found.items()}, sum((own for _, own in found.values()), start=Report())


def pack(output: Path, valset: str, written: Expected) -> None:
    """Check the masks and make the zip that the data set's server expects."""
    faults = check(output, expected=written)
    if faults:
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}; no zip was made")
    print(f"for the server: {make_zip(output, output.with_suffix('.zip'), TOP_LEVEL.get(valset, ''))}")


if __name__ == "__main__":
    run_script(main, __doc__, DEFAULT_CFG)
