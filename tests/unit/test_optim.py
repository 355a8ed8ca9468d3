"""Optimizers, the learning rate over time, and mixed precision."""

import pytest
import torch
from torch import nn

from libs.core.precision import choose_precision
from libs.core.structures import Clip
from libs.method.objective import Batch, training_losses
from libs.training.optim import Precision, Schedule, build_optimizer, build_scheduler
from models.stm import STM


def rates(schedule: str, epochs: int = 4, per_epoch: int = 2, **options) -> list[float]:
    """The rate of each update of a run."""
    optimizer = build_optimizer([nn.Parameter(torch.zeros(()))], "adamw", 1.0, (0.9, 0.99), 0.0)
    scheduler = build_scheduler(optimizer, Schedule(kind=schedule, epochs=epochs, **options), per_epoch)
    values = []
    for _ in range(epochs * per_epoch):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_optimizers_are_as_the_config_says() -> None:
    parameters = [nn.Parameter(torch.ones(()))]
    adam = build_optimizer(parameters, "adam", 1e-5, (0.8, 0.99), 5e-4)
    assert type(adam) is torch.optim.Adam and adam.defaults["betas"] == (0.8, 0.99)
    sgd = build_optimizer(parameters, "sgd", 1e-5, (0.8, 0.99), 5e-4)
    assert type(sgd) is torch.optim.SGD and sgd.defaults["momentum"] == 0.8
    assert all(kind.defaults["lr"] == 1e-5 and kind.defaults["weight_decay"] == 5e-4 for kind in (adam, sgd))


def test_milestones_come_at_whole_epochs() -> None:
    assert rates("milestones", milestones=[3, 1]) == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_and_poly_fall_to_nothing() -> None:
    cosine, poly = rates("cosine"), rates("poly")
    assert cosine[0] == poly[0] == 1
    assert cosine[4] == pytest.approx(0.5) and poly[4] == pytest.approx(0.5**0.9)
    assert all(a > b > 0 for r in (cosine, poly) for a, b in zip(r, r[1:]))
    assert Schedule(kind="cosine", epochs=4).factor(4) == pytest.approx(0)
    assert Schedule(kind="poly", epochs=4).factor(4) == 0


def test_warm_up_rises_to_the_full_rate() -> None:
    assert rates("milestones", warmup=2.0) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    assert rates("cosine", warmup=1.0)[:3] == pytest.approx([0.5, 1, 1])


def small_batch(size: tuple[int, int] = (48, 64)) -> Batch:
    torch.manual_seed(1)
    labels = torch.zeros(3, *size, dtype=torch.uint8)
    labels[:, 8:30, 10:30], labels[:, 20:40, 36:60] = 1, 2
    return Batch.of([Clip("synthetic", torch.randn(3, 3, *size), labels, 2)], torch.device("cpu"))


def gradients(amp: str, grad_checkpoint: bool = False) -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)
    model = STM("resnet18", 16, 16, decoder_dim=16, grad_checkpoint=grad_checkpoint)
    precision = Precision(amp, torch.device("cpu"))
    # The usual initial scale overflows once or twice.
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=amp == "fp16")
    model.init_memory_encoder_from_query()
    with precision():
        losses = training_losses(model, small_batch(), "recurrent")
    assert losses.total.dtype == torch.float32  # as soft aggregation
    precision.scaler.scale(losses.total).backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return losses.total.item(), flat / precision.scaler.get_scale()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_same_gradients(amp: str) -> None:
    (exact, whole), (loss, half) = gradients("off"), gradients(amp)
    assert loss != exact and loss == pytest.approx(exact, rel=0.02)
    assert torch.cosine_similarity(whole, half, 0) > 0.97 and 0.9 < half.norm() / whole.norm() < 1.1


def test_activation_checkpointing_saves_memory_and_gives_the_same_gradients() -> None:
    kept = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1] += tensor.numel()
        return tensor

    found = []
    for again in (False, True):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            found.append(gradients("off", grad_checkpoint=again))
    (exact, whole), (loss, same) = found
    assert loss == exact and (whole - same).abs().max() < 1e-6 * whole.abs().max()
    assert kept[1] < 0.5 * kept[0]


def test_the_scaler_skips_an_update_that_overflows() -> None:
    p, precision = nn.Parameter(torch.ones(())), Precision("fp16", torch.device("cpu"))
    optimizer = build_optimizer([p], "sgd", 1.0, (0.0, 0.0), 0.0)
    before = precision.scaler.get_scale()
    precision.scaler.scale(p * float("inf")).backward()
    precision.update(optimizer, 0.0)
    assert p.item() == 1 and p.grad is None and precision.scaler.get_scale() < before
    precision.scaler.scale(p * 0.25).backward()
    precision.update(optimizer, 0.0)
    assert p.item() == 0.75


@pytest.mark.parametrize(
    "device, has, expected",
    [("cpu", True, "bf16"), ("cpu", False, "off"), ("cuda", True, "bf16"), ("cuda", False, "off")],
)
def test_auto_is_bf16_if_the_device_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, device: str, has: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert choose_precision("auto", torch.device(device)) == expected
    assert choose_precision("fp16", torch.device(device)) == "fp16"
