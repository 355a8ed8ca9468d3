"""Files of weights and of training states: written whole or not at all, read without running anything in them."""

import os
from pathlib import Path

import torch

from libs.files import replacing
from libs.structures import InputError
from models.stm import STM
from models.weights import Weights, WeightsError, convert_state_dict, load_weights


def save_checkpoint(path: Path, content: dict) -> None:
    """Write to a temporary name beside `path`, then move: a reader finds the old file or the new one, never half."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def read_file(path: Path) -> object:
    """Content of a torch file, on the CPU, with weights_only=True.

    Raises: InputError naming the file where it is missing, damaged or holds anything but plain data and tensors.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file of weights or a checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # damaged bytes make the unpickler stumble in every way, struct.error and TypeError included
        reason = str(fault).strip().split("\n")[0] or type(fault).__name__
        raise InputError(f"{path}: expected a PyTorch file of tensors and plain values, whole and safe: {reason}") from fault


def read_weights(path: Path) -> Weights:
    """Network weights of any released variant.

    Raises: InputError naming the file.
    """
    return find_weights(read_file(path), path)


def find_weights(content: object, path: Path) -> Weights:
    """The network weights in `content`, which was read from `path`.

    Raises: InputError naming the file.
    """
    try:
        return convert_state_dict(content)
    except WeightsError as fault:
        raise InputError(f"{path}: {fault}") from fault


def fill_model(model: STM, weights: Weights, path: Path) -> None:
    """Load `weights`, read from `path`, into the model.

    Raises: InputError naming the file and listing what does not fit.
    """
    try:
        load_weights(model, weights)
    except WeightsError as fault:
        raise InputError(f"{path}: {fault}") from fault


def read_training_state(path: Path) -> dict:
    """A checkpoint to go on from.

    Raises: InputError where the file holds weights only.
    """
    state = read_file(path)
    needed = {"epoch", "state_dict", "max_skip", "optimizer", "scheduler", "best", "rng"}
    missing = sorted(needed - state.keys()) if isinstance(state, dict) else sorted(needed)
    if missing:
        raise InputError(f"{path}: cannot go on from it, it lacks {', '.join(missing)}; to start from its weights use initial")
    return state
