"""Which clips come in which step, and the PIL back end. dataset/dali.py is the other back end."""

import os
import re
import signal
import warnings
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace

import cv2
from torch.utils.data import DataLoader, get_worker_info

from dataset.clips import ClipSampler
from dataset.sampling import ClipSettings, TrainingSet, increase_max_skip
from libs.core.errors import LOADER_DIED, InputError
from libs.core.structures import Clip


@dataclass
class ClipLoader:
    """What both back ends share: which clips come in which step (see `libs.core.structures.Loader`).

    Step n of an epoch holds the same clips for every number of workers and processes, because a clip depends
    on its seed, epoch and position alone. `world_size` processes take `train_batch` clips of it each.

    workers: loader processes (PIL) or threads (DALI). rank, world_size: of the training processes.
    """

    sets: list[TrainingSet]
    settings: ClipSettings
    _: KW_ONLY
    workers: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        self.max_skip = list(self.settings.max_skip)  # grows; a resumed run sets it

    def __len__(self) -> int:
        """Steps in an epoch."""
        full, rest = divmod(self.clips_in_epoch, self._clips_per_step)
        return full + (rest > 0)  # the last step may have fewer clips

    @property
    def clips_in_epoch(self) -> int:
        """Clips of all processes together."""
        return self.settings.samples_per_video * sum(data.freq * len(data.videos) for data in self.sets)

    def clips_in_step(self, step: int) -> int:
        """Clips of one step of all processes together; the last step may have fewer."""
        return min(self._clips_per_step, self.clips_in_epoch - step * self._clips_per_step)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        """Yield this process's clips of each step from step `start` on.

        The clips of a step may differ in length and in number of objects.

        Raises: InputError naming a file that cannot be read.
        """
        sampler = self.sampler(epoch)
        steps = []
        for first in range(start * self._clips_per_step, len(sampler), self._clips_per_step):
            own = first + self.rank * self.settings.train_batch
            # In the last step, some processes may have fewer clips or none.
            steps.append(list(range(own, min(own + self.settings.train_batch, len(sampler)))))
        yield from self._load(sampler, steps)

    def grow_max_skip(self) -> None:
        """One increment of the curriculum; takes effect in the next epoch."""
        self.max_skip = [
            increase_max_skip(skip, data.skip_step) for skip, data in zip(self.max_skip, self.sets)
        ]

    def sampler(self, epoch: int) -> ClipSampler:
        """The clips of one epoch, with the `max_skip` of now."""
        scales = self.settings.scales
        if epoch < self.settings.coarse_epochs:
            scales = (min(scales),)
        settings = replace(self.settings, max_skip=tuple(self.max_skip), scales=scales)
        return ClipSampler(self.sets, settings, epoch, self.world_size)

    @property
    def _clips_per_step(self) -> int:
        return self.settings.train_batch * self.world_size

    def _load(self, sampler: ClipSampler, steps: list[list[int]]) -> Iterator[list[Clip]]:
        """Yield the clips at the positions of each step."""
        raise NotImplementedError


class PilLoader(ClipLoader):
    """Clips loaded by `workers` processes; 0 loads them in this process. Warns if there are too many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        cores = _count_cores()
        if self.workers > cores:
            warnings.warn(
                f"key 'workers': {self.workers} loader processes share {cores} CPU cores, which is slow and "
                f"takes more memory; set workers {cores} or less",
                stacklevel=2,
            )

    def _load(self, sampler: ClipSampler, steps: list[list[int]]) -> Iterator[list[Clip]]:
        try:
            with warnings.catch_warnings():
                # Torch's warning of too many workers does not name the key, as the one above does.
                warnings.filterwarnings("ignore", "This DataLoader will create")
                loader = DataLoader(
                    sampler,
                    batch_sampler=steps,
                    num_workers=self.workers,
                    collate_fn=_share_memory,
                    worker_init_fn=_start_worker,
                )
                clips = iter(loader)  # starts the workers
            yield from clips
        except (InputError, OSError, EOFError) as error:
            line = LOADER_DIED if self.workers and _worker_died(error) else _last_line(error)
            # Drop the traceback: it would keep the workers alive.
            raise InputError(line) from error.with_traceback(None)


def _count_cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _last_line(error: Exception) -> str:
    """The message of an error; torch puts a worker's whole traceback before it."""
    return re.sub(r"^libs\.core\.errors\.\w+: ", "", str(error).strip().split("\n")[-1])


def _worker_died(error: Exception) -> bool:
    """Whether an error arose while talking to a worker that has died.

    Such an error has an errno. One that a living worker raised and handed over has none.
    """
    if isinstance(error, EOFError):
        return True
    return isinstance(error, (ConnectionError, FileNotFoundError)) and error.errno is not None


def _share_memory(clips: list[Clip]) -> list[Clip]:
    """In a worker, move the clips to shared memory.

    Torch would do this later in a thread of its own, where an error (no room in shared memory) goes
    unnoticed.
    """
    if get_worker_info():
        for clip in clips:
            clip.frames.share_memory_()
            clip.labels.share_memory_()
    return clips


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
    # Ctrl-C reaches the whole process group; the main process decides when the workers end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
