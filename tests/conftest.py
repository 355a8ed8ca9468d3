"""Fixtures of all tests."""

from pathlib import Path

import pytest
import torch

from tests.helpers.small_network import small_state_dict


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Use one thread: for small tensors, more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small untrained network, see tests/helpers/small_network.py."""
    path = tmp_path_factory.mktemp("weights") / "small.pth.tar"
    torch.save({"state_dict": small_state_dict()}, path)
    return path
