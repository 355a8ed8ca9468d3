"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The tensors here are small: threads that share the cores with other programs wait for each other."""
    torch.set_num_threads(1)
