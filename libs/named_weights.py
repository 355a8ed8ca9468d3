"""Weights by name: `initial shipped`, or the released ones, kept in torch's cache folder and downloaded where there is a network."""

import difflib
from pathlib import Path

import torch

from libs.files import replacing
from libs.structures import InputError

SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "stm-resnet18-from-scratch.pth"
RELEASED = {  # name -> file on Google Drive, as the original repository links it
    "stm-cycle-resnet18": "1R4RkDPfrNz8JzJNNqFhYIPhbruunNnp5",
    "stm-cycle-resnet50": "1tSTNBeqa9hyKBPX6NzL1N7EgkWAg_2cv",
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
            raise InputError(f"key 'initial': there is no file '{initial}', and weights by name are {', '.join(NAMES)}{hint}")
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / f"{initial}.pth.tar"
    if not cached.is_file():
        _download(initial, cached)
    return cached


def _download(name: str, path: Path) -> None:
    """Whole or not at all."""
    import gdown  # which few runs need

    address = f"https://drive.google.com/uc?id={RELEASED[name]}"
    with replacing(path) as temporary:
        try:
            gdown.download(address, str(temporary), quiet=True, timeout=TIMEOUT)
        except (gdown.exceptions.DownloadError, OSError) as fault:
            raise InputError(
                f"key 'initial': the weights {name} could not be downloaded ({type(fault).__name__}); "
                f"get {address} by a browser and put the file at {path}"
            ) from fault
        finally:
            for part in path.parent.glob(f"{temporary.name}*.part"):  # what gdown leaves behind where it fails
                part.unlink()
