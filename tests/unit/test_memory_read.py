"""The read of the largest affinities, against the whole matrix."""

import pytest
import torch
from torch import Tensor

from models import memory_read
from models.memory_read import read


def naive_read(keys: Tensor, values: Tensor, query: Tensor, top_k: int) -> Tensor:
    """The whole matrix (O, N, h*w), with minus infinity in place of all but the top_k largest of a column."""
    affinity = keys @ query.flatten(2) / keys.shape[-1] ** 0.5
    smallest = affinity.sort(dim=1, descending=True).values[:, top_k - 1 : top_k]
    weights = affinity.masked_fill(affinity < smallest, -torch.inf).softmax(1)
    return (values.transpose(1, 2) @ weights).unflatten(2, query.shape[-2:])


@pytest.mark.parametrize("top_k", [1, 7, 49])
@pytest.mark.parametrize("budget", [1, 2000, 1 << 24])
def test_the_read_of_the_largest_equals_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, top_k: int, budget: int
) -> None:
    """Readout and gradients, in chunks of any size; a chunk never has more numbers than the budget."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape).requires_grad_() for shape in ((3, 50, 8), (3, 50, 12), (3, 8, 5, 7))]
    sizes, attend = [], memory_read._attend_to_largest

    def spy(positions: Tensor, *args: Tensor, **keys: int) -> Tensor:
        sizes.append(positions.shape[1])
        return attend(positions, *args, **keys)

    monkeypatch.setattr(memory_read, "_attend_to_largest", spy)
    monkeypatch.setattr(memory_read, "MAX_WEIGHTS", budget)
    found, expected = read(*inputs, top_k), naive_read(*inputs, top_k)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((x * weight).sum(), inputs) for x in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert sum(sizes) == 35 and (max(sizes) == 1 or max(sizes) * 3 * (50 + top_k * 12) <= budget)


@pytest.mark.parametrize("top_k", [0, 50, 1000])
def test_at_least_as_many_as_there_are_is_the_plain_read_bit_for_bit(top_k: int) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 50, 8), torch.randn(3, 50, 12), torch.randn(3, 8, 5, 7)
    assert torch.equal(read(*inputs, top_k), read(*inputs))


def test_half_precision_reads_the_largest_too() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape).bfloat16() for shape in ((2, 50, 8), (2, 50, 12), (2, 8, 5, 7))]
    found = read(*inputs, 1)
    assert found.dtype == torch.bfloat16  # one position has weight 1, so each readout is one of the values
    rows = found.flatten(2).transpose(1, 2)  # (O, h*w, Cv)
    assert (rows[:, :, None] == inputs[1][:, None]).all(3).any(2).all()
