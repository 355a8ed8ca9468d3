"""Fixtures that more than one file needs."""

import pytest
import torch


@pytest.fixture
def float64(monkeypatch):
    """Let the product compute in float64: where it asks for float32, it gets float64.

    Comparisons that pass through a gradient with respect to a mask need it: that gradient jumps where a ReLU changes
    sign, and in float32 two correct implementations differ in the sign of an activation near 0 now and then.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
