"""Training runs: accumulation, schedules, validation, checkpoints, and going on from one bit for bit."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import libs.training.trainer
import train
from libs.app.config import load_config
from libs.app.script import SignalHandler
from libs.core.errors import InputError
from libs.core.structures import Clip
from libs.evaluation.evaluator import Report
from libs.evaluation.scores import VideoScores
from libs.method.objective import MODES, Batch, Losses
from libs.training.checkpoint import find_weights, latest_checkpoint, read_file
from libs.training.optim import build_optimizer, build_scheduler
from libs.training.trainer import Trainer, TrainSettings
from models.stm import STM
from tests.helpers import fake_datasets as trees

SMALL = {"keydim": 8, "valdim": 8, "decoder_dim": 8}


def clip(value: float, length: int = 2, num_objects: int = 1, size: tuple[int, int] = (2, 2)) -> Clip:
    """A clip whose every pixel is `value`; object 1 is its left half."""
    labels = torch.zeros(length, *size, dtype=torch.uint8)
    labels[..., : size[1] // 2] = 1
    return Clip(f"clip of {value}", torch.full((length, 3, *size), float(value)), labels, num_objects)


class Batches:
    """A loader of the same batches in each epoch."""

    def __init__(self, *batches: list[Clip]) -> None:
        self.contents, self.max_skip, self.asked = batches, [5, 3], []

    def __len__(self) -> int:
        return len(self.contents)

    def clips_in_step(self, step: int) -> int:
        return len(self.contents[step])

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Clip]]:
        self.asked.append(epoch)
        yield from self.contents[start:]

    def grow_max_skip(self) -> None:
        self.max_skip = [self.max_skip[0] + 5, self.max_skip[1] + 1]


class Log:
    def __init__(self) -> None:
        self.lines, self.values, self.images = [], [], []

    def info(self, line: str) -> None:
        self.lines.append(line)

    def scalars(self, step: int, **values: float) -> None:
        self.values.append((step, values))

    def image(self, step: int, name: str, picture: np.ndarray, path: Path) -> None:
        self.images.append((step, picture.shape))

    def of(self, name: str) -> list[float]:
        return [values[name] for _, values in self.values if name in values]


class Weight(nn.Module):
    """A single number, with which `linear` makes a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the network's loss: w times the mean of the frames, so that the gradient is that mean."""

    def losses(model: Weight, batch: Batch, **_: object) -> Losses:
        total = model.w * batch.frames.mean()
        return Losses(total.detach(), torch.zeros(()), total, 1, 3, torch.zeros(()))

    monkeypatch.setattr(libs.training.trainer, "training_losses", losses)


def settings(folder: Path, **changes) -> TrainSettings:
    values = {
        "epochs": 1,
        "iter_size": 1,
        "epochs_per_increment": 5,
        "epoch_per_test": 0,
        "mode": "recurrent",
        "loss": "both",
        "cycle": True,
        "iou_threshold": 0.65,
        "checkpoint": folder,
    }
    return TrainSettings(**{**values, **changes})


