"""Segment one's own video: python3 demo/demo.py --cfg demo/demo.yaml [video_path FRAMES_OR_VIDEO mask_path MASK initial MODEL]"""

import sys
from pathlib import Path

from yacs.config import CfgNode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the packages lie beside this folder

from dataset.folder import single_video  # noqa: E402
from dataset.video import open_video  # noqa: E402
from libs.app.build import build_device, build_model, for_inference, inference_settings  # noqa: E402
from libs.app.script import SignalHandler, run_script  # noqa: E402
from libs.core.files import exclusive_run  # noqa: E402
from libs.core.image_io import write_image  # noqa: E402
from libs.core.errors import InputError  # noqa: E402
from libs.core.log import Progress  # noqa: E402
from libs.core.structures import Prediction, Video  # noqa: E402
from libs.evaluation.evaluator import VideoSink, evaluate_video  # noqa: E402
from libs.evaluation.inference import VideoSegmenter  # noqa: E402
from libs.evaluation.scores import format_table  # noqa: E402
from libs.evaluation.visualize import GifWriter, Mp4Writer, render, round_trip_image, save  # noqa: E402


def main(cfg: CfgNode, signals: SignalHandler) -> None:
    """Segment the video into a folder that no other run writes to: a picture a frame, and a GIF or MP4 of all of them."""
    for key in ("initial", "video_path", "mask_path"):
        if not cfg[key]:
            raise InputError(f"key '{key}': expected a path; give one as `{key} PATH`")
    video_path, mask_path = _located(cfg.video_path), _located(cfg.mask_path)
    index = single_video(video_path, mask_path)
    paths = {"video_path": video_path, "mask_path": mask_path}
    sample = [key for key, path in paths.items() if path.resolve().is_relative_to(HERE / "sample")]
    if len(sample) == 1:
        raise InputError(
            f"key '{sample[0]}': expected your own as well, as the other one is not of the bundled clip"
        )
    video = open_video(index)
    folder = Path(cfg.output_dir) / video.name
    film, picture = (
        folder.parent / f"{video.name}.{cfg.demo_format}",
        folder.parent / f"{video.name}_round_trip.png",
    )
    if folder.resolve() in (video_path.resolve(), mask_path.resolve(), mask_path.resolve().parent):
        raise InputError(f"key 'output_dir': {folder} holds the demo's input; give another folder")
    with exclusive_run(folder, film, picture):
        picture.unlink(missing_ok=True)  # not every run makes one
        show(cfg, video, folder, film, picture)


def _located(path: str) -> Path:
    """A path of the config: below the working directory, or, where there is nothing, below the project's folder."""
    beside = HERE.parent / path
    return beside if beside.exists() and not Path(path).exists() else Path(path)


def show(cfg: CfgNode, video: Video, folder: Path, film: Path, picture: Path) -> None:
    """Build the parts and run them; `picture`: of the round trip."""
    device = build_device(cfg.gpu_id)
    model = for_inference(build_model(cfg, device)[0], cfg.amp, cfg.compile)
    style = cfg.save_indexed_format
    with (GifWriter if cfg.demo_format == "gif" else Mp4Writer)(film, cfg.fps) as writer:

        def write(video: Video, prediction: Prediction) -> None:
            """Write one picture, here and into the film."""
            named = prediction.with_ids(video.ids)
            save(folder / f"{prediction.frame.name}.png", named, style)
            writer.add(render(named, style))

        settings = inference_settings(cfg, object_probs=style == "heatmap")
        sink = VideoSink(video, write, cfg.score_copy)
        progress = Progress("demo", video.length, "frame")
        report = evaluate_video(VideoSegmenter(model, settings), sink, progress)
    if sink.returned:
        write_image(picture, round_trip_image(sink.returned.with_ids(video.ids)))
    print(f"{report.frames} pictures written to {folder}, all of them as {film}")
    for row in report.round_trips:
        print(
            f"the given mask and the same predicted back from the last frame, side by side: {picture}, IoU of {row.iou:.2f}"
        )
    if report.scores:
        print(format_table(report.summary, report.references))
    print(f"{report.speed()}, {report.seconds / report.frames:.2f} s a frame")


if __name__ == "__main__":
    run_script(main, __doc__, HERE / "demo.yaml", demo=True)
