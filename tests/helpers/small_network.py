"""The smallest network and the fewest steps: config keys for tests that run a script."""

from pathlib import Path

import torch
from torch import Tensor

from models.stm import STM
from tests.helpers.limits import bound_by_permissions
from tests.helpers.subprocess_runner import Result, run_in_process

NETWORK = {"arch": "resnet18", "keydim": 8, "valdim": 8, "decoder_dim": 8, "pretrained": False, "gpu_id": -1}
SMALL = {
    **NETWORK,
    "input_size": (32, 48),
    "workers": 0,
    "sampled_frames": 2,
    "iter_size": 1,
    "epochs": 1,
    "loop": 0,
    "epoch_per_test": 0,
}
TRAIN_ON_FOLDER = {"trainset": "FOLDER", "datafreq": 1, "max_skip": 1}


def small(**keys: object) -> dict[str, object]:
    """SMALL with these keys added or changed."""
    return {**SMALL, **keys}


def small_state_dict() -> dict[str, Tensor]:
    """Random weights of the network that NETWORK describes; the same ones each time."""
    torch.manual_seed(0)
    model = STM("resnet18", 8, 8, decoder_dim=8)
    model.init_memory_encoder_from_query()
    return model.state_dict()


def segment_folder(root: Path, weights: Path, **keys: object) -> Result:
    """Run test.py on a folder of videos below `root`, as a user who is not root."""
    with bound_by_permissions():
        return run_in_process(
            "test.py", **small(**{"root": root, "valset": "FOLDER", "initial": weights, **keys})
        )
