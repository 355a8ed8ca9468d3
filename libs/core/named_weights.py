"""Weights by name: `initial shipped`, and released weights, downloaded once into torch's cache folder."""

import difflib
import warnings
from pathlib import Path

import torch

from libs.core.errors import InputError
from libs.core.files import atomic_write

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "shipped-resnet18.pth"
# Name -> files on Google Drive that the original repository links, the newest first.
RELEASED = {
    # Its authors replaced this file on 2022-08-31. The second one is the file of before.
    "stm-cycle-resnet18": ("1Lp9X2b0_som0WagT2MAovJ0NokjCfGUJ", "1R4RkDPfrNz8JzJNNqFhYIPhbruunNnp5"),
    "stm-cycle-resnet50": ("1tSTNBeqa9hyKBPX6NzL1N7EgkWAg_2cv",),
}
DRIVE = "https://drive.google.com/uc?id="  # and the id of a file
TIMEOUT = 60  # seconds without an answer
NAMES = ("shipped", *RELEASED)


def weights_file(initial: str) -> Path:
    """The file of the weights that the key `initial` names: a path, or one of NAMES.

    A released file is downloaded if it is not in torch's cache folder.
    Raises: InputError if the name is unknown, or if the weights cannot be downloaded.
    """
    path = Path(initial)
    if initial == "shipped":
        return SHIPPED
    if initial not in RELEASED:
        # A word without a folder and suffix is rather a misspelt name than a file that is missing.
        if not path.exists() and len(path.parts) == 1 and not path.suffix:
            near = difflib.get_close_matches(initial, NAMES, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise InputError(
                f"key 'initial': there is no file '{initial}'; names of weights are {', '.join(NAMES)}{hint}"
            )
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / f"{initial}.pth.tar"
    if not cached.is_file():
        _download(initial, cached)
    return cached


def _download(name: str, path: Path) -> None:
    """Download the newest available file of the weights `name`. `path` appears only when it is complete.

    Warns if it is not the newest one. Raises: InputError if none can be downloaded.
    """
    import gdown  # here, because few runs need it

    addresses = [f"{DRIVE}{number}" for number in RELEASED[name]]
    reasons: list[str] = []
    with atomic_write(path) as temporary:
        for address in addresses:
            try:
                gdown.download(address, str(temporary), quiet=True, timeout=TIMEOUT)
                break
            except (gdown.exceptions.DownloadError, OSError) as error:
                reasons.append(type(error).__name__)
            finally:
                # gdown leaves partial files behind if it fails.
                for part in path.parent.glob(f"{temporary.name}*.part"):
                    part.unlink()
        else:
            raise InputError(
                f"key 'initial': the weights {name} could not be downloaded ({', '.join(reasons)}); "
                f"download {' or '.join(addresses)} with a browser and save the file as {path}"
            )
    if reasons:
        warnings.warn(
            f"the newest file of {name} could not be downloaded; an older one is used", stacklevel=3
        )
