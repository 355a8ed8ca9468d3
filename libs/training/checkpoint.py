"""Files of weights and of training states: written whole or not at all, read without running anything in them."""

import os
import shutil
import warnings
import zipfile
from pathlib import Path
from types import NoneType

import torch

from libs.core.errors import InputError
from libs.core.files import atomic_write
from models.stm import STM
from models.weights import Weights, WeightsError, convert_state_dict, load_weights

SUFFIX = ".pth.tar"
TRAINING_STATE = {  # what a checkpoint must hold to go on from it
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


ORIGINAL_STATE = {
    "epoch": int,
    "state_dict": dict,
    "max_skip": list,
}  # all that a checkpoint of the original holds


def save_checkpoint(path: Path, content: dict, keep: int = 1) -> None:
    """Write to a temporary name beside `path`, then move: a reader finds the old file or the new one, never half.

    Args:
        keep: how many stay, this one included: recurrent.pth.tar, recurrent.1.pth.tar (the one before), ...
    """
    with atomic_write(path) as temporary:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        older = rotation(path, keep)
        if _whole(path):  # else what it would push out is worth more
            for younger, place in zip(
                older[-2::-1], older[:0:-1]
            ):  # from the oldest on, each moves up by one
                if younger != path and younger.exists():
                    os.replace(younger, place)
                elif younger == path:  # a copy, so that there is no moment without `path`
                    with atomic_write(place) as copy:
                        shutil.copyfile(younger, copy)


def _whole(path: Path) -> bool:
    """Whether a torch file is there with all its bytes, by its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # damaged bytes make the reader stumble in every way
        return False


def rotation(path: Path, keep: int) -> list[Path]:
    """`path` and the names of its `keep` - 1 predecessors, newest first."""
    stem = path.name.removesuffix(SUFFIX)
    return [path, *(path.with_name(f"{stem}.{age}{SUFFIX}") for age in range(1, keep))]


def latest_checkpoint(path: Path) -> tuple[dict, Path] | None:
    """The newest whole checkpoint among `path` and its predecessors, with its path; None where there is none at all.

    Warns of damaged ones. Raises: InputError where all are damaged.
    """
    stem, damaged = path.name.removesuffix(SUFFIX), []
    older = sorted(path.parent.glob(f"{stem}.*{SUFFIX}"), key=lambda p: p.stat().st_mtime, reverse=True)
    for candidate in [path, *older]:
        if candidate.exists():
            try:
                return read_training_state(candidate), candidate
            except InputError as error:
                damaged.append(error)
                warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if damaged:
        raise InputError(f"{damaged[0]}; no checkpoint in {path.parent} is whole: remove them to start anew")
    return None


def read_file(path: Path) -> object:
    """Content of a torch file, on the CPU, with weights_only=True.

    Raises: InputError naming the file where it is missing, damaged or holds anything but plain data and tensors.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file of weights or a checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # damaged bytes make the unpickler stumble in every way, struct.error and TypeError included
        reason = (
            str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        )  # what follows is torch's advice to load without safety
        raise InputError(
            f"{path}: expected a PyTorch file of tensors and plain values, whole and safe: {reason}"
        ) from error


def read_weights(path: Path) -> Weights:
    """Network weights of any released variant.

    Raises: InputError naming the file.
    """
    return find_weights(read_file(path), path)


def find_weights(content: object, path: Path, average: bool = True) -> Weights:
    """The network weights in `content`, which was read from `path`; their running average where there is one and `average`.

    Raises: InputError naming the file.
    """
    if average and isinstance(content, dict) and isinstance(content.get("ema"), dict):
        content = content["ema"]
    try:
        return convert_state_dict(content)
    except WeightsError as error:
        raise InputError(f"{path}: {error}") from error


def fill_model(model: STM, weights: Weights, path: Path) -> None:
    """Load `weights`, read from `path`, into the model.

    Raises: InputError naming the file and listing what does not fit.
    """
    try:
        load_weights(model, weights)
    except WeightsError as error:
        raise InputError(f"{path}: {error}") from error


def read_training_state(path: Path) -> dict:
    """A checkpoint to resume: all of TRAINING_STATE, or, from the original, only what ORIGINAL_STATE names.

    Raises: InputError where the file holds weights only.
    """
    state = read_file(path)
    own = state if isinstance(state, dict) else {}
    if isinstance(own.get("max_skip"), (int, tuple)):  # the original's may hold one number for one set
        skips = own["max_skip"]
        own["max_skip"] = [skips] if isinstance(skips, int) else list(skips)
    if (
        all(isinstance(own.get(name), kind) for name, kind in ORIGINAL_STATE.items())
        and "optimizer" not in own
    ):
        return {name: own[name] for name in ORIGINAL_STATE}
    missing = sorted(
        name for name, kind in TRAINING_STATE.items() if not isinstance(own.get(name, ...), kind)
    )
    if missing:
        raise InputError(
            f"{path}: cannot go on from it, it lacks {', '.join(missing)}; to start from its weights use initial"
        )
    return state
