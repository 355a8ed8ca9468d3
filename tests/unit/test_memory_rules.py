"""Memory rules against naive versions of them, and settings that clash."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from libs.core.errors import InputError
from libs.method.cycle import predict_reference
from libs.method.memory_bank import MemoryBank
from libs.method.memory_rules import build_rule
from libs.method.propagate import Remembered, Step, propagate
from models.stm import Memory, Objects, Query
from tests.unit.test_propagate import Diary, video_of

BOUND, EVERY, FRAMES = 5, 3, 40
RULES = [("all", 0), ("even", BOUND), ("surprise", BOUND), ("first_last", 0), ("last", 0), ("last", BOUND)]


def keys_of(time: int, objects: int = 2) -> Tensor:
    """Keys (O, 4, 3) that change slowly and come back, so that frames resemble each other."""
    noise = torch.randn(objects, 4, 3, generator=torch.Generator().manual_seed(time))
    waves = torch.tensor([np.sin(time / 7), np.cos(time / 5), time / FRAMES]).float()
    return noise / 50 + waves + torch.arange(objects)[:, None, None] * waves.flip(0)


def naive(rule: str, bound: int, times: Sequence[int], given: set[int], row: slice = slice(None)) -> set[int]:
    """The kept frames after the frames `times`; `row`: the objects that decide."""
    kept: list[int] = []
    for t in times:
        regular = t % EVERY == 0 and rule not in ("last", "first_last")
        if not regular and (t not in given or rule == "last"):
            continue
        kept.append(t)
        if not bound or len(kept) < bound:
            continue
        if rule == "even":
            inner = [i for i in range(1, len(kept) - 1) if kept[i] not in given]
            cost = {i: (kept[i + 1] - kept[i - 1], kept[i]) for i in inner}
        else:
            cost = {i: resemblance(i, kept, row) for i in range(len(kept)) if kept[i] not in given}
        if cost:
            del kept[min(cost, key=lambda i: cost[i])]
    return set(kept)


def resemblance(i: int, kept: Sequence[int], row: slice) -> tuple[float, float, int]:
    """Distance of a frame to its nearest other one, mean distance, and time."""
    means = [keys_of(t)[row].double().mean(1).numpy() for t in kept]
    distances = [np.mean([np.linalg.norm(a - b) for a, b in zip(means[i], other)]) for other in means]
    others = [round(d, 6) for j, d in enumerate(distances) if j != i]
    return min(others), sum(others), kept[i]


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("rule, bound", RULES)
def test_a_rule_keeps_what_its_naive_version_keeps(rule: str, bound: int, differentiable: bool) -> None:
    """Two objects; frames 0, 17 and 25 come with a mask."""
    bank = MemoryBank(bound, differentiable, build_rule(rule, bound))
    bank.appear(Objects.of([2]))
    dropped = 0
    for t in range(FRAMES):
        keys = keys_of(t)
        bank.add(Memory(keys, keys + 9, Objects.of([2])), t, keep=t % EVERY == 0, given=t in (0, 17, 25))
        kept = naive(rule, bound, range(t + 1), {0, 17, 25})
        assert bank.times() == [sorted(kept)], t
        held = sorted({*kept, t})
        assert not bound or len(held) <= bound
        (memory,) = bank.read()
        found = memory.keys.unflatten(1, (len(held), 4)).transpose(0, 1)  # (frames, O, 4, 3)
        order = [next(i for i, k in enumerate(found) if torch.equal(k, keys_of(time))) for time in held]
        assert sorted(order) == list(range(len(held)))  # each held frame once, and no other
        assert torch.equal(memory.values, memory.keys + 9)
        dropped += t % EVERY == 0 and t not in kept
    assert (dropped > 0) == (rule in ("surprise", "first_last", "last"))  # these may drop the newest frame


@pytest.mark.parametrize("rule, bound", RULES)
def test_objects_that_appear_later_have_their_own_history(rule: str, bound: int) -> None:
    """Object 2 appears in frame 10, object 1 is removed after frame 30."""
    first, second = Objects.of([1], 3), Objects(torch.tensor([0]), torch.tensor([2]), 3)
    bank = MemoryBank(bound, rule=build_rule(rule, bound))
    bank.appear(first)
    for t in range(FRAMES):
        if t == 10:
            bank.appear(second)
        rows = slice(0, 1) if t < 10 else slice(0, 2) if t <= 30 else slice(1, 2)
        keys = keys_of(t)[rows]
        bank.add(Memory(keys, keys, first), t, keep=t % EVERY == 0, given=t in (0, 10))
        expected = [naive(rule, bound, range(t + 1), {0, 10}, slice(0, 1))] if t <= 30 else []
        expected += [naive(rule, bound, range(10, t + 1), {10}, slice(1, 2))] if t >= 10 else []
        assert bank.times() == [sorted(kept) for kept in expected], t
        for memory, kept in zip(bank.read(), expected, strict=True):
            assert memory.keys.shape == (1, 4 * len({*kept, t}), 3)
        if t == 30:
            bank.remove([1])


def test_last_and_first_last_by_hand() -> None:
    """Object 1 is given in frame 0, object 2 in frame 3."""
    reads = {}
    for rule in ("last", "first_last"):
        model = Diary()
        list(propagate(model, video_of(9, o2=3), 2, memory_rule=rule))
        reads[rule] = dict(model.reads)
    for t, times in reads["last"].items():
        assert times == ({1: [t - 1]} if t <= 3 else {1: [t - 1], 2: [t - 1]})
    assert reads["first_last"][1] == {1: [0]} and reads["first_last"][3] == {1: [0, 2]}
    assert reads["first_last"][4] == {1: [0, 3], 2: [3]}
    assert reads["first_last"][8] == {1: [0, 3, 7], 2: [3, 7]}


def test_frames_that_resemble_each_other_go_first() -> None:
    """Frames 3 and 9 differ from all others."""
    bank = MemoryBank(4, rule=build_rule("surprise", 4))
    bank.appear(Objects.of([1]))
    for t in range(20):
        keys = torch.full((1, 4, 3), {3: 10.0, 9: -10.0}.get(t, t / 100))
        bank.add(Memory(keys, keys, Objects.of([1])), t, keep=True, given=t == 0)
    assert bank.times() == [[0, 3, 9]]


def test_auto_is_what_it_was_before_there_were_rules() -> None:
    assert type(build_rule("auto", 0)) is type(build_rule("all", 0)) is type(MemoryBank().rule)
    assert type(build_rule("auto", 9)) is type(build_rule("even", 9)) is type(MemoryBank(9).rule)


@pytest.mark.parametrize(
    "rule, frames, line",
    [
        ("all", 20, "all drops no frame, but memory_frames 20 bounds the memory; set memory_frames 0"),
        ("even", 0, "even drops frames when the memory is full, but memory_frames 0 sets no bound"),
        ("surprise", 0, "surprise drops frames .* set memory_frames, for example 20, or memory_rule all"),
    ],
)
def test_a_rule_that_contradicts_the_bound_is_refused(rule: str, frames: int, line: str) -> None:
    with pytest.raises(InputError, match=f"key 'memory_rule': {line}") as error:
        build_rule(rule, frames)
    assert not re.search(r"\n", str(error.value))


def test_only_the_loop_reads_the_largest() -> None:
    """Gradient correction and the cycle loss predict the reference from the whole memory of one frame."""

    class Recorder(Diary):
        def segment(self, query: Query, memories: Sequence[Memory], top_k: int = 0) -> Tensor:
            calls.append(top_k)
            return super().segment(query, memories)

    def remember(step: Step) -> Remembered:
        predict_reference(step)
        return Remembered(step.masks)

    calls: list[int] = []
    list(propagate(Recorder(), video_of(4), 5, remember, top_k=7))
    assert calls == [7, 0, 7, 0, 7, 0]
