"""Stop tracking one object: the others go on as if it had never been there."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from libs.core.masks import one_hot
from libs.method.cycle import GradientCorrection
from libs.method.propagate import FrameInput, Propagation, Remember, Remembered, Step, erase
from models.stm import STM, Objects

SIZE, FRAMES, K = (32, 48), 7, 4
MEMORIES: list[dict[str, Any]] = [
    {},
    {"memory_frames": 3},
    {"memory_frames": 3, "memory_rule": "surprise"},
    {"memory_rule": "first_last"},
    {"memory_rule": "last"},
    {"top_k": 3},
]
torch.manual_seed(0)
IMAGES = torch.randn(FRAMES, 1, 3, *SIZE).double()


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18", 8, 8, decoder_dim=8).eval().double()


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def masks_of(channels: Sequence[int], num_channels: int = K) -> Tensor:
    """One-hot masks (1, K, H, W): object k is a square of its own."""
    labels = torch.zeros(SIZE, dtype=torch.uint8)
    for k in channels:
        labels[4 * k : 4 * k + 10, 10 * k : 10 * k + 8] = k
    return one_hot(labels, num_channels)[None].double()


def frame(t: int, given: Sequence[int] = (), num_channels: int = K) -> FrameInput:
    """Frame t; the objects `given` first appear in it."""
    if not given:
        return FrameInput(IMAGES[t])
    channel = torch.tensor(given)
    objects = Objects(torch.zeros_like(channel), channel, num_channels)
    return FrameInput(IMAGES[t], masks_of(given, num_channels), objects)


def run(
    model: STM,
    objects: Sequence[int],
    remove: dict[int, Sequence[int]] | None = None,
    remember: Remember | None = None,
    **memory: Any,
) -> list[Step]:
    """Steps of a video with `objects` in frame 0; remove[t] are removed after frame t."""
    loop, steps = Propagation(model, 2, remember, **memory), []
    for t in range(FRAMES):
        steps.append(loop.step(frame(t, objects if t == 0 else ())))
        for channel in (remove or {}).get(t, ()):
            loop.remove(channel)
    return steps


def same(steps: Sequence[Step], others: Sequence[Step]) -> None:
    for one, other in zip(steps, others, strict=True):
        torch.testing.assert_close(one.logits, other.logits)
        torch.testing.assert_close(one.masks, other.masks)
        torch.testing.assert_close(one.reference.masks, other.reference.masks)
        assert one.objects.channel.tolist() == other.objects.channel.tolist()


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
@pytest.mark.parametrize("gone, left", [([2], [1, 3]), ([1], [2, 3]), ([3, 1], [2])])
def test_removed_after_the_first_frame_it_was_never_there(
    model: STM, gone: Sequence[int], left: Sequence[int], memory: dict[str, Any]
) -> None:
    """With correction, which sees the reference, the last step and all tracked objects."""
    correction = GradientCorrection(every=2, loop=2, rate=20.0)
    removed = run(model, [1, 2, 3], {0: gone}, correction, **memory)
    never = run(model, left, remember=correction, **memory)
    same(removed[1:], never[1:])
    assert all(step.masks[:, gone].abs().max() < 1e-3 for step in removed[1:])


def test_removed_in_mid_video_the_memory_of_the_others_stays(model: STM) -> None:
    """Memory policies with fixed masks: the past of the others is the same in both runs."""
    removed = run(model, [1, 2, 3], {4: [2]}, lambda step: Remembered(masks_of([1, 2, 3])))
    never = run(model, [1, 3], remember=lambda step: Remembered(masks_of([1, 3])))
    for one, other in zip(removed[5:], never[5:], strict=True):
        torch.testing.assert_close(one.logits, other.logits)
    assert not torch.allclose(removed[4].logits, never[4].logits)


def test_its_mask_becomes_background_in_the_last_step_and_the_reference(model: STM) -> None:
    loop = Propagation(model, 2)
    before = [loop.step(frame(0, [1, 2])), loop.step(frame(1))][1]
    loop.remove(1)
    assert loop.objects.channel.tolist() == loop.last.objects.channel.tolist() == [2]
    assert torch.equal(loop.last.masks, erase(before.masks, 1)) and loop.last.masks[:, 1].max() == 0
    torch.testing.assert_close(loop.last.masks.sum(1), torch.ones(1, *SIZE).double())
    assert torch.equal(loop.reference.masks, masks_of([2])) and loop.last.reference is loop.reference
    assert before.masks[:, 1].max() > 0 and before.reference.masks[:, 1].max() == 1  # not written over


def test_without_objects_the_loop_is_as_before_the_first_one(model: STM) -> None:
    loop = Propagation(model, 2)
    loop.step(frame(0, [1, 2]))
    loop.step(frame(1))
    loop.remove(2)
    loop.remove(1)
    assert loop.step(frame(2)) is None and loop.step(frame(3)) is None
    again = [loop.step(frame(4, [2])), loop.step(frame(5))]
    fresh = Propagation(model, 2)
    expected = [fresh.step(frame(t, [2] if t == 4 else ())) for t in range(6)][4:]
    assert again[0].logits is None and [step.t for step in again] == [4, 5]
    torch.testing.assert_close(again[1].logits, expected[1].logits)


def test_the_number_of_channels_stays(model: STM) -> None:
    """Object 3 brings channels 2 and 3. Correction needs masks, logits and reference of one K."""
    loop = Propagation(model, 2, GradientCorrection(2, 1, 20.0))
    loop.step(frame(0, [1], num_channels=2))
    loop.step(frame(1, [3]))
    loop.remove(3)  # as long as it has no memory yet
    steps = [loop.step(frame(t)) for t in (2, 3, 4)]
    assert all(step.logits.shape[1] == step.masks.shape[1] == K for step in steps)
    assert steps[0].correction and loop.bank.read()[0].objects.channel.tolist() == [1]


def test_a_removed_object_can_come_back(model: STM) -> None:
    loop = Propagation(model, 2)
    loop.step(frame(0, [1, 2]))
    loop.remove(2)
    loop.step(frame(1))
    assert loop.step(frame(2, [2])).objects.channel.tolist() == [1, 2]
    assert loop.step(frame(3)).logits.shape[1] == K
    assert [memory.objects.channel.tolist() for memory in loop.bank.read()] == [[1], [2]]


@pytest.mark.parametrize("channel", [0, 3])
def test_an_object_that_is_not_tracked_cannot_be_removed(model: STM, channel: int) -> None:
    loop = Propagation(model, 2)
    with pytest.raises(ValueError, match=rf"cannot remove object {channel}: the tracked objects are \[\]"):
        loop.remove(channel)
    loop.step(frame(0, [1, 2]))
    with pytest.raises(ValueError, match=rf"object {channel}: the tracked objects are \[1, 2\]"):
        loop.remove(channel)


def test_objects_cannot_appear_without_a_mask(model: STM) -> None:
    nothing_given = FrameInput(IMAGES[0], appearing=Objects.of([1]))
    with pytest.raises(ValueError, match="frame 0: objects appear without a mask"):
        Propagation(model, 2).step(nothing_given)
