"""Files that a person may download: masks, videos with overlays, COCO, a data set to train on."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from demo.web.h264 import H264Writer
from demo.web.loaded_video import LoadedVideo
from demo.web.session import Session
from libs.core.errors import InputError, counted
from libs.core.files import atomic_write
from libs.evaluation.outputs import CocoFile
from libs.evaluation.visualize import GifWriter, Mp4Writer, overlay

LONGEST_GIF = 200  # frames; they are held in memory

Progress = Callable[[int, int], None]  # frames done, frames in all


def save_masks(session: Session, target: Path, progress: Progress) -> str:
    """Pack <video>/<frame>.png, palette PNGs of the labels."""
    times = _times(session)
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for done, t in enumerate(times):
            archive.writestr(f"{session.video.name}/{session.video.names[t]}.png", session.packed_mask(t))
            progress(done, len(times))
    return counted(len(times), "mask")


def save_mp4(session: Session, target: Path, progress: Progress) -> str:
    """Write a video (H.264) with overlays of all frames that have masks."""
    return _animate(session, H264Writer(target, session.video.fps), _times(session), progress)


def save_gif(session: Session, target: Path, progress: Progress) -> str:
    """Write a GIF with overlays; of a long video, with every n-th frame."""
    times = _times(session)
    step = -(-len(times) // LONGEST_GIF)
    written = _animate(session, GifWriter(target, session.video.fps / step), times[::step], progress)
    return written if step == 1 else f"{written}, one of every {step}"


def save_coco(session: Session, target: Path, progress: Progress) -> str:
    """Write a COCO data set in one JSON file, as `save_indexed_format coco` does."""
    times = _times(session)
    output = CocoFile(target.parent, target.stem, "coco")
    for done, t in enumerate(times):
        output.write(session.prediction(t))
        progress(done, len(times))
    output.finish()
    return counted(len(times), "frame")


def save_folder(session: Session, target: Path, progress: Progress) -> str:
    """Pack a data set FOLDER: <video>/JPEGImages/<video>/ and <video>/Annotations/<video>/."""
    video, times = session.video, _times(session)
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for done, t in enumerate(times):
            frame = video.frames[t]
            archive.writestr(f"{video.name}/JPEGImages/{video.name}/{frame.name}", frame.read_bytes())
            mask = f"{video.name}/Annotations/{video.name}/{video.names[t]}.png"
            archive.writestr(mask, session.packed_mask(t))
            progress(done, len(times))
    left_out = len(video) - len(times)
    return counted(len(times), "frame") + (f", {left_out} without a mask left out" if left_out else "")


# What is shown on the page -> name of the file, and what writes it. The latter returns what it has written.
DOWNLOADS: dict[str, tuple[str, Callable[[Session, Path, Progress], str]]] = {
    "masks (zip of PNG)": ("{}_masks.zip", save_masks),
    "overlay video (MP4)": ("{}.mp4", save_mp4),
    "overlay GIF": ("{}.gif", save_gif),
    "COCO (JSON)": ("{}_coco.json", save_coco),
    "data set for train.py (zip)": ("{}_folder.zip", save_folder),
}


def save(session: Session, kind: str, progress: Progress = lambda done, total: None) -> tuple[Path, str]:
    """Write a file of one kind, a key of DOWNLOADS. Returns: the file, and what is in it.

    Raises: InputError if there are no masks, or if the file cannot be written.
    """
    if kind not in DOWNLOADS:
        raise InputError(f"'{kind}': expected one of {', '.join(DOWNLOADS)}")
    name, write = DOWNLOADS[kind]
    with session.keep_video():
        target = session.place / "downloads" / name.format(session.video.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        written = write(session, target, progress)
        stale = len(session.marks.stale)
    return target, written + (f", {stale} from before the latest change" if stale else "")


def _times(session: Session) -> list[int]:
    """Numbers of the frames that have masks, in order.

    Raises: InputError if there is none.
    """
    video: LoadedVideo = session.video
    times = [t for t in range(len(video)) if t in session.marks.labels.times]
    if not times:
        raise InputError("there are no masks yet; mark an object and track it")
    return times


def _animate(
    session: Session, writer: GifWriter | Mp4Writer | H264Writer, times: list[int], progress: Progress
) -> str:
    """Write overlays of these frames."""
    with writer:
        for done, t in enumerate(times):
            prediction = session.prediction(t)
            writer.add(overlay(prediction.frame.image, prediction.labels))
            progress(done, len(times))
    return counted(len(times), "frame")