def trainer(
    folder: Path,
    loader: Batches,
    model: nn.Module | None = None,
    rate: float = 1.0,
    milestones: tuple[int, ...] = (),
    solver: str = "sgd",
    validate=None,
    **changes,
) -> Trainer:
    model = model or Weight()
    optimizer = build_optimizer(model.parameters(), solver, rate, (0.0, 0.999), 0.0)
    options = settings(folder, **changes)
    updates = -(-len(loader) // options.iter_size)
    scheduler = build_scheduler(optimizer, "milestones", options.epochs, updates, list(milestones), 0.1, 0.0)
    return Trainer(model, loader, optimizer, scheduler, options, Log(), validate)


def reports(*scores: float | None):
    """A validation that gives one J&F after the other; None: there is no ground truth. `seen` tells whether it saw training mode."""
    waiting = list(scores)

    def validate(model: nn.Module) -> Report:
        validate.seen.append(model.training)
        score = waiting.pop(0)
        values = np.full((1, 3), score if score is not None else 0.0)
        return Report(
            scores=[VideoScores("v", (1,), values, values)] if score is not None else [],
            frames=5,
            seconds=1.0,
        )

    validate.seen = []
    return validate


# ---- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "iter_size, updates",
    [(1, [1, 2, 4, 8, 16]), (2, [1.5, 6, 8]), (3, [7 / 3, 8]), (5, [31 / 5]), (8, [31 / 8])],
)
def test_gradients_are_accumulated_and_what_is_left_is_applied(
    tmp_path: Path, linear: None, iter_size: int, updates: list[float]
) -> None:
    """The original dropped what was left at the end of an epoch."""
    run = trainer(tmp_path, Batches(*([clip(v)] for v in (1, 2, 4, 8, 16))), iter_size=iter_size)
    steps = []
    step = run.optimizer.step
    run.scheduler.step = lambda: None  # it would complain of what comes
    run.optimizer.step = lambda: steps.append(run.model.w.grad.item()) or step()
    run.train_epoch()
    assert steps == pytest.approx(updates)
    assert run.model.w.item() == pytest.approx(-sum(updates))
    assert run.model.w.grad is None  # nothing leaks into the next epoch


def test_a_batch_is_the_mean_of_its_clips_whatever_their_lengths(tmp_path: Path, linear: None) -> None:
    """Clips of unequal length take separate passes."""
    run = trainer(tmp_path, Batches([clip(1, 2), clip(2, 3), clip(6, 3)]))
    run.train_epoch()
    means = run.totals.means()
    assert run.model.w.item() == pytest.approx(-3)
    assert means["loss"] == 0 and means["cycle_skipped"] == pytest.approx(0.75)


def test_a_batch_is_the_mean_of_its_clips_whatever_their_sizes(tmp_path: Path, linear: None) -> None:
    """Augmentation 'dali' does not pad: clips of unequal height or width take separate passes."""
    run = trainer(
        tmp_path, Batches([clip(1, 2, size=(4, 6)), clip(2, 2, size=(6, 4)), clip(6, 2, size=(4, 6))])
    )
    run.train_epoch()
    assert run.model.w.item() == pytest.approx(-3)
    assert run.totals.clips == 3


def test_the_network_trains_on_clips_of_two_sizes_in_one_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = STM("resnet18", **SMALL)
    run = trainer(tmp_path, Batches([clip(0.5, 2, 1, (32, 48)), clip(0.7, 2, 2, (48, 27))]), model, rate=1e-3)
    run.train_epoch()
    assert math.isfinite(run.totals.total) and run.totals.clips == 2


def test_clips_of_unequal_object_counts_share_a_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = STM("resnet18", **SMALL)
    run = trainer(tmp_path, Batches([clip(0.5, 2, 1, (32, 48)), clip(0.7, 2, 3, (32, 48))]), model, rate=1e-3)
    run.train_epoch()
    assert math.isfinite(run.totals.total)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, linear: None, value: float) -> None:
    """The original went on in silence."""
    run = trainer(tmp_path, Batches([clip(1)], [clip(value)]))
    run.model.w.data.fill_(1)
    with pytest.raises(InputError, match=f"epoch 1.*clip of {value}.*learning_rate"):
        run.run()
    assert [path.name for path in tmp_path.iterdir()] == ["stopped_0.pth.tar"]  # no checkpoint of it
    kept = read_file(tmp_path / "stopped_0.pth.tar")
    assert (
        kept["names"] == [f"clip of {value}"]
        and kept["frames"][0].shape == (2, 3, 2, 2)
        and kept["labels"][0].dtype == torch.uint8
    )


