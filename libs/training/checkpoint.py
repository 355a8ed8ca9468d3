"""Checkpoint files: written completely or not at all; libs/training/weight_files.py reads them.

What a checkpoint holds is listed in `TrainingState.state_dict` (libs/training/training_state.py).
"""

import os
import shutil
import warnings
import zipfile
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from libs.core.errors import InputError
from libs.core.files import atomic_write
from libs.training.weight_files import read_file
from models.stm import STM
from models.weights import Weights, WeightsError, convert_state_dict, load_weights

SUFFIX = ".pth.tar"

# Types of the entries that a checkpoint needs for resuming.
TRAINING_STATE: dict[str, Any] = {
    "best": (int, float),
    "ema": (dict, NoneType),
    "epoch": int,
    "history": list,
    "max_skip": list,
    "optimizer": dict,
    "plan": list,
    "rate": (int, float),
    "rng": dict,
    "scaler": dict,
    "scheduler": dict,
    "solver": str,
    "state_dict": dict,
    "step": int,
    "totals": dict,
    "updates": int,
    "validated": int,
}

# The only entries in a checkpoint of the original.
ORIGINAL_STATE: dict[str, Any] = {"epoch": int, "state_dict": dict, "max_skip": list}


def save_checkpoint(path: Path, content: dict[str, Any], keep: int = 1) -> None:
    """Write `content` to `path`: a reader finds the old file or the new one, never a part.

    Args:
        keep: number of checkpoints to keep, the new one included: recurrent.pth.tar, then the one before it,
            recurrent.1.pth.tar, and so on.
    Raises: InputError naming the file if the disk does not take it.
    """
    with atomic_write(path) as temporary:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            # Without fsync, a power cut after the renaming could leave an empty file under the final name.
            file.flush()
            os.fsync(file.fileno())
        # A damaged file must not push out an intact older one.
        if _is_intact(path):
            _rotate(path, keep)


def _rotate(path: Path, keep: int) -> None:
    """Give each kept checkpoint the name of the next older one; the oldest is overwritten."""
    names = rotation(path, keep)
    # From the oldest on, so that each name is free when its younger neighbour takes it.
    for newer, older in reversed(list(zip(names, names[1:]))):
        if newer == path:  # copied, so that there is a file at `path` at all times
            with atomic_write(older) as copy:
                shutil.copyfile(newer, copy)
        elif newer.exists():
            os.replace(newer, older)


def _is_intact(path: Path) -> bool:
    """Whether `path` is a torch file with correct checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # damaged bytes make the reader fail in many ways
        return False


def rotation(path: Path, keep: int) -> list[Path]:
    """`path` and the names of its `keep` - 1 predecessors, newest first."""
    stem = path.name.removesuffix(SUFFIX)
    return [path, *(path.with_name(f"{stem}.{age}{SUFFIX}") for age in range(1, keep))]


def latest_checkpoint(path: Path) -> tuple[dict[str, Any], Path] | None:
    """The newest intact checkpoint among `path` and its predecessors, and its path; None if there is no file.

    Warns of each damaged file. Raises: InputError if all are damaged.
    """
    stem = path.name.removesuffix(SUFFIX)
    predecessors = list(path.parent.glob(f"{stem}.*{SUFFIX}"))
    predecessors.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    errors = []
    for candidate in [path, *predecessors]:
        if candidate.exists():
            try:
                return read_training_state(candidate), candidate
            except InputError as error:
                errors.append(error)
                warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if errors:
        raise InputError(f"{errors[0]}; no checkpoint in {path.parent} is intact: remove them to start over")
    return None


def read_weights(path: Path) -> Weights:
    """Network weights of any released variant, or of a checkpoint.

    Raises: InputError naming the file.
    """
    return find_weights(read_file(path), path)


def find_weights(content: Any, path: Path, average: bool = True) -> Weights:
    """The network weights in `content`, which was read from `path`.

    Args:
        average: take the running average of the weights if `content` has one.
    Raises: InputError naming the file.
    """
    try:
        return convert_state_dict(content, average)
    except WeightsError as error:
        raise InputError(f"{path}: {error}") from error


def fill_model(model: STM, weights: Weights, path: Path) -> None:
    """Load `weights`, which were read from `path`, into the model.

    Raises: InputError naming the file and listing the parameters that do not fit.
    """
    try:
        load_weights(model, weights)
    except WeightsError as error:
        raise InputError(f"{path}: {error}") from error


def read_training_state(path: Path) -> dict[str, Any]:
    """A checkpoint to resume from: the entries of TRAINING_STATE or, from the original, ORIGINAL_STATE.

    Raises: InputError if entries are missing, as in a file that holds weights only.
    """
    content = read_file(path)
    state = content if isinstance(content, dict) else {}
    # With one training set, the original's `max_skip` may be a single number.
    max_skip = state.get("max_skip")
    if isinstance(max_skip, int | tuple):
        state["max_skip"] = [max_skip] if isinstance(max_skip, int) else list(max_skip)
    if not _wrong_entries(state, ORIGINAL_STATE) and "optimizer" not in state:
        return {name: state[name] for name in ORIGINAL_STATE}
    wrong = _wrong_entries(state, TRAINING_STATE)
    if wrong:
        raise InputError(
            f"{path}: cannot resume from it, entries are missing or of a wrong type: {', '.join(wrong)}; "
            "to start from its weights only, use `initial`"
        )
    return state


def _wrong_entries(state: dict[str, Any], types: dict[str, Any]) -> list[str]:
    """Names in `types` that `state` lacks, or holds with another type."""
    return sorted(name for name, kind in types.items() if not isinstance(state.get(name, ...), kind))
