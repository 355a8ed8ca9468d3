"""Validation: all processes share the videos; masks go where test.py writes them, as in the original."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path

from libs.core.distributed import Processes
from libs.core.errors import FolderBusyError
from libs.core.log import Progress, RunLog
from libs.core.structures import Video
from libs.evaluation.evaluator import Report, Writer, count_frames, evaluate, share_videos
from libs.evaluation.inference import InferenceSettings
from libs.evaluation.results import ResultFolder
from models.stm import STM


def validate(
    model: STM,
    videos: list[Video],
    settings: InferenceSettings,
    folder: Path | None,
    *,
    processes: Processes,
    log: RunLog,
) -> Report:
    """Segment this process's part of the videos, and report on those of all processes.

    Args:
        model: in evaluation mode.
        folder: where the masks are written; None writes none.
    """
    own_videos = share_videos(videos, processes.world_size)[processes.rank]
    frames, shown = count_frames(own_videos), processes.is_main
    progress = Progress("validate", frames, "frame", record=log.record, shown=shown)
    with _mask_writer(folder, videos, processes) as write:
        own_report = evaluate(model, own_videos, settings, write, progress=progress)
    report = reduce(Report.beside, processes.gather(own_report))
    return report.ordered([video.name for video in videos])


@contextmanager
def _mask_writer(folder: Path | None, videos: list[Video], processes: Processes) -> Iterator[Writer | None]:
    """Lock the result folder and yield a function that writes a mask into it; None if no masks are written.

    Warns if another run holds the lock: training must not end because test.py is running. Removes the
    completion records of the videos, as they would no longer be true.
    """
    if folder is None:
        yield None
        return
    results = ResultFolder(folder, fingerprint="")
    with ExitStack() as lock:
        is_free = True
        if processes.is_main:  # one lock for all processes
            try:
                lock.enter_context(results.locked())
            except FolderBusyError as error:
                warnings.warn(f"{error}; the masks of this validation are not written", stacklevel=3)
                is_free = False
        is_free = processes.gather(is_free)[0]
        if is_free:
            results.start(videos)
        yield results.write if is_free else None
        processes.gather(None)  # hold the lock until the slowest process has written its last mask
