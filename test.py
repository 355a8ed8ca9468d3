"""Segment and score videos: python3 test.py --cfg config.yaml initial PATH_TO_MODEL [KEY VALUE ...]"""

from pathlib import Path
from statistics import mean

from dataset.loader import test_videos
from dataset.submission import TOP_LEVEL, Expected, check, make_zip
from libs.build import build_device, build_model, for_inference, inference_settings
from libs.config import parse_arguments
from libs.evaluator import Report, evaluate
from libs.log import run_script
from libs.scores import format_table, write_csv, write_rows
from libs.structures import InputError, Prediction, Video
from libs.visualize import save

DRIFT = 0.5  # IoU below which a video is named
DEFAULT_CFG = Path(__file__).with_name("config.yaml")


def main() -> None:
    """Read the config, build the parts, segment every video of `valset`, write masks, print scores."""
    cfg = parse_arguments(__doc__, DEFAULT_CFG)
    if not cfg.initial:
        raise InputError("key 'initial': expected trained weights; give a file as `initial PATH_TO_MODEL`, or try `initial shipped`")
    root = Path(cfg.root)
    videos = test_videos(root, cfg.valset, cfg.val_split)
    output = root / cfg.output_dir / cfg.valset
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    settings = inference_settings(cfg, object_probs=cfg.save_indexed_format == "heatmap")

    written: Expected = {}

    def write(video: Video, prediction: Prediction) -> None:
        """Write one mask, with the data set's own labels."""
        if prediction.frame.submitted or not cfg.submission:
            written.setdefault(video.name, {})[prediction.frame.name] = set(video.ids)
            save(output / video.name / f"{prediction.frame.name}.png", prediction.with_ids(video.ids), cfg.save_indexed_format)

    report = evaluate(model, videos, settings, write, cfg.score_copy)
    print(f"{report.frames} frames segmented, masks written below {output}")
    print_scores(report, output / "scores.csv")
    print_drift(report, output / "drift.csv")
    if report.corrections:
        write_rows(output / "corrections.csv", report.corrections)
        print(f"what gradient correction did to each frame is in {output / 'corrections.csv'}")
    if cfg.submission:
        pack(output, cfg.valset, written)
    print(report.speed())


def pack(output: Path, valset: str, written: Expected) -> None:
    """Check the masks and make the zip that the data set's server expects."""
    faults = check(output, expected=written)
    if faults:
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}; no zip was made")
    print(f"for the server: {make_zip(output, output.with_suffix('.zip'), TOP_LEVEL.get(valset, ''))}")


def print_scores(report: Report, csv: Path) -> None:
    """Table of J, F and J&F, and the same as CSV; a plain statement where there is no ground truth."""
    if report.scores:
        print(format_table(report.summary, report.references))
        write_csv(csv, report.summary, report.references)
        print(f"scores written to {csv}")
    if report.unscored:
        print(f"no ground truth to score {', '.join(report.unscored)}: only the given masks are there")


def print_drift(report: Report, csv: Path) -> None:
    """How much of each video's latest given mask is found again from its last frame, and which videos to look at."""
    if not report.round_trips:
        return
    write_rows(csv, report.round_trips)
    lost = [f"{row.video} ({row.iou:.2f})" for row in report.round_trips if row.iou < DRIFT]
    print(f"IoU of the given mask with itself, predicted back from the last frame: mean {mean(r.iou for r in report.round_trips):.2f}, in {csv}")
    if lost:
        print(f"below {DRIFT}, which means that the objects are gone or the masks have drifted: {', '.join(lost)}")


if __name__ == "__main__":
    run_script(main)