def test_minutes_are_looked_at_where_an_epoch_is_one_update_too(
    tmp_path: Path, linear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(libs.training.trainer.time, "perf_counter", lambda: float(next(clock)))
    run = trainer(tmp_path, Batches([clip(1)]), epochs=50, max_minutes=3.0)
    run.run()
    assert 1 <= run.epoch < 5 and run.step == 0 and "stopped after" in run.log.lines[-1]
    assert read_file(tmp_path / "recurrent.pth.tar")["epoch"] == run.epoch


def test_a_run_stops_saved_when_its_minutes_are_over_and_goes_on(
    tmp_path: Path, linear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 30))  # half a minute at each look
    monkeypatch.setattr(libs.training.trainer.time, "perf_counter", lambda: float(next(clock)))
    values = (1, 2, 4, 8, 16, 32)
    run = trainer(tmp_path, Batches(*([clip(v)] for v in values)), epochs=2, max_minutes=1.4, iter_size=2)
    run.run()
    assert (
        (run.epoch, run.step) == (0, 4)
        and "stopped after" in run.log.lines[-1]
        and "resume auto" in run.log.lines[-1]
    )
    assert run.model.w.item() == pytest.approx(-(1 + 2 + 4 + 8) / 2)
    state, path = latest_checkpoint(tmp_path / "recurrent.pth.tar")
    later = trainer(tmp_path, Batches(*([clip(v)] for v in values)), epochs=2, iter_size=2)
    later.model.load_state_dict(find_weights(state, path).state_dict)
    later.restore(state)
    later.run()
    assert later.model.w.item() == pytest.approx(-2 * sum(values) / 2)


# ---- schedules --------------------------------------------------------------------------------------------------------


def test_milestones_multiply_the_learning_rate_by_gamma(tmp_path: Path, linear: None) -> None:
    """The original multiplied by the rate itself."""
    run = trainer(tmp_path, Batches([clip(1)]), rate=0.5, milestones=(4, 2), epochs=6)
    run.run()
    assert run.log.of("learning_rate") == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
    assert run.model.w.item() == pytest.approx(-2 * (0.5 + 0.05 + 0.005))
    assert [step for step, _ in run.log.values] == [1, 2, 3, 4, 5, 6] and run.loader.asked == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_optimizers_are_as_the_config_says() -> None:
    parameters = [nn.Parameter(torch.ones(()))]
    adam = build_optimizer(parameters, "adam", 1e-5, (0.8, 0.99), 5e-4)
    assert type(adam) is torch.optim.Adam and adam.defaults["betas"] == (0.8, 0.99)
    sgd = build_optimizer(parameters, "sgd", 1e-5, (0.8, 0.99), 5e-4)
    assert type(sgd) is torch.optim.SGD and sgd.defaults["momentum"] == 0.8
    assert all(kind.defaults["lr"] == 1e-5 and kind.defaults["weight_decay"] == 5e-4 for kind in (adam, sgd))


def test_the_curriculum_grows_every_so_many_epochs(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), epochs=5, epochs_per_increment=2)
    run.run()
    assert run.log.of("max_skip__0") == [5, 5, 10, 10, 15] and run.log.of("max_skip__1") == [3, 3, 4, 4, 5]
    assert read_file(tmp_path / "recurrent.pth.tar")["max_skip"] == [15, 5]


# ---- validation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every, count", [(1, 5), (2, 3), (4, 2), (5, 1), (9, 1), (0, 0)])
def test_validation_comes_every_so_many_epochs_and_at_the_end(
    tmp_path: Path, linear: None, every: int, count: int
) -> None:
    validate = reports(*[0.5] * 5)
    trainer(tmp_path, Batches([clip(1)]), validate=validate, epochs=5, epoch_per_test=every).run()
    assert validate.seen == [False] * count  # in evaluation mode


def test_training_mode_is_back_after_validation(
    tmp_path: Path, linear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), validate=reports(0.5, 0.6), epochs=2, epoch_per_test=1)
    modes, losses = [], libs.training.trainer.training_losses
    monkeypatch.setattr(
        libs.training.trainer,
        "training_losses",
        lambda model, batch, **rest: modes.append(model.training) or losses(model, batch, **rest),
    )
    run.run()
    assert modes == [True, True]


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), validate=reports(0.4, 0.7, 0.6), epochs=3, epoch_per_test=1)
    run.run()
    assert {p.name for p in tmp_path.iterdir()} == {
        "recurrent.pth.tar",
        "recurrent_best.pth.tar",
        "curves.png",
    }
    last, best = read_file(tmp_path / "recurrent.pth.tar"), read_file(tmp_path / "recurrent_best.pth.tar")
    assert (last["epoch"], last["best"]) == (3, pytest.approx(0.7)) and (best["epoch"], best["best"]) == (
        2,
        pytest.approx(0.7),
    )
    assert best["state_dict"]["w"] == -2 and last["state_dict"]["w"] == -3
    assert run.log.of("val__JF") == pytest.approx([0.4, 0.7, 0.6])
    assert sum("J&F" in line for line in run.log.lines) == 3


