"""Network and loops against the oracle, on synthetic weights and clips, in float64."""

from copy import deepcopy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from libs.method.cycle import GradientCorrection
from libs.method.losses import mask_loss, present_channels
from libs.method.objective import Batch, training_losses
from libs.method.propagate import FrameInput, propagate
from models import memory_read
from models.stm import STM, Objects
from tests.golden import trainable
from tests.golden.inputs import clip
from tests.golden.weights import fill_
from tests.helpers import oracle
from tests.helpers.oracle import Oracle

CLOSE = {"rtol": 1e-8, "atol": 1e-9}
SMALL = {"keydim": 16, "valdim": 24}


@cache
def network(arch: str, context: str, pad_to: int) -> STM:
    """Build a network whose masks matter, and whose probabilities stay near 1/2."""
    model = STM(arch, **SMALL, context=context, pad_to=pad_to)
    state = fill_(model.state_dict())
    scales = {"conv1_m": 6, "conv1_bg": 6, "conv1_o": 6, "Key": 1.5, "pred2": 0.2}
    for name in state:
        state[name] *= scales.get(name.split(".")[-2], 1) if name.endswith("weight") else 1
    model.load_state_dict(state)
    return model.double().eval()


def pair(arch="resnet18", context="background", pad_to=1) -> tuple[STM, Oracle]:
    """Return the same network twice, new for each test."""
    model = deepcopy(network(arch, context, pad_to))
    return model, Oracle(trainable(model.state_dict()), context, pad_to)


def video(seed, frames, num_objects, num_channels=None, size=(33, 49), absent=()) -> tuple[Tensor, Tensor]:
    """Frames (T, 3, H, W) and one-hot masks (T, K, H, W)."""
    images, masks = clip(seed, frames, *size, num_objects, (num_channels or num_objects + 1) - 1, absent)
    return torch.from_numpy(images).double(), torch.from_numpy(masks).double()


def same_gradients(model: STM, naive: Oracle) -> None:
    for name, parameter in model.named_parameters():
        expected = naive.weights[name].grad
        scale = expected.abs().max().item()
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-9 + 1e-8 * scale, msg=name)


# ---- the network ----------------------------------------------------------------------------------------

