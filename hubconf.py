"""Entry points of torch.hub: use this project from other code, without a copy of it.

    segmenter = torch.hub.load(REPOSITORY, "segmenter", weights="shipped")
    network = torch.hub.load(REPOSITORY, "stm", arch="resnet50")

REPOSITORY is OWNER/NAME on GitHub, or, with source="local", the path of a checkout.
docs/inference.md says more.
"""

import sys
from pathlib import Path as _Path  # torch.hub lists all names without an underscore that can be called
from typing import Any as _Any

# Modules that must be there; requirements.txt has their packages and versions.
dependencies = ["torch", "torchvision", "numpy", "cv2", "PIL", "yaml", "yacs", "filelock", "safetensors"]
dependencies += ["scipy", "vos_benchmark"]

_HERE = _Path(__file__).resolve().parent
_PACKAGES = ("libs", "models")  # of this project; Python holds one package of a name


def segmenter(weights: str = "shipped", **options: _Any) -> _Any:
    """Load a `libs.Segmenter`, which tracks objects frame by frame.

    Args:
        weights: a file, or a name that the key `initial` accepts, such as shipped.
        options: device, precision, correct, memory_frames, memory_rule, top_k, max_size, probabilities: see
            libs.Segmenter.load.
    Raises: ImportError if the caller has imported another `libs` or `models`; InputError naming a file that
        cannot be read, or a wrong option.
    """
    _refuse_others()
    from libs.app.segmenter import Segmenter

    return Segmenter.load(weights, **options)


def stm(weights: str = "", **network: _Any) -> _Any:
    """Build the network, a `models.stm.STM`, on the CPU and in training mode.

    Args:
        weights: a file, or a name that the key `initial` accepts; it says what the network is.
        network: without weights, the arguments of models.stm.STM, such as arch="resnet50"; the new weights
            are random.
    Raises: ImportError if the caller has imported another `libs` or `models`; InputError naming a file that
        cannot be read, or both arguments if both are given.
    """
    _refuse_others()
    from libs.app.build import load_network
    from libs.core.errors import InputError
    from libs.core.named_weights import weights_file
    from models.stm import STM

    if not weights:
        return STM(**network)
    if network:
        raise InputError(f"stm: the weights say what the network is; remove {', '.join(network)}, or weights")
    return load_network(weights_file(weights))


def _refuse_others() -> None:
    """Check that no other packages have the names of this project's.

    Raises: ImportError naming the package, its place, and what to do.
    """
    for name in _PACKAGES:
        module = sys.modules.get(name)
        places = [*getattr(module, "__path__", []), getattr(module, "__file__", None) or "nowhere"]
        if module is not None and not any(_Path(place).resolve() == _HERE / name for place in places):
            raise ImportError(
                f"a package '{name}' from {places[0]} was imported before, and {_HERE} has one of the same "
                "name; load this project in a process that does not import the other one, or rename that one"
            )
