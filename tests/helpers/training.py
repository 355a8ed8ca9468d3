"""A training run small enough for unit tests: clips of one colour, a model of one number, a log in lists."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import libs.training.trainer
from libs.app.build import settings_from
from libs.app.defaults import DEFAULTS
from libs.core.structures import Clip
from libs.evaluation.evaluator import Report
from libs.evaluation.scores import VideoScores
from libs.method.objective import Batch, Losses
from libs.training.optim import Schedule, build_optimizer, build_scheduler
from libs.training.run import RunSettings, TrainingRun
from libs.training.trainer import StepSettings, Trainer

SMALL = {"keydim": 8, "valdim": 8, "decoder_dim": 8}


def clip(value: float, length: int = 2, num_objects: int = 1, size: tuple[int, int] = (2, 2)) -> Clip:
    """A clip whose every pixel is `value`; object 1 is its left half."""
    labels = torch.zeros(length, *size, dtype=torch.uint8)
    labels[..., : size[1] // 2] = 1
    return Clip(f"clip of {value}", torch.full((length, 3, *size), float(value)), labels, num_objects)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Batches:
    """A loader of the same batches in each epoch; each batch takes `seconds` on `clock`."""

    def __init__(self, *batches: list[Clip], clock: Clock | None = None, seconds: float = 0.0) -> None:
        self.contents, self.max_skip = batches, [5, 3]
        self.epochs_asked: list[int] = []
        self.clock, self.seconds = clock or Clock(), seconds

    def __len__(self) -> int:
        return len(self.contents)

    def clips_in_step(self, step: int) -> int:
        return len(self.contents[step])

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        self.epochs_asked.append(epoch)
        for clips in self.contents[start:]:
            self.clock.now += self.seconds
            yield clips

    def grow_max_skip(self) -> None:
        self.max_skip = [self.max_skip[0] + 5, self.max_skip[1] + 1]


class Log:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.recorded: list[str] = []
        self.values: list[tuple[int, dict[str, float]]] = []
        self.images: list[tuple[int, tuple[int, ...]]] = []

    def info(self, line: str) -> None:
        self.lines.append(line)

    def record(self, line: str) -> None:
        self.recorded.append(line)

    def scalars(self, step: int, **values: float) -> None:
        self.values.append((step, values))

    def image(self, step: int, name: str, image: np.ndarray, path: Path) -> None:
        self.images.append((step, image.shape))

    def of(self, name: str) -> list[float]:
        """All values of one scalar, in order."""
        return [values[name] for _, values in self.values if name in values]


class Weight(nn.Module):
    """A single number w; its loss, see `use_linear_loss`, is w times the mean of the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))


def use_linear_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the network's loss by w times the mean of the frames, so that the gradient is that mean."""

    def losses(model: Weight, batch: Batch, *_: object, **__: object) -> Losses:
        total = model.w * batch.frames.mean()
        return Losses(total.detach(), torch.zeros(()), total, 1, 3, torch.zeros(()))

    monkeypatch.setattr(libs.training.trainer, "training_losses", losses)


def training_run(
    folder: Path,
    loader: Batches,
    model: nn.Module | None = None,
    *,
    rate: float = 1.0,
    milestones: tuple[int, ...] = (),
    solver: str = "sgd",
    validate: Callable[[nn.Module], Report] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    **changes: object,
) -> TrainingRun:
    """A run of `loader`'s batches; `changes` are fields of StepSettings and RunSettings."""
    step = settings_from(StepSettings, {**DEFAULTS, "iter_size": 1, **changes})
    # One epoch, one checkpoint, and nothing else that takes time.
    few = {"epochs": 1, "epoch_per_test": 0, "epoch_per_sheet": 0, "keep": 1}
    path = folder / f"{step.mode}.pth.tar"
    run = settings_from(RunSettings, {**DEFAULTS, **few, **changes}, path=path)
    model = model or Weight()
    optimizer = build_optimizer(model.parameters(), solver, rate, (0.0, 0.999), 0.0)
    schedule = Schedule(kind="milestones", epochs=run.epochs, milestones=milestones)
    scheduler = build_scheduler(optimizer, schedule, -(-len(loader) // step.iter_size))
    return TrainingRun(
        Trainer(model, optimizer, scheduler, step),
        loader,
        run,
        Log(),
        validate=validate,
        stop_requested=stop_requested,
        clock=loader.clock,
    )


def reports(*scores: float | None) -> Callable[[nn.Module], Report]:
    """A validation that gives one J&F after the other; None: there is no ground truth.

    Its attribute `modes` lists whether the model was in training mode.
    """
    waiting = list(scores)

    def validate(model: nn.Module) -> Report:
        validate.modes.append(model.training)
        score = waiting.pop(0)
        if score is None:
            return Report(frames=5, seconds=1.0)
        values = (np.full(3, score),)
        return Report(scores=[VideoScores("v", (1,), values, values, (("00000",),))], frames=5, seconds=1.0)

    validate.modes = []
    return validate


def same(one: object, other: object) -> bool:
    """Whether two nested structures of tensors and plain values are equal to the last bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
