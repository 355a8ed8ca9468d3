"""Attention: the weights agree with the fused read, masses have sum 1, and positions lie where pixels are."""

import numpy as np
import pytest
import torch
from torch import Tensor

import models.memory_read
from analysis.attention import kind_of
from analysis.reading import focus_on, read_from, spread
from models.memory_read import read, read_weights

OBJECTS, N, CK, CV, SIZE = 2, 24, 8, 5, (3, 4)  # objects, memory positions, channels, query positions


@pytest.fixture
def memory() -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and query, with keys large enough that attention is far from even."""
    torch.manual_seed(0)
    keys, values = 2 * torch.randn(OBJECTS, N, CK).double(), torch.randn(OBJECTS, N, CV).double()
    return keys, values, 2 * torch.randn(OBJECTS, CK, *SIZE).double()


@pytest.mark.parametrize("bound", [1, 5 * OBJECTS * N, 1 << 24])
def test_the_weights_are_those_of_the_fused_read(
    memory: tuple[Tensor, Tensor, Tensor], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many query positions are taken at a time; never more than the bound allows, or one."""
    monkeypatch.setattr(models.memory_read, "MAX_WEIGHTS", bound)
    keys, values, query = memory
    parts = list(read_weights(keys, query.flatten(2).transpose(1, 2)))
    assert all(part.numel() <= max(bound, OBJECTS * N) for part in parts)
    weights = torch.cat(parts, 1)
    torch.testing.assert_close(weights.sum(2), torch.ones(OBJECTS, 12).double())
    readout = (weights @ values).transpose(1, 2).unflatten(2, SIZE)
    torch.testing.assert_close(readout, read(keys, values, query))


@pytest.mark.parametrize("bound", [1, 1 << 24])
def test_reading_for_several_positions_is_their_average(
    memory: tuple[Tensor, Tensor, Tensor], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.memory_read, "MAX_WEIGHTS", bound)
    keys, values, query = memory
    focus = torch.zeros(SIZE).double()
    focus[0, 1], focus[2, 3], focus[1, 0] = 0.5, 0.3, 0.2
    mass = read_from(keys[1], query[1], focus)
    torch.testing.assert_close(mass.sum(), torch.tensor(1.0).double())
    averaged = (read(keys, values, query)[1] * focus).sum((1, 2))
    torch.testing.assert_close(mass @ values[1], averaged)


def test_half_precision_is_read_in_float32(memory: tuple[Tensor, Tensor, Tensor]) -> None:
    keys, _, query = (x.bfloat16() for x in memory)
    (weights,) = read_weights(keys, query.flatten(2).transpose(1, 2))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(2), torch.ones(OBJECTS, 12))


@pytest.mark.parametrize("pad_to", [1, 16])
@pytest.mark.parametrize("size", [(48, 64), (40, 57)])
def test_a_pixel_is_nearest_to_one_position(size: tuple[int, int], pad_to: int) -> None:
    """Each stride-2 layer centres its output i at its input 2 i, so position i is centred at pixel 16 i."""
    top, left = ((-side % pad_to) // 2 for side in size)
    for y, x in ((0, 0), (16, 32), (23, 40), (24, 39), (size[0] - 1, size[1] - 1)):
        mask = torch.zeros(size)
        mask[y, x] = 1
        focus = focus_on(mask, pad_to)
        assert focus.shape == (-(-size[0] // 16), -(-size[1] // 16)) and focus.sum() == 1
        i, j = ((at + first + 8) // 16 for at, first in ((y, top), (x, left)))
        i, j = min(i, focus.shape[0] - 1), min(j, focus.shape[1] - 1)
        assert focus[i, j] == 1


@pytest.mark.parametrize("pad_to", [1, 16])
def test_spread_puts_values_at_the_centres(pad_to: int) -> None:
    size = (40, 57)
    maps = np.random.default_rng(0).random((3, 4))
    large = spread(maps, size, pad_to)
    top, left = ((-side % pad_to) // 2 for side in size)
    assert large.shape == size
    assert large[16 - top, 32 - left] == pytest.approx(maps[1, 2])
    assert large[24 - top, 32 - left] == pytest.approx((maps[1, 2] + maps[2, 2]) / 2)


def test_kinds_of_memory_frames() -> None:
    assert [kind_of(time, 11, 5) for time in (5, 10, 9)] == ["first", "previous", "kept"]
    assert kind_of(5, 6, 5) == "first"
