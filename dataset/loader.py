"""The PIL back end: clips for training, loaded by worker processes. The DALI back end has the same interface."""

import re
import signal
from collections.abc import Iterator

import cv2
from torch.utils.data import DataLoader, get_worker_info

from dataset.clips import ClipLoader, ClipSampler
from libs.core.errors import LOADER_DIED, InputError
from libs.core.structures import Clip


class PilLoader(ClipLoader):
    """Clips loaded by `workers` processes; 0 loads in this one."""

    def _load(self, sampler: ClipSampler, shares: list[list[int]]) -> Iterator[list[Clip]]:
        try:
            yield from DataLoader(
                sampler,
                batch_sampler=shares,
                num_workers=self.workers,
                collate_fn=_hand_over,
                worker_init_fn=_start_worker,
            )
        except (
            InputError,
            OSError,
            EOFError,
        ) as error:  # a worker's has its traceback in its text, and holds on to the workers
            line = (
                LOADER_DIED
                if self.workers and _gone(error)
                else re.sub(r"^libs\.core\.errors\.\w+: ", "", str(error).strip().split("\n")[-1])
            )
            raise InputError(line) from error.with_traceback(None)


def _gone(error: Exception) -> bool:
    """Whether it arose on the way to a process that is no more; what a worker hands over of its own has no number."""
    return (
        isinstance(error, EOFError)
        or isinstance(error, (ConnectionError, FileNotFoundError))
        and error.errno is not None
    )


def _hand_over(clips: list[Clip]) -> list[Clip]:
    """Into shared memory where it is a worker that made them: here, as later nobody would hear of it that there was no room."""
    if get_worker_info():
        for clip in clips:
            clip.frames.share_memory_()
            clip.labels.share_memory_()
    return clips


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # what reaches the whole group, as Ctrl-C does; it is the script that ends them
        signal.signal(number, signal.SIG_IGN)
