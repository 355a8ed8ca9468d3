"""The maps of an image for each of its objects, and their gradients."""

import pytest
import torch

from models.decoder import of_objects


def layout(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("objects", [1, 2, 5])
def test_the_gradient_of_an_image_is_the_sum_over_its_objects(objects: int, last: bool) -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 3, 4, 5, dtype=torch.float64).to(memory_format=layout(last)).requires_grad_()
    factors = torch.randn(objects, 3, 4, 5, dtype=torch.float64).to(memory_format=layout(last))
    ((factors * of_objects(maps, torch.zeros(objects, dtype=torch.int64))) ** 2).sum().backward()
    expected = sum(2 * maps.detach()[0] * factor**2 for factor in factors)
    assert maps.grad is not None and (maps.grad[0] - expected).abs().max() < 1e-12


def test_the_objects_of_two_images() -> None:
    maps, clip_index = torch.randn(2, 3, 4, 5, requires_grad=True), torch.tensor([0, 1, 1])
    found = of_objects(maps, clip_index)
    assert torch.equal(found, maps[[0, 1, 1]])
    found.sum().backward()
    assert maps.grad is not None and torch.equal(maps.grad[:, 0, 0, 0], torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("gradients", [False, True])
def test_an_image_is_not_copied(gradients: bool) -> None:
    maps = torch.randn(1, 3, 4, 5, requires_grad=gradients)
    assert of_objects(maps, torch.zeros(3, dtype=torch.int64)).data_ptr() == maps.data_ptr()
