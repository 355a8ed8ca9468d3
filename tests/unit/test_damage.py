"""Masks that are damaged before training memorizes them."""

import pytest
import torch
from torch import Tensor

from libs.method.damage import damage_some, shift_mask
from libs.method.propagate import Reference, Remember, Remembered, Step
from models.stm import Objects


def clips(count: int = 40, num_objects: int = 2) -> Tensor:
    """(B, 3, K, 20, 30) one-hot masks: in each clip, object k is a square of its own place."""
    masks = torch.zeros(count, 3, num_objects + 1, 20, 30)
    for b in range(count):
        for k in range(1, num_objects + 1):
            masks[b, :, k, b % 8 : b % 8 + 6, 10 * k : 10 * k + 5] = 1
        for bit in range(9):  # makes the clips differ
            masks[b, :, 1, 19, bit] = b >> bit & 1
    masks[:, :, 0] = 1 - masks[:, :, 1:].sum(2)
    return masks


def step(masks: Tensor, t: int = 1) -> Step:
    """Frame t, of which these masks are predicted."""
    return Step(
        None, t, None, Objects.of([masks.shape[1] - 1] * len(masks)), None, masks, Reference(None, None)
    )


def remembered(probability: float, masks: Tensor, t: int = 1) -> Tensor:
    """What is memorized of frame t, if its masks are predicted without error."""
    policy: Remember = damage_some(lambda step: Remembered(step.masks), probability, masks)
    return policy(step(masks[:, t], t)).masks


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.99])
def test_the_fraction_of_damaged_masks_is_that_of_the_key(probability: float) -> None:
    masks = clips(400)
    found = remembered(probability, masks)
    changed = (found[:, 1:] != masks[:, 1, 1:]).flatten(2).any(2)  # (B, objects)
    lost = found[:, 1:].flatten(2).sum(2) == 0
    assert changed.float().mean().item() == pytest.approx(probability, abs=0.05)
    assert (lost & changed).float().mean().item() == pytest.approx(probability / 2, abs=0.05)


def test_masks_still_sum_up_to_one() -> None:
    found = remembered(0.9, clips())
    torch.testing.assert_close(found.sum(1), torch.ones(len(found), 20, 30))
    assert found.min() >= 0


def test_a_lost_object_becomes_background() -> None:
    masks = clips(num_objects=1)
    found = remembered(0.99, masks)
    lost = found[:, 1].flatten(1).sum(1) == 0
    assert lost.any() and (found[lost, 0] == 1).all()


def test_the_damage_of_a_clip_does_not_depend_on_the_clips_beside_it() -> None:
    """Neither on padding to more objects, so neither on how clips are spread over processes."""
    masks = clips(6, num_objects=1)
    together = remembered(0.5, torch.cat([masks, torch.zeros_like(masks[:, :, :1])], 2))
    alone = torch.cat([remembered(0.5, masks[b : b + 1]) for b in range(len(masks))])
    torch.testing.assert_close(together[:, :2], alone)


def test_frames_of_a_clip_are_damaged_differently() -> None:
    masks = clips()
    assert not torch.equal(remembered(0.5, masks, t=1), remembered(0.5, masks, t=2))


def test_gradients_flow_through_masks_that_are_left() -> None:
    masks = clips().requires_grad_()
    remembered(0.5, masks)[:, 1:].sum().backward()
    assert (masks.grad[:, 1, 1:].flatten(2).abs().sum(2) > 0).any()


@pytest.mark.parametrize("down", [-3, 0, 2])
@pytest.mark.parametrize("right", [-4, 0, 5])
def test_shifts_equal_a_loop_over_pixels(down: int, right: int) -> None:
    mask = torch.rand(6, 7)
    expected = torch.zeros(6, 7)
    for y in range(6):
        for x in range(7):
            if 0 <= y - down < 6 and 0 <= x - right < 7:
                expected[y, x] = mask[y - down, x - right]
    torch.testing.assert_close(shift_mask(mask, down, right), expected)
