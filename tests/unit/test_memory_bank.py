"""Which frames the memory holds, and that its storage gives back what was put in."""

import pytest
import torch

from libs.method.memory_bank import MemoryBank
from models.memory_read import read
from models.stm import Memory, Objects


def frame(time, objects, positions=3):
    """A memory whose numbers tell the time and the object."""
    keys = time + torch.arange(len(objects))[:, None, None] / 10 + torch.zeros(len(objects), positions, 2)
    return Memory(keys, keys.repeat(1, 1, 2) + 100, objects)


def run(bank, times, save_freq, objects, given=(0,)):
    for t in times:
        bank.add(frame(t, objects), t, keep=t % save_freq == 0, given=t in given)
        yield t, sorted(bank.read()[0].keys[0, ::3, 0].int().tolist())


@pytest.mark.parametrize("grad", [False, True])
def test_unbounded_bank_is_the_papers_rule(grad):
    objects = Objects.of([2])
    with torch.set_grad_enabled(grad):
        bank = MemoryBank()
        bank.appear(objects)
        for t, held in run(bank, range(23), 5, objects):
            assert held == sorted({*range(0, t + 1, 5), t})
            memory = bank.read()[0]
            assert torch.equal(memory.values[:, :, :2], memory.keys + 100)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("bound", [3, 5, 8])
def test_bounded_bank(bound, grad):
    objects = Objects.of([1])
    with torch.set_grad_enabled(grad):
        bank = MemoryBank(bound)
        bank.appear(objects)
        for t, held in run(bank, range(200), 5, objects):
            assert len(held) <= bound and {0, t} <= set(held)
            kept = bank.times()[0]
            if len(kept) > 3 and t > 100:  # even: no gap is more than some times another
                gaps = [b - a for a, b in zip(kept, kept[1:])]
                assert max(gaps) <= 4 * min(g for g in gaps[:-1])


@pytest.mark.parametrize("bound", [0, 3, 5])
def test_read_times_are_those_of_what_is_read(bound):
    objects = Objects.of([1])
    bank = MemoryBank(bound)
    bank.appear(objects)
    assert bank.read() == [] and bank.read_times() == []  # nothing is remembered of a new object
    for t, _ in run(bank, range(40), 3, objects, given=(0, 7)):
        assert bank.read_times()[0] == bank.read()[0].keys[0, ::3, 0].int().tolist()
        assert t in bank.read_times()[0]


def test_given_masks_always_stay():
    objects, given = Objects.of([1]), (0, 3, 7, 11, 12)
    with torch.no_grad():
        bank = MemoryBank(3)
        bank.appear(objects)
        for t, held in run(bank, range(60), 2, objects, given):
            assert {g for g in given if g <= t} | {t} <= set(held)


def test_groups_have_their_own_histories():
    first, second = Objects.of([1], 3), Objects(torch.tensor([0]), torch.tensor([2]), 3)
    with torch.no_grad():
        bank = MemoryBank()
        bank.appear(first)
        bank.add(frame(0, first), 0, keep=True)
        bank.appear(second)
        bank.add(frame(1, first + second), 1, keep=False)
    one, two = bank.read()
    assert one.keys.shape == (1, 6, 2) and two.keys.shape == (1, 3, 2)
    assert two.keys[0, 0, 0].item() == pytest.approx(1.1)


def test_read_in_chunks_equals_the_whole_matrix(monkeypatch):
    torch.manual_seed(0)
    keys, values, query = torch.randn(3, 50, 8), torch.randn(3, 50, 12), torch.randn(3, 8, 5, 7)
    weights = torch.softmax(keys @ query.flatten(2) / 8**0.5, dim=1)  # (O, N, h*w)
    whole = (values.transpose(1, 2) @ weights).unflatten(2, (5, 7))
    for budget in (1, 150, 1000, 10**9):
        monkeypatch.setattr("models.memory_read.MAX_WEIGHTS", budget)
        assert (read(keys, values, query) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("grad", [False, True])
def test_removed_objects_leave_no_rows(grad):
    """Objects 1 to 3 appear first, object 4 later; 2 and 4 go, and with 4 its group."""
    first, second = Objects.of([3]), Objects(torch.tensor([0]), torch.tensor([4]), 5)
    bank = MemoryBank(differentiable=grad)
    bank.appear(first)
    for t in range(6):
        bank.add(frame(t, first), t, keep=t % 5 == 0)
    bank.appear(second)
    bank.add(frame(6, first + second), 6, keep=False)
    before = bank.read()[0]
    bank.remove([2, 4])
    (memory,) = bank.read()
    assert memory.objects.channel.tolist() == [1, 3] and memory.objects.num_channels == 5  # K stays
    assert torch.equal(memory.keys, before.keys[[0, 2]]) and torch.equal(memory.values, before.values[[0, 2]])
    bank.add(frame(7, memory.objects), 7, keep=False)
    assert bank.read()[0].keys[0, ::3, 0].tolist() == [0, 5, 7] and bank.times() == [[0, 5]]


def test_an_object_without_memory_can_be_removed():
    bank = MemoryBank()
    bank.appear(Objects.of([2]))
    bank.remove([1])
    bank.add(frame(0, Objects.of([1])), 0, keep=True)
    (memory,) = bank.read()
    assert memory.objects.channel.tolist() == [2] and memory.keys.shape == (1, 3, 2)
