"""The cycle: which terms the cycle loss has, and where and in which direction masks are corrected."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from libs.method.cycle import GradientCorrection, cycle_loss, predict_reference
from libs.method.losses import mask_loss, present_channels
from libs.method.propagate import Propagation, Reference, Step
from models.stm import STM, Objects

SIZE = (48, 64)


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    network = STM("resnet18", 16, 32, decoder_dim=16)
    network.init_memory_encoder_from_query()
    return network.eval().double()


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """As in testing."""
    with torch.no_grad():
        yield


def squares(*rows: int) -> Tensor:
    """Masks (1, K, H, W): object k is a square at rows[k - 1], or absent at -1."""
    masks = torch.zeros(1, len(rows) + 1, *SIZE).double()
    for k, row in enumerate(rows, start=1):
        if row >= 0:
            masks[0, k, row : row + 12, 20 * k - 10 : 20 * k + 5] = 1
    masks[:, 0] = 1 - masks[:, 1:].sum(1)
    return masks


def step_at(model: STM, t: int) -> Step:
    """A predicted frame `t`, whose reference is another frame with two objects."""
    torch.manual_seed(2)
    frames, objects, given = torch.randn(2, 3, *SIZE).double(), Objects.of([2]), squares(10, 20)
    query = model.encode(frames[:1])
    logits = model.segment(model.encode(frames[1:]), [model.memorize(frames[:1], given, objects)])
    return Step(model, t, frames[1:], objects, logits, logits.softmax(1), Reference(query, given))


def loss_of(step: Step, masks: Tensor) -> Tensor:
    """Loss of the reference frame, predicted back from `masks`."""
    return mask_loss(predict_reference(step, masks)[0], step.reference.masks[0], torch.tensor([True] * 3))


# ---- gradient correction ----------------------------------------------------------------------------------


def test_correction_moves_the_mask_down_the_gradient_not_up(model: STM) -> None:
    """Fails if the sign of the step is flipped."""
    step, rate = step_at(model, 5), 2.0
    leaf = step.masks.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_of(step, leaf), leaf)
    assert gradient.abs().max() > 1e-4  # the masks are sensitive to the direction
    corrected = GradientCorrection(every=5, loop=1, rate=rate)(step)
    torch.testing.assert_close(corrected.masks, step.masks - rate * gradient)
    assert loss_of(step, corrected.masks) < loss_of(step, step.masks)
    assert corrected.correction.loss_after < corrected.correction.loss_before


def test_correction_lowers_the_loss_and_stops_when_it_stalls(model: STM) -> None:
    full = GradientCorrection(5, 8, 20.0)(step_at(model, 5)).correction
    early = GradientCorrection(5, 8, 20.0, tolerance=10.0)(step_at(model, 5)).correction
    assert full.steps == 8 and full.loss_after < full.loss_before
    assert early.steps == 1 and early.loss_after <= early.loss_before + 1e-6
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("t, corrected", [(1, False), (4, False), (5, True), (6, False), (10, True)])
def test_a_mask_is_corrected_every_so_many_frames(model: STM, t: int, corrected: bool) -> None:
    step = step_at(model, t)
    found = GradientCorrection(every=5, loop=1, rate=20.0)(step)
    assert (found.correction is not None) == corrected
    assert torch.equal(found.masks, step.masks) != corrected


def test_a_loop_of_zero_steps_corrects_nothing(model: STM) -> None:
    step = step_at(model, 5)
    found = GradientCorrection(every=5, loop=0, rate=20.0)(step)
    assert found.correction is None and torch.equal(found.masks, step.masks)


# ---- cycle loss -------------------------------------------------------------------------------------------


def clip_of_three(model: STM, truth: Tensor) -> list[Step]:
    """Steps of a clip whose frame t has the masks truth[:, t]."""
    torch.manual_seed(3)
    frames, objects = torch.randn(3, 1, 3, *SIZE).double(), Objects.of([2])
    reference = Reference(model.encode(frames[0]), truth[:, 0])
    return [Step(model, t, frames[t], objects, None, truth[:, t], reference) for t in range(3)]


def test_a_cycle_term_is_skipped_if_the_frame_lacks_the_last_object(model: STM) -> None:
    truth = torch.stack([squares(5, 5), squares(8, -1), squares(10, 10)], 1)
    steps = clip_of_three(model, truth)
    found = cycle_loss(steps, truth, [2], "both")
    assert (found.used, found.skipped) == (1, 1)
    back = predict_reference(steps[2])
    torch.testing.assert_close(found.value, mask_loss(back[0], truth[0, 0], torch.tensor([True] * 3)))


def test_a_cycle_term_counts_the_objects_that_the_frame_shows(model: STM) -> None:
    truth = torch.stack([squares(5, 5), squares(-1, 8), squares(10, -1)], 1)
    steps = clip_of_three(model, truth)
    found = cycle_loss(steps, truth, [2], "both")
    counted = present_channels(truth[0, 1])
    assert (found.used, found.skipped) == (1, 1) and counted.tolist() == [True, False, True]
    torch.testing.assert_close(found.value, mask_loss(predict_reference(steps[1])[0], truth[0, 0], counted))


def test_the_reference_is_predicted_from_one_frame_alone(model: STM) -> None:
    truth = torch.stack([squares(5, 5), squares(8, 8), squares(10, 10)], 1)
    step = clip_of_three(model, truth)[2]
    alone = model.memorize(step.image, step.masks, step.objects)
    expected = model.segment(step.reference.query, [alone])
    assert torch.equal(predict_reference(step), expected)
    assert not torch.equal(predict_reference(step, squares(30, 30)), expected)  # the masks are looked at
    assert Propagation(model, 5).last is None  # no loop takes part