def test_validation_without_ground_truth_says_so(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), validate=reports(None), epoch_per_test=1)
    run.run()
    assert any("no ground truth" in line for line in run.log.lines) and not run.log.of("val__JF")
    assert {p.name for p in tmp_path.iterdir()} == {"recurrent.pth.tar", "curves.png"}


# ---- modes and batch norm ---------------------------------------------------------------------------------------------


def statistics(model: STM) -> dict[str, Tensor]:
    return {
        name: value.clone()
        for name, value in model.state_dict().items()
        if "running" in name or "num_batches" in name
    }


@pytest.mark.parametrize(
    "mode, freeze_bn", [("mask", True), ("recurrent", True), ("threshold", True), ("recurrent", False)]
)
def test_a_real_epoch_in_every_mode(tmp_path: Path, mode: str, freeze_bn: bool) -> None:
    torch.manual_seed(0)
    model = STM("resnet18", **SMALL, freeze_bn=freeze_bn)
    run = trainer(tmp_path, Batches([clip(0.5, 3, 1, (32, 48))]), model, rate=1e-4, solver="adam", mode=mode)
    before, frozen = {name: p.detach().clone() for name, p in model.named_parameters()}, statistics(model)
    run.run()
    saved = read_file(tmp_path / f"{mode}.pth.tar")
    assert mode in MODES and {"epoch", "state_dict", "max_skip"} <= saved.keys() and saved["epoch"] == 1
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    # a bias of all keys moves no softmax, so its gradient may be 0; all else learns, batch norm's affine parameters too
    assert set(before) - set(changed) <= {"KV_M_r4.Key.bias"}
    kept = [torch.equal(value, frozen[name]) for name, value in statistics(model).items()]
    assert all(kept) if freeze_bn else not any(kept)
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in model.state_dict().items())


# ---- going on ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FOLDER of three videos."""
    root = tmp_path_factory.mktemp("tree")
    for name, objects in (("a", (1, 2)), ("b", (1,)), ("c", (1, 2))):
        trees.folder(root, name=name, objects=objects, frames=6)
    return root


def run_script(tree: Path, folder: Path, *options: str) -> dict:
    """Run train.py and return its last checkpoint. The clips' gaps, the rate and the accumulation all matter."""
    config = folder.parent / "run.yaml"
    config.write_text(
        f"root: {tree}\ntrainset: FOLDER\nvalset: FOLDER\nmax_skip: 1\nepochs_per_increment: 1\ninput_size: (32, 48)\n"
        "sampled_frames: 2\nworkers: 0\narch: resnet18\nkeydim: 8\nvaldim: 8\ndecoder_dim: 8\npretrained: False\n"
        "learning_rate: 1e-3\nmilestone: 1\ngamma: 0.5\niter_size: 2\nepochs: 2\nepoch_per_test: 0\ngpu_id: -1\ndatafreq: 1\n"
    )
    train.main(load_config(config, ["checkpoint", str(folder), *options]), SignalHandler())
    return read_file(folder / "recurrent.pth.tar")


