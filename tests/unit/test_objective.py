"""The objective's parts, one by one; its numbers are in tests/golden."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from libs.method.losses import mask_loss, present_channels
from libs.method.objective import (
    Batch,
    EpochTotals,
    forward_loss,
    memory_policy,
    training_frames,
    training_losses,
)
from libs.method.propagate import Reference, Step, propagate
from models.stm import STM, Objects

SIZE = (32, 48)


def batch(num_objects: tuple[int, ...] = (2, 1), frames: int = 3) -> Batch:
    """Clips of noise, in which object k of each clip is a square that moves."""
    torch.manual_seed(0)
    masks = torch.zeros(len(num_objects), frames, max(num_objects) + 1, *SIZE)
    for b, count in enumerate(num_objects):
        for k in range(1, count + 1):
            for t in range(frames):
                masks[b, t, k, 2 + 3 * t : 14 + 3 * t, 16 * k - 12 : 16 * k - 2] = 1
    masks[:, :, 0] = 1 - masks[:, :, 1:].sum(2)
    return Batch(
        ["noise"] * len(num_objects), torch.randn(len(num_objects), frames, 3, *SIZE), masks, [*num_objects]
    )


def step_of(logits: Tensor, t: int = 1) -> Step:
    """A predicted frame with these logits (B, K, H, W)."""
    objects = Objects.of([logits.shape[1] - 1] * len(logits))
    return Step(None, t, None, objects, logits, logits.softmax(1), Reference(None, None))


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18", 8, 8, decoder_dim=8).train()


@torch.no_grad()
def test_the_total_is_a_mean_a_predicted_frame(model: STM) -> None:
    losses = training_losses(model, batch((2, 1), 3), "recurrent", attention=0.5)
    terms = losses.forward + losses.cycle + 0.5 * losses.attention
    assert losses.attention > 0 and losses.cycle > 0
    torch.testing.assert_close(losses.total, terms / (2 * (3 - 1)))


@torch.no_grad()
def test_terms_that_are_off_are_zero(model: STM) -> None:
    losses = training_losses(model, batch(), "recurrent", cycle=False)
    assert losses.cycle == losses.attention == losses.cycle_used == losses.cycle_skipped == 0
    torch.testing.assert_close(losses.total, losses.forward / 4)


def test_without_the_cycle_frame_0_is_encoded_without_gradients(model: STM) -> None:
    """Its features are the same, and so are the gradients of the weights, which never came from there."""
    clips, whole = batch(), training_frames(model, batch())
    frames = training_frames(model, clips, cycle=False)
    differentiable = [frame.query.key.requires_grad for frame in frames if frame.query is not None]
    assert differentiable == [False, True, True]
    for one, other in zip(frames, whole, strict=True):
        torch.testing.assert_close(one.query.key, other.query.key)
        torch.testing.assert_close(one.query.image_maps.m2, other.query.image_maps.m2)
    gradients = []
    for given in (frames, whole):
        model.zero_grad(set_to_none=True)
        steps = list(propagate(model, given, save_freq=1, differentiable=True))
        forward_loss(steps, clips.masks, "both").backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_batch_norm_with_statistics_of_its_own_sees_all_frames_at_once() -> None:
    own = STM("resnet18", 8, 8, decoder_dim=8, freeze_bn=False).train()
    assert all(frame.query.key.requires_grad for frame in training_frames(own, batch(), cycle=False))


@pytest.mark.parametrize("cycle", [True, False])
@torch.no_grad()
def test_a_clip_of_one_frame_has_no_loss(model: STM, cycle: bool) -> None:
    losses = training_losses(model, batch(frames=1), "recurrent", attention=0.5, cycle=cycle)
    assert losses.total == 0 and losses.cycle_used == losses.cycle_skipped == 0


def test_the_forward_loss_leaves_out_objects_that_frame_0_lacks() -> None:
    truth = batch((2,), 2).masks
    truth[0, 0, 0] += truth[0, 0, 2]
    truth[0, 0, 2] = 0  # object 2 is seen in frame 1 only
    step = step_of(torch.randn(1, 3, *SIZE))
    found = forward_loss([step, step], truth, "both")
    counted = present_channels(truth[0, 0])
    assert counted.tolist() == [True, True, False]
    torch.testing.assert_close(found, mask_loss(step.logits[0], truth[0, 1], counted, "both"))


def test_what_each_mode_memorizes() -> None:
    truth = batch((1, 1), 2).masks
    good = (20 * truth[:, 1] - 10)[:1]  # the first clip is predicted well, the second badly
    logits = torch.cat([good, -good]).requires_grad_()
    step = step_of(logits)
    assert torch.equal(memory_policy("mask", truth, 0.65)(step).masks, truth[:, 1])
    soft = memory_policy("recurrent", truth, 0.65)(step).masks
    assert torch.equal(soft, step.masks) and soft.requires_grad  # gradients flow through the memory
    chosen = memory_policy("threshold", truth, 0.65)(step).masks
    assert torch.equal(chosen[0], step.masks[0]) and torch.equal(chosen[1], truth[1, 1])
    assert torch.equal(memory_policy("threshold", truth, 0.0)(step).masks, step.masks)


def test_epoch_totals_average_over_clips_and_terms() -> None:
    one = EpochTotals(
        clips=2, total=6.0, forward=4.0, cycle=2.0, cycle_used=3, cycle_skipped=1, attention=1.0
    )
    means = (one + replace(one, cycle_used=1, cycle_skipped=3)).means()
    assert means == {"loss": 3.0, "forward": 2.0, "cycle": 1.0, "cycle_skipped": 0.5, "attention": 0.5}
    assert set(EpochTotals().means().values()) == {0.0}  # an epoch without clips


@torch.no_grad()
def test_damaged_memories_change_later_predictions_only(model: STM) -> None:
    """Frame 1 is predicted from the given mask, which is never damaged."""
    short, long = batch(frames=2), batch(frames=3)
    for clips, same in ((short, True), (long, False)):
        plain, damaged = (
            training_losses(model, clips, "recurrent", cycle=False, mask_damage=p).forward for p in (0, 0.9)
        )
        assert torch.equal(plain, damaged) == same
