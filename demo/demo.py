"""Segment a video of your own from the first masks of its objects.

python3 demo/demo.py [video_path FRAMES_OR_VIDEO mask_path MASK] [initial MODEL] [KEY VALUE ...]
Without arguments it segments the bundled clip with the model that ships.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # so that the demo starts from any folder

import libs.core.threads  # noqa: E402, F401  before torch

# isort: split
from dataset.folder import single_video  # noqa: E402
from dataset.video import open_video  # noqa: E402
from libs.app.build import build_device, build_model, for_inference, inference_settings  # noqa: E402
from libs.app.script import SignalHandler, run_script  # noqa: E402
from libs.core.errors import InputError  # noqa: E402
from libs.core.files import exclusive_run  # noqa: E402
from libs.core.image_io import write_image  # noqa: E402
from libs.core.log import Progress  # noqa: E402
from libs.core.structures import Prediction, Video  # noqa: E402
from libs.evaluation.curves import save_curves  # noqa: E402
from libs.evaluation.evaluator import Report, VideoSink, evaluate_video  # noqa: E402
from libs.evaluation.inference import VideoSegmenter  # noqa: E402
from libs.evaluation.leftovers import of_video, warn_of_leftovers  # noqa: E402
from libs.evaluation.outputs import VideoOutput, drawn_style, open_output  # noqa: E402
from libs.evaluation.scores import format_table  # noqa: E402
from libs.evaluation.visualize import GifWriter, Mp4Writer, render, round_trip_image  # noqa: E402


@dataclass(frozen=True)
class Outputs:
    """The files that the demo writes."""

    frames: VideoOutput  # what the key save_indexed_format says
    animation: Path  # all of them as GIF or MP4
    round_trip: Path  # the given mask beside the same mask, predicted back from the last frame
    curves: Path  # J and round trip IoU over time


def main(cfg: CfgNode, signals: SignalHandler) -> None:
    """Segment one video and write what was found in it."""
    # 1. Find the video and its mask. Report bad input before anything is loaded or written.
    for key in ("initial", "video_path", "mask_path"):
        if not cfg[key]:
            raise InputError(f"key '{key}': expected a path; give one as `{key} PATH`")
    video_path, mask_path = resolve_path(cfg.video_path), resolve_path(cfg.mask_path)
    index = single_video(video_path, mask_path)
    check_own_input(video_path=video_path, mask_path=mask_path)
    video = open_video(index, cfg.given_masks, announce=print)
    parent = Path(cfg.output_dir)
    folder = parent / video.name
    outputs = Outputs(
        frames=open_output(parent, video.name, cfg.save_indexed_format),
        animation=parent / f"{video.name}.{cfg.demo_format}",
        round_trip=parent / f"{video.name}_round_trip.png",
        curves=parent / f"{video.name}_curves.png",
    )
    check_own_folder(folder, video_path, mask_path)
    check_own_files([outputs.animation, outputs.round_trip, outputs.curves], video_path, mask_path)

    # 2. Segment it. No second run may write to the same files meanwhile.
    with exclusive_run(folder, outputs.frames.place, outputs.animation, outputs.round_trip, outputs.curves):
        print(video.describe(cfg.backward))
        for image in (outputs.round_trip, outputs.curves):
            image.unlink(missing_ok=True)  # left by an earlier run; this run need not write one
        report = segment(cfg, video, outputs)

    # 3. Print what was written and, if the video has further masks, how good it is.
    print(f"wrote {report.frames} frames to {outputs.frames.place}")
    print(f"wrote the animation {outputs.animation}")
    for row in report.round_trips:
        # Needs no ground truth: a low IoU means that the objects were lost on the way.
        print(f"predicted the given mask back from the last frame: IoU of {row.iou:.2f}")
        print(f"wrote both masks side by side to {outputs.round_trip}")
    if outputs.curves.exists():
        print(f"wrote a plot of how good the masks are over time to {outputs.curves}")
    if report.scores:
        print(format_table(report.summary, report.references))
    print(f"{report.speed()}, {report.seconds / report.frames:.2f} seconds per frame")


def resolve_path(path: str) -> Path:
    """Return a path in the working directory or, if there is none, the same path in the project's folder."""
    in_project = HERE.parent / path
    return in_project if in_project.exists() and not Path(path).exists() else Path(path)


def check_own_input(**paths: Path) -> None:
    """Check that either both paths belong to the bundled clip or none does.

    Both have a default, so that whoever gives only a video would get the mask of the bundled clip.

    Raises: InputError naming the key that was not given.
    """
    bundled = [key for key, path in paths.items() if path.resolve().is_relative_to(HERE / "sample")]
    if len(bundled) == 1:
        raise InputError(
            f"key '{bundled[0]}': is still that of the bundled clip; give the one of your own video"
        )


def check_own_folder(folder: Path, video: Path, mask: Path) -> None:
    """Check that the folder of the results is none of the input, nor lies within it.

    Raises: InputError naming the folder if it is or does.
    """
    within = folder.resolve()
    if within == mask.resolve().parent or any(within.is_relative_to(p.resolve()) for p in (video, mask)):
        raise InputError(
            f"key 'output_dir': {folder} holds the demo's input, or lies within it; give another folder"
        )


def check_own_files(written: Sequence[Path], video: Path, mask: Path) -> None:
    """Check that no file of the results is the video or the mask.

    Raises: InputError naming the file if one is.
    """
    for path in written:
        if path.resolve() in (video.resolve(), mask.resolve()):
            raise InputError(f"key 'output_dir': {path} is the demo's input; give another folder")


def segment(cfg: CfgNode, video: Video, outputs: Outputs) -> Report:
    """Load the model, segment the video frame by frame and write the frames as they come."""
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    settings, style = inference_settings(cfg), drawn_style(cfg.save_indexed_format)
    writer_type = GifWriter if cfg.demo_format == "gif" else Mp4Writer
    masks: dict[str, tuple[int, ...]] = {}
    with writer_type(outputs.animation, cfg.fps) as animation:

        def write(video: Video, prediction: Prediction) -> None:
            """Write one frame, and the next image of the animation."""
            masks[prediction.frame.name] = prediction.ids
            outputs.frames.write(prediction)
            animation.add(render(prediction, style))

        # The sink writes and scores in a thread of its own, while the network is busy with the next frame.
        sink = VideoSink(video, write, cfg.score_copy)
        progress = Progress("demo", video.length, "frame")
        report = evaluate_video(VideoSegmenter(model, settings), sink, progress)
    outputs.frames.finish()
    warn_of_leftovers(outputs.frames.folder, of_video(outputs.frames, masks))
    if sink.returned:
        write_image(outputs.round_trip, round_trip_image(sink.returned))
    save_curves(outputs.curves, report, list(masks))
    return report


if __name__ == "__main__":
    run_script(main, __doc__, HERE / "demo.yaml", demo=True)