NETWORKS = [  # arch, context, pad_to, num_objects, num_channels, size
    ("resnet18", "background", 1, 1, 2, (64, 80)),
    ("resnet18", "background", 1, 3, 6, (49, 67)),
    ("resnet34", "background", 16, 4, 5, (35, 50)),
    ("resnet34", "others", 1, 1, 2, (33, 24)),
    ("resnet50", "others", 16, 3, 4, (33, 47)),
    pytest.param("resnet101", "background", 1, 2, 4, (25, 34), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("arch, context, pad_to, num_objects, num_channels, size", NETWORKS)
def test_network(arch, context, pad_to, num_objects, num_channels, size):
    model, naive = pair(arch, context, pad_to)
    frames, _ = video(3, 3, num_objects, num_channels, size)
    generator = torch.Generator().manual_seed(1)
    soft = (
        torch.rand(2, num_channels, *size, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    )  # some outside 0..1
    soft.requires_grad_()
    objects = Objects.of([num_objects], num_channels)

    memories = [model.memorize(frames[t][None], soft[t][None], objects) for t in range(2)]
    both = type(memories[0])(
        *(
            torch.cat(pairs, 1)
            for pairs in ((memories[0].keys, memories[1].keys), (memories[0].values, memories[1].values))
        ),
        objects,
    )
    query = model.encode(frames[2:])
    probs, logits = model.object_probs(query, [both]), model.segment(query, [both])
    weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    (mask_gradient,) = torch.autograd.grad((logits * weights).sum(), soft, retain_graph=True)
    (logits * weights).sum().backward()

    channels = range(1, num_objects + 1)
    expected = oracle.join(*(naive.memorize(frames[t], soft[t], channels) for t in range(2)))
    expected_logits = naive.segment(frames[2], expected, num_channels)
    soft.grad = None
    (expected_logits * weights).sum().backward()

    torch.testing.assert_close(both.keys, torch.stack([keys for keys, _ in expected.values()]), **CLOSE)
    torch.testing.assert_close(both.values, torch.stack([values for _, values in expected.values()]), **CLOSE)
    torch.testing.assert_close(probs, naive.object_probs(frames[2], expected), **CLOSE)
    torch.testing.assert_close(logits, expected_logits, **CLOSE)
    torch.testing.assert_close(mask_gradient, soft.grad, rtol=1e-6, atol=1e-9)
    same_gradients(model, naive)


@torch.no_grad()
def test_clips_side_by_side_do_not_mix():
    model, naive = pair()
    first, second = video(5, 2, 1, 4), video(6, 2, 3, 4)
    frames, masks = (torch.stack(both, 1) for both in zip(first, second))  # (T, B, ...)
    memory = model.memorize(frames[0], masks[0], Objects.of([1, 3], 4))
    logits = model.segment(model.encode(frames[1]), [memory])
    for b, count in enumerate((1, 3)):
        alone = naive.memorize(frames[0, b], masks[0, b], range(1, count + 1))
        torch.testing.assert_close(logits[b], naive.segment(frames[1, b], alone, 4)[0], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("context", ("background", "others"))
def test_chunks_change_nothing(context, monkeypatch):
    """Attention in chunks of positions and features of one object at a time give the same numbers."""
    monkeypatch.setattr(memory_read, "MAX_WEIGHTS", 250)
    model, naive = pair(context=context)
    model.max_pixels = 33 * 49
    frames, masks = video(7, 2, 3)
    memory = model.memorize(frames[:1], masks[:1], Objects.of([3]))
    expected = naive.memorize(frames[0], masks[0], [1, 2, 3])
    logits = model.segment(model.encode(frames[1:]), [memory])
    torch.testing.assert_close(logits, naive.segment(frames[1], expected, 4), **CLOSE)


# ---- losses ---------------------------------------------------------------------------------------------

PRESENT = [(0, 1, 2, 3), (0, 2), (1, 3), (0,), (3,), ()]


@pytest.mark.parametrize("kind", ("ce", "iou", "both"))
@pytest.mark.parametrize("channels", PRESENT)
@pytest.mark.parametrize("size", ((7, 9), (4, 5)))
def test_loss(kind, channels, size):
    generator = torch.Generator().manual_seed(len(channels))
    logits = torch.randn(1, 5, *size, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 4, size, generator=generator)
    target = torch.nn.functional.one_hot(labels, 5).permute(2, 0, 1).double()
    ref = torch.zeros(5, *size, dtype=torch.float64)
    for k in channels:
        ref[k, k, 0] = 1
    found = mask_loss(logits[0], target, present_channels(ref), kind)
    expected = oracle.frame_loss(kind, logits, target, oracle.present(ref, 3))
    torch.testing.assert_close(found, expected, **CLOSE)
    (found_gradient,), (gradient,) = (torch.autograd.grad(loss, logits) for loss in (found, expected))
    torch.testing.assert_close(found_gradient, gradient, **CLOSE)


# ---- training -------------------------------------------------------------------------------------------

CLIPS = {  # name: (num_objects of each clip, (frame, object) that is missing, frames)
    "one": ((2,), (), 3),
    "four objects": ((4,), (), 2),
    "four frames": ((1,), (), 4),
    "pair of two frames": ((1, 3), (), 2),
    "absent": ((3, 2), ((0, 1), (1, 3), (2, 2)), 3),
    "nobody in frame 0": ((1, 2), ((0, 1), (0, 2), (2, 1)), 3),
    "nobody comes back": ((2,), ((1, 2), (2, 2)), 3),
}
RUNS = [  # clips, mode, loss, IoU threshold
    ("one", "recurrent", "both", 0.65),
    ("one", "mask", "ce", 0.65),
    ("one", "recurrent", "iou", 0.65),
    ("four objects", "mask", "both", 0.65),
    ("four frames", "recurrent", "both", 0.65),
    ("pair of two frames", "recurrent", "both", 0.65),
    ("absent", "recurrent", "both", 0.65),
    ("nobody in frame 0", "recurrent", "both", 0.65),
    ("nobody in frame 0", "mask", "iou", 0.65),
    ("nobody comes back", "recurrent", "both", 0.65),
    ("absent", "threshold", "both", "between"),
]


def batch_of(clips) -> Batch:
    num_objects, absent, length = CLIPS[clips]
    videos = [
        video(20 + b, length, count, max(num_objects) + 1, absent=absent)
        for b, count in enumerate(num_objects)
    ]
    frames, masks = (torch.stack(parts) for parts in zip(*videos))
    return Batch([clips] * len(videos), frames, masks, list(num_objects))


def between(naive: Oracle, batch: Batch) -> float:
    """Choose a threshold that some predictions of the first clip reach and others miss."""
    truth, count = batch.masks[0], batch.num_objects[0]
    _, _, _, probs = naive.train_clip(batch.frames[0], truth, count, mode="recurrent")
    counted = oracle.present(truth[0], count)
    ious = sorted(1 - oracle.iou_loss(p.log()[None], y, counted).item() for p, y in zip(probs, truth[1:]))
    assert ious[0] < 0.9 * ious[1]
    return (ious[0] + ious[1]) / 2


@pytest.mark.parametrize("clips, mode, kind, threshold", RUNS)
def test_training(clips, mode, kind, threshold):
    model, naive = pair()
    batch = batch_of(clips)
    if threshold == "between":
        threshold = between(naive, batch)
    found = training_losses(model.train(), batch, mode, kind=kind, iou_threshold=threshold)
    found.total.backward()
    expected = [
        naive.train_clip(frames, masks, count, kind, mode, threshold)
        for frames, masks, count in zip(batch.frames, batch.masks, batch.num_objects)
    ]
    forward, cycle, total = (torch.stack([clip[i] for clip in expected]) for i in range(3))
    total.mean().backward()
    torch.testing.assert_close(found.forward, forward.sum(), **CLOSE)
    torch.testing.assert_close(found.cycle, cycle.sum(), check_dtype=False, **CLOSE)
    torch.testing.assert_close(found.total, total.mean(), **CLOSE)
    same_gradients(model, naive)
    used = [
        bool(masks[t, count].any())
        for masks, count in zip(batch.masks, batch.num_objects)
        for t in range(1, len(masks))
    ]
    assert (found.cycle_used, found.cycle_skipped) == (sum(used), len(used) - sum(used))


@torch.no_grad()
def test_training_without_cycle():
    model, naive = pair()
    batch = batch_of("one")
    found = training_losses(model, batch, "recurrent", cycle=False)
    forward, _, _, _ = naive.train_clip(batch.frames[0], batch.masks[0], 2)
    torch.testing.assert_close(found.forward, forward, **CLOSE)
    torch.testing.assert_close(found.total, forward / 2, **CLOSE)


@pytest.mark.parametrize("clips", ("one", "pair of two frames", "absent"))
def test_attention_loss(clips):
    """By hand: every query position takes the mean of the first mask, weighted by attention to frame 0."""
    model, naive = pair()
    batch = batch_of(clips)
    found = training_losses(model.train(), batch, "recurrent", cycle=False, attention=0.7)
    found.total.backward()
    carried_wrong, total, num_clips, length = [], [], *batch.frames.shape[:2]
    for frames, masks, count in zip(batch.frames, batch.masks, batch.num_objects):
        total.append(naive.train_clip(frames, masks, count)[0])
        memory = naive.memorize(frames[0], masks[0], range(1, count + 1))
        for t in range(1, length):
            query = naive.conv(
                naive.resnet(naive.conv(frames[t][None], "Encoder_Q.conv1", 2), "Encoder_Q")[-1],
                "KV_Q_r4.Key",
            )[0]
            first, later = (
                F.interpolate(masks[s][None], size=query.shape[1:], mode="area")[0] for s in (0, t)
            )
            for o, (keys, _) in memory.items():
                carried = 1e-3 + 0.998 * naive.read(keys, first[o].reshape(-1, 1), query)[0]
                carried_wrong.append(F.binary_cross_entropy(carried, later[o]) / count)
    attention = sum(carried_wrong)
    expected = (sum(total) + 0.7 * attention) / (num_clips * (length - 1))
    expected.backward()
    torch.testing.assert_close(found.attention, attention, **CLOSE)
    torch.testing.assert_close(found.total, expected, **CLOSE)
    same_gradients(model, naive)


# ---- the test loop --------------------------------------------------------------------------------------


LOOPS = [  # context, pad_to, num_objects, num_channels, save_freq, loop, rate, momentum
    ("background", 1, 2, 4, 3, 0, 0.0, 0.0),
    ("others", 16, 2, 3, 1, 0, 0.0, 0.0),
    ("background", 1, 2, 4, 2, 2, 300.0, 0.0),
    ("background", 16, 1, 2, 2, 3, 300.0, 0.5),
    ("others", 16, 3, 4, 2, 2, 300.0, 0.0),
]


def run_loop(model, frames, given, save_freq, loop=0, rate=0.0, momentum=0.0):
    """Run the time loop. `given` is as in Oracle.test_video."""
    num_channels, inputs = len(next(iter(given.values()))[0]), []
    for t, image in enumerate(frames):
        masks, seen = given.get(t, (None, []))
        channel = torch.tensor(seen, dtype=torch.int64)
        appearing = Objects(torch.zeros_like(channel), channel, num_channels) if seen else None
        inputs.append(FrameInput(image[None], None if masks is None else masks[None], appearing))
    correction = GradientCorrection(save_freq, loop, rate, momentum=momentum)
    with torch.no_grad():
        return list(propagate(model, inputs, save_freq, correction if loop else None))


def same_steps(steps, probs, masks):
    """Compare the steps of all frames with the oracle's probabilities and memorized masks."""
    found = torch.cat([step.logits.softmax(1) for step in steps[1:]])
    torch.testing.assert_close(found, probs, rtol=0, atol=1e-7)
    torch.testing.assert_close(torch.cat([step.masks for step in steps]), masks, rtol=0, atol=1e-7)


@pytest.mark.parametrize("context, pad_to, num_objects, num_channels, save_freq, loop, rate, momentum", LOOPS)
def test_loop(context, pad_to, num_objects, num_channels, save_freq, loop, rate, momentum):
    model, naive = pair("resnet18", context, pad_to)
    frames, masks = video(
        30, 6, num_objects, num_channels, absent=((0, 2),)
    )  # object 2 counts in the correction
    given = {0: (masks[0], list(range(1, num_objects + 1)))}
    probs, used = naive.test_video(frames, given, save_freq, loop, rate, momentum)
    if loop:
        assert used.min() < -0.05  # the context's clamp is at work
    same_steps(run_loop(model, frames, given, save_freq, loop, rate, momentum), probs, used)


@pytest.mark.parametrize("loop", (0, 2))
def test_objects_that_appear_in_mid_video(loop):
    """Object 3 appears in frame 1, away from the others. Object 1 is given again in frame 3."""
    model, naive = pair()
    frames, masks = video(31, 6, 3)
    second, third = masks[1].clone(), masks[3].clone()
    second[:3], third[[0, 2, 3]] = 0, 0
    second[0], third[0] = 1 - second[3], 1 - third[1]
    first = masks[0].clone()
    first[0], first[3] = first[0] + first[3], 0
    given = {0: (first, [1, 2]), 1: (second, [3]), 3: (third, [])}
    probs, used = naive.test_video(frames, given, 2, loop, 300.0, keep_given=True)
    same_steps(run_loop(model, frames, given, 2, loop, 300.0), probs, used)


def test_frames_before_the_first_object():
    model, naive = pair()
    frames, masks = video(32, 5, 2)
    steps = run_loop(model, frames, {2: (masks[2], [1, 2])}, 1)
    assert [step.t for step in steps] == [2, 3, 4]
    same_steps(steps, *naive.test_video(frames[2:], {0: (masks[2], [1, 2])}, 1))


def test_batch_norm_keeps_its_statistics():
    model = STM("resnet18", **SMALL)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)  # from the start
    model.eval().train()
    assert model.Decoder.training and not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad and norm.bias.requires_grad for norm in norms)
    assert all(
        norm.training
        for norm in STM("resnet18", **SMALL, freeze_bn=False).train().modules()
        if isinstance(norm, torch.nn.BatchNorm2d)
    )
