"""Cycle-ERF: the gradient by finite differences, the sign of the map, and where its energy is."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.erf import PIXELS, PROBES, cycle_erf, fractions, probe_masks, regions
from libs.method.cycle import mask_gradient, reference_loss
from libs.method.losses import mask_loss
from libs.method.propagate import Reference, Step
from models.stm import STM, Objects

SIZE = (48, 64)
STEP = 1e-5  # of the finite differences


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """As in testing."""
    with torch.no_grad():
        yield


def squares(*rows: int) -> Tensor:
    """Masks (1, K, H, W): object k is a square at rows[k - 1]."""
    masks = torch.zeros(1, len(rows) + 1, *SIZE).double()
    for k, row in enumerate(rows, start=1):
        masks[0, k, row : row + 12, 20 * k - 10 : 20 * k + 5] = 1
    masks[:, 0] = 1 - masks[:, 1:].sum(1)
    return masks


def step_with(context: str) -> Step:
    """A predicted frame with two objects, of a network with this memory context, in double precision."""
    torch.manual_seed(0)
    model = STM("resnet18", 16, 32, decoder_dim=16, context=context, pad_to=1)
    model.init_memory_encoder_from_query()
    model.eval().double()
    frames, objects, given = torch.randn(2, 3, *SIZE).double(), Objects.of([2]), squares(10, 20)
    logits = model.segment(model.encode(frames[1:]), [model.memorize(frames[:1], given, objects)])
    reference = Reference(model.encode(frames[:1]), given)
    return Step(model, 5, frames[1:], objects, logits, logits.softmax(1), reference)


def from_right(loss: Callable[[float], float]) -> float:
    """Derivative at 0 from the right, from values at 0, h and 2h."""
    return (-3 * loss(0) + 4 * loss(STEP) - loss(2 * STEP)) / (2 * STEP)


def directions(gradient: Tensor) -> list[Tensor]:
    """Directions in which a mask grows: the pixels of the largest and smallest derivative, and all pixels."""
    found = [torch.zeros_like(gradient) for _ in range(4)]
    for k in (1, 2):
        for extreme, direction in (
            (gradient[0, k].argmax(), found[k - 1]),
            (gradient[0, k].argmin(), found[k + 1]),
        ):
            direction[0, k].flatten()[extreme] = 1
    spread = torch.rand(gradient.shape, generator=torch.Generator().manual_seed(1)).double()
    return [*found, spread / gradient.numel()]


@pytest.mark.parametrize(
    ("context", "probe", "pixels"),
    [
        *(("background", probe, "all") for probe in PROBES),
        ("background", "empty", "hard"),
        ("others", "empty", "all"),
    ],
)
def test_the_gradient_is_that_of_finite_differences(context: str, probe: str, pixels: str) -> None:
    """From the right: at the empty probe, clamp(1 - mask) has a kink, and a mask can only grow there."""
    step = step_with(context)
    masks = probe_masks(step, probe)
    _, gradient = mask_gradient(step, masks, PIXELS[pixels])
    assert gradient.abs().max() > 1e-5
    for direction in directions(gradient):

        def loss(length: float, direction: Tensor = direction) -> float:
            return reference_loss(step, masks + length * direction, PIXELS[pixels]).item()

        expected = (gradient * direction).sum().item()
        assert from_right(loss) == pytest.approx(expected, rel=2e-3, abs=1e-8)


def test_the_empty_probe_lies_on_a_kink() -> None:
    """From the left the derivative is another one: there the context is clamped and does not move.

    Fails if the gradient is taken at exactly 0, where torch 2.14 takes the one from the left.
    """
    step = step_with("background")
    masks = probe_masks(step, "empty")
    _, gradient = mask_gradient(step, masks, 1.0)
    direction = directions(gradient)[0]
    left = -from_right(lambda length: reference_loss(step, masks - length * direction, 1.0).item())
    right = from_right(lambda length: reference_loss(step, masks + length * direction, 1.0).item())
    assert right == pytest.approx((gradient * direction).sum().item(), rel=2e-3)
    assert abs(left - right) > 0.05 * abs(right)


def test_the_loss_falls_where_the_map_is_positive() -> None:
    step = step_with("background")
    for probe in PROBES:
        masks = probe_masks(step, probe)
        loss, maps = cycle_erf(step, masks)
        _, gradient = mask_gradient(step, masks, 1.0)
        assert maps.shape == (3, *SIZE) and maps.min() == 0 and not maps[0].any()
        assert torch.equal(maps > 0, gradient[0] < 0)
        for k in (1, 2):
            change = torch.zeros_like(masks)
            change[0, k] = maps[k]
            assert reference_loss(step, masks + 1e-2 * change / maps.max(), 1.0) < loss


def test_probes() -> None:
    step = step_with("background")
    empty, uniform, predicted = (probe_masks(step, probe) for probe in PROBES)
    least = torch.finfo(torch.float64).eps  # 1 - mask is then below 1, where clamp has a kink
    assert empty[0, 0].eq(1 - least).all() and empty[0, 1:].eq(least).all()
    torch.testing.assert_close(uniform, torch.full_like(uniform, 1 / 3))
    assert torch.equal(predicted, step.logits.softmax(1))


def test_all_pixels_or_the_hardest() -> None:
    """A fraction of 1 is the plain mean over the pixels; a smaller one is larger, and 0.4 the default."""
    torch.manual_seed(0)
    logits, truth, counted = (
        torch.randn(3, 10, 10),
        squares(0, 0)[0, :, :10, :10].float(),
        torch.ones(3).bool(),
    )
    mean = -(truth * logits.log_softmax(0)).sum(0).mean()
    torch.testing.assert_close(mask_loss(logits, truth, counted, "ce", fraction=1.0), mean)
    hard = mask_loss(logits, truth, counted, "ce")
    assert hard > mean and torch.equal(hard, mask_loss(logits, truth, counted, "ce", fraction=0.4))


# ---- where the energy is ----------------------------------------------------------------------------------


def test_regions_divide_the_image() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    parts = regions(mask, 3)
    assert list(parts) == ["inside", "border", "outside"]
    assert (sum(part.astype(int) for part in parts.values()) == 1).all()
    assert parts["inside"].sum() == 14 * 14 and parts["inside"][23:37, 23:37].all()
    assert parts["border"][17:23, 30].all() and not parts["border"][[16, 23], 30].any()


def test_the_edge_of_the_image_is_no_border() -> None:
    mask = np.ones((20, 20), bool)
    assert regions(mask, 3)["inside"].all() and regions(~mask, 3)["outside"].all()


def test_fractions_of_the_energy() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    values = np.zeros((60, 60))
    values[30, 30], values[20, 30], values[0, 0] = 3, 1, 4
    assert fractions(values, regions(mask, 3)) == [3 / 8, 1 / 8, 4 / 8]
    assert fractions(0 * values, regions(mask, 3)) == [None] * 3
