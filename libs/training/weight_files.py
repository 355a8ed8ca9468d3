"""Read files of weights and checkpoints without running any code in them, and say what other files are."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file as load_safetensors

from libs.core.errors import InputError
from libs.core.foreign_files import recognize

# What torch needs to rebuild numpy numbers, such as a best score, under their names in old and new versions
# of numpy. They hold bytes and a type, so nothing is run.
SCALAR = np.float64(0).__reduce__()[0]  # numpy moved its module in version 2
NUMPY_NUMBERS: list[Any] = [
    (SCALAR, "numpy.core.multiarray.scalar"),
    (SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("bool", "int32", "int64", "uint8", "float16", "float32", "float64")),
]

# What to do if a file holds more than tensors and plain values.
SAVE_ALONE = (
    "where the file was made, save the weights alone: torch.save({'state_dict': model.state_dict()}, FILE)"
)
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # torch's files before version 1.6
MAX_HEADER = 100_000_000  # bytes of the header of safetensors, which their reader allows
OTHER_FORMATS = {  # name -> bytes near the start
    "an HDF5 file": (b"\x89HDF",),
    "a numpy array": (b"\x93NUMPY",),
    "an ONNX network": (b"\x12\x07pytorch", b"onnx"),
    "an image": (b"\x89PNG", b"\xff\xd8\xff"),
}


def read_file(path: Path) -> Any:
    """Content of a torch file or a safetensors file, on the CPU. The content says which of them it is.

    A torch file may hold tensors, plain values and numpy numbers only (`weights_only=True`): nothing in it is
    run.

    Raises: InputError naming the file if it is missing, damaged or holds anything else.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; {_advice_for_folder(path)}")
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; give a file of weights or a checkpoint")
    foreign = _recognize(path)
    if foreign:
        raise InputError(f"{path}: {foreign}")
    try:
        if _is_safetensors(path):
            return load_safetensors(path)
        # torch would take the name of a file for its format.
        with torch.serialization.safe_globals(NUMPY_NUMBERS), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    # Damaged bytes make the unpickler fail in many ways, struct.error and TypeError among them.
    except Exception as error:
        raise InputError(f"{path}: {_reason(error)}") from error


def _advice_for_folder(path: Path) -> str:
    if (path / ".metadata").exists():  # of torch.distributed.checkpoint
        return (
            "it holds a distributed checkpoint; convert it by "
            f"`python3 -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} FILE`"
        )
    return "give the file of weights in it"


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: the length of a header in 8 bytes, and a brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < MAX_HEADER


def _recognize(path: Path) -> str:
    """What a file is, if it is no file of weights, and what to do; else ''."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(LEGACY_START) or _is_safetensors(path):
        return ""
    if start.startswith(b"PK"):
        return _recognize_zip(path)
    for name, magics in OTHER_FORMATS.items():
        if any(magic in start for magic in magics):
            return f"this is {name}; give weights of PyTorch"
    if start.startswith(b"\x80"):
        return (
            f"expected tensors and plain values as torch.save writes them, found a plain pickle; {SAVE_ALONE}"
        )
    return recognize(path)


def _recognize_zip(path: Path) -> str:
    """As `_recognize`, for a zip archive, which torch files are as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except Exception as error:  # damaged bytes make the reader fail in many ways
        return f"expected an intact file, found one that is damaged or cut off ({error}); download it again"
    if "constants.pkl" in names:
        return f"this is a TorchScript archive, whose code is not run; {SAVE_ALONE}"
    if "data.pkl" in names:
        return ""
    if any(name.endswith(".npy") for name in names):
        return "this is an archive of numpy arrays; give weights of PyTorch"
    return "this is a zip archive, but not of torch.save; unpack it, and give the file of weights in it"


def _reason(error: Exception) -> str:
    """Why a file cannot be read, and what to do."""
    text = str(error).strip()
    unknown = re.search(r"GLOBAL ([\w.]+) was not an allowed global", text)
    if unknown:
        return (
            f"expected tensors and plain values, found an object of class {unknown.group(1)}, which is not "
            f"read for safety; {SAVE_ALONE}"
        )
    # After its first sentence, torch advises to load without safety.
    sentence = text.split("\n")[0].split(". ")[0]
    return (
        "expected an intact file of torch.save or safetensors with tensors and plain values "
        f"({sentence or type(error).__name__}); download or copy it again"
    )