def same(one: object, other: object) -> bool:
    """Equal to the last bit, all the way down."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("freeze_bn", ["True", "False"])
def test_going_on_gives_the_run_that_was_never_stopped(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, freeze_bn: str
) -> None:
    whole = run_script(tree, tmp_path / "whole", "freeze_bn", freeze_bn)
    torch.rand(7)  # whatever happens in between
    half = run_script(tree, tmp_path / "parts", "freeze_bn", freeze_bn, "epochs", "1")
    assert (half["epoch"], half["max_skip"]) == (1, [6]) and not same(half["state_dict"], whole["state_dict"])
    resumed = run_script(
        tree, tmp_path / "parts", "freeze_bn", freeze_bn, "resume", str(tmp_path / "parts/recurrent.pth.tar")
    )
    assert (resumed["epoch"], resumed["max_skip"]) == (2, [11])
    for part in ("state_dict", "optimizer", "scheduler", "best"):
        assert same(resumed[part], whole[part]), part
    assert whole["scheduler"]["_last_lr"] == [5e-4]
    lines = [(tmp_path / name / "train.log").read_text().splitlines() for name in ("whole", "parts")]
    losses = [[line.split("learning")[0] for line in log if line.startswith("epoch 2")] for log in lines]
    assert losses[0] == losses[1] and len(losses[0]) == 1


def test_one_seed_gives_one_run(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_script(tree, tmp_path / "one", "epochs", "1")
    torch.rand(5)
    np.random.seed(3)
    assert same(one["state_dict"], run_script(tree, tmp_path / "two", "epochs", "1")["state_dict"])
    assert not same(
        one["state_dict"], run_script(tree, tmp_path / "three", "epochs", "1", "seed", "1")["state_dict"]
    )


def test_a_finished_run_is_not_trained_further(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), epochs=2)
    run.run()
    again = trainer(tmp_path, Batches([clip(1)]), epochs=2)
    again.restore(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert again.loader.asked == [] and again.epoch == 2


def test_the_best_score_survives_going_on(tmp_path: Path, linear: None) -> None:
    trainer(tmp_path, Batches([clip(1)]), validate=reports(0.7), epoch_per_test=1).run()
    best = (tmp_path / "recurrent_best.pth.tar").read_bytes()
    again = trainer(tmp_path, Batches([clip(1)]), validate=reports(0.6), epochs=2, epoch_per_test=1)
    again.restore(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert (tmp_path / "recurrent_best.pth.tar").read_bytes() == best


def test_a_state_of_another_run_is_refused(tmp_path: Path, linear: None) -> None:
    trainer(tmp_path, Batches([clip(1)]), solver="adam").run()
    state = read_file(tmp_path / "recurrent.pth.tar")
    for other in ("sgd", "adamw"):
        with pytest.raises(InputError, match="'solver'.*Adam"):
            trainer(tmp_path, Batches([clip(1)]), solver=other).restore(state)
    one_set = Batches([clip(1)])
    one_set.max_skip = [5]
    with pytest.raises(InputError, match="'trainset'.*2 sets"):
        trainer(tmp_path, one_set, solver="adam").restore(state)
    trainer(tmp_path, Batches([clip(1)]), solver="adam").restore(state)


@pytest.mark.parametrize("options", [{}, {"iter_size": 2}, {"ema": 0.5, "grad_clip": 3.0}])
def test_going_on_within_an_epoch(tmp_path: Path, linear: None, options: dict) -> None:
    """Stopped behind every update in turn."""
    loader = [[clip(v)] for v in (1, 2, 4, 8, 16)]
    whole = trainer(
        tmp_path / "whole", Batches(*loader), epochs=2, keep=99, save_steps=1, milestones=(1,), **options
    )
    whole.run()
    paths = sorted((tmp_path / "whole").glob("recurrent.*pth.tar"))
    states = [read_file(path) for path in paths]
    assert (
        len({(state["epoch"], state["step"]) for state in states})
        == len(states)
        == {1: 10, 2: 6}[options.get("iter_size", 1)]
    )
    for number, state in enumerate(states):
        again = trainer(tmp_path / f"again{number}", Batches(*loader), epochs=2, milestones=(1,), **options)
        again.model.load_state_dict(state["state_dict"])
        again.restore(state)
        again.run()
        assert same(again.state(), whole.state()), (state["epoch"], state["step"])


def test_the_last_checkpoints_stay_and_the_newest_whole_one_is_found(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), epochs=5, keep=3)
    run.run()
    path = tmp_path / "recurrent.pth.tar"
    names = ["recurrent.pth.tar", "recurrent.1.pth.tar", "recurrent.2.pth.tar"]
    assert {p.name for p in tmp_path.iterdir()} == {*names, "curves.png"}
    assert [read_file(tmp_path / name)["epoch"] for name in names] == [5, 4, 3]
    assert latest_checkpoint(path)[0]["epoch"] == 5
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="recurrent.pth.tar.*trying the checkpoint before it"):
        state, found = latest_checkpoint(path)
    assert state["epoch"] == 4 and found.name == names[1]
    path.unlink()  # killed while the files moved on
    assert latest_checkpoint(path)[0]["epoch"] == 4
    for name in names[1:]:
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(InputError, match="no checkpoint .* is whole"):
        latest_checkpoint(path)
    assert latest_checkpoint(tmp_path / "mask.pth.tar") is None


def test_the_running_average_is_validated_and_used(tmp_path: Path, linear: None) -> None:
    seen = []
    run = trainer(
        tmp_path,
        Batches([clip(1)], [clip(1)], [clip(1)]),
        validate=lambda model: seen.append(model.w.item()) or reports(0.5)(model),
        epoch_per_test=1,
        ema=0.9,
    )
    run.run()  # w: -1, -2, -3; the first is taken as it is
    assert run.model.w.item() == -3 and seen == [pytest.approx(0.9 * (0.9 * -1 + 0.1 * -2) + 0.1 * -3)]
    state = read_file(tmp_path / "recurrent.pth.tar")
    assert find_weights(state, tmp_path).state_dict["w"].item() == pytest.approx(seen[0])
    assert find_weights(state, tmp_path, average=False).state_dict["w"] == -3


def test_rates_of_the_config_win_when_going_on(tmp_path: Path, linear: None) -> None:
    trainer(tmp_path, Batches([clip(1)]), milestones=(1,)).run()
    again = trainer(tmp_path, Batches([clip(1)]), rate=0.5, milestones=(1,), epochs=2)
    again.restore(read_file(tmp_path / "recurrent.pth.tar"))
    again.run()
    assert again.model.w.item() == pytest.approx(-0.05)  # this model's own start was 0


def test_other_steps_are_refused_within_an_epoch_and_welcome_between(tmp_path: Path, linear: None) -> None:
    whole = trainer(
        tmp_path,
        Batches(*([clip(v)] for v in (1, 2, 4, 8))),
        epochs=3,
        keep=99,
        save_steps=1,
        milestones=(2,),
    )
    whole.run()
    states = {(s["epoch"], s["step"]): s for s in map(read_file, tmp_path.glob("recurrent.*pth.tar"))}
    pairs = [[clip(1), clip(2)], [clip(4), clip(8)]]  # twice the batch, half the steps
    with pytest.raises(InputError, match="train_batch, iter_size.*whole epoch"):
        trainer(tmp_path, Batches(*pairs), epochs=3, milestones=(2,)).restore(states[1, 2])
    again = trainer(tmp_path / "again", Batches(*pairs), epochs=3, milestones=(2,))
    again.restore(states[1, 0])
    again.run()
    assert again.log.of("learning_rate") == pytest.approx([1, 0.1])


def test_gradients_that_are_not_finite_stop_the_run(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(1)]))
    run.model.w.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(InputError, match="epoch 1, step 1: the gradients"):
        run.run()
    assert run.model.w.item() == 0


def test_gradients_are_cut_to_their_longest_norm(tmp_path: Path, linear: None) -> None:
    run = trainer(tmp_path, Batches([clip(4)], [clip(0.5)]), grad_clip=1.0)
    run.run()
    assert run.model.w.item() == pytest.approx(-1.5)


def test_a_failure_while_saving_leaves_the_last_epoch(
    tmp_path: Path, linear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path, Batches([clip(1)]), epochs=2)
    save, count = torch.save, [0]

    def fail_later(content: dict, file) -> None:
        count[0] += 1
        if count[0] > 1:
            file.write(b"half")
            raise OSError("disk full")
        save(content, file)

    monkeypatch.setattr(torch, "save", fail_later)
    with pytest.raises(InputError, match="disk full"):
        run.run()
    assert [p.name for p in tmp_path.iterdir()] == ["recurrent.pth.tar"]
    assert read_file(tmp_path / "recurrent.pth.tar")["epoch"] == 1
