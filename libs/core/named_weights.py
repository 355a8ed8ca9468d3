"""Weights by name: `initial shipped`, or the released ones, kept in torch's cache folder and downloaded where there is a network."""

import difflib
import warnings
from pathlib import Path

import torch

from libs.core.errors import InputError
from libs.core.files import atomic_write

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "stm-resnet18-from-scratch.pth"
RELEASED = {  # name -> files on Google Drive, as the original repository links them; the newest comes first
    # Its authors replaced the file on 2022-08-31; the second one is what the link named before.
    "stm-cycle-resnet18": ("1Lp9X2b0_som0WagT2MAovJ0NokjCfGUJ", "1R4RkDPfrNz8JzJNNqFhYIPhbruunNnp5"),
    "stm-cycle-resnet50": ("1tSTNBeqa9hyKBPX6NzL1N7EgkWAg_2cv",),
}
TIMEOUT = 60  # seconds without an answer
NAMES = ("shipped", *RELEASED)


def weights_file(initial: str) -> Path:
    """Where the weights lie that the key `initial` means: a path, or one of NAMES.

    Raises: InputError where a name is unknown, or its weights are not there and cannot be downloaded.
    """
    path = Path(initial)
    if initial == "shipped":
        return SHIPPED
    if initial not in RELEASED:
        if not path.exists() and len(path.parts) == 1 and not path.suffix:
            near = difflib.get_close_matches(initial, NAMES, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise InputError(
                f"key 'initial': there is no file '{initial}', and weights by name are {', '.join(NAMES)}{hint}"
            )
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / f"{initial}.pth.tar"
    if not cached.is_file():
        _download(initial, cached)
    return cached


def _download(name: str, path: Path) -> None:
    """Download the newest file that can be had, whole or not at all.

    Raises: InputError where none can be downloaded.
    """
    import gdown  # which few runs need

    addresses = [f"https://drive.google.com/uc?id={number}" for number in RELEASED[name]]
    reasons: list[str] = []
    with atomic_write(path) as temporary:
        for address in addresses:
            try:
                gdown.download(address, str(temporary), quiet=True, timeout=TIMEOUT)
                break
            except (gdown.exceptions.DownloadError, OSError) as error:
                reasons.append(type(error).__name__)
            finally:
                for part in path.parent.glob(
                    f"{temporary.name}*.part"
                ):  # what gdown leaves behind where it fails
                    part.unlink()
        else:
            raise InputError(
                f"key 'initial': the weights {name} could not be downloaded ({', '.join(reasons)}); "
                f"get {' or '.join(addresses)} by a browser and put the file at {path}"
            )
    if reasons:
        warnings.warn(
            f"the newest file of {name} could not be downloaded, an older one was taken", stacklevel=2
        )
