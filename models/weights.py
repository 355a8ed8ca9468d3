"""Released weight files and ImageNet's, brought to the names and shapes of our network."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from models.encoders import CONTEXTS
from models.stm import STM

LISTED = 5  # names shown of a long list
# Entries that files may lack: nothing reads the counters (none before PyTorch 0.4.1) and the mean and std of images.
UNREAD = ("num_batches_tracked", "Encoder_M.mean", "Encoder_M.std", "Encoder_Q.mean", "Encoder_Q.std")
ENCODER_LAYER = re.compile(r"Encoder_[MQ]\.res\d\.")
WIDTHS = {
    "keydim": "KV_Q_r4.Key.bias",
    "valdim": "KV_Q_r4.Value.bias",
    "decoder_dim": "Decoder.convFM.bias",
}  # key -> whose length it is


class WeightsError(ValueError):
    """Weights that do not fit, in one line."""


@dataclass(frozen=True)
class Weights:
    """A state dict with the names of our network, and the memory context and the norm that its names imply."""

    state_dict: dict[str, Tensor]
    context: str
    norm: str


def convert_state_dict(content: object) -> Weights:
    """Read any released variant: bare or under 'state_dict', with or without the prefix 'module.', STM-Cycle or STM.

    Raises: WeightsError where `content` is not a dictionary of tensors, or holds NaN or infinity.
    """
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state:
        raise WeightsError("expected a state dict or {'state_dict': ...}; give a file of network weights")
    strangers = [
        str(name)
        for name, value in state.items()
        if not (isinstance(name, str) and isinstance(value, Tensor) and _dense(value))
    ]
    if strangers:
        raise WeightsError(
            f"expected named, dense tensors only, found others at {_listed(strangers)}; give a file of network weights"
        )
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    damaged = [
        name
        for name, value in plain.items()
        if value.is_floating_point() and not value.float().isfinite().all()
    ]
    if damaged:
        raise WeightsError(
            f"expected finite numbers, found NaN or infinity in {_listed(damaged)}; get the file anew"
        )
    others = f"Encoder_M.{CONTEXTS['others']}.weight" in plain
    batch_norm = any(name.endswith("running_mean") for name in plain)
    return Weights(plain, "others" if others else "background", "bn" if batch_norm else "gn")


def load_weights(model: STM, weights: Weights) -> None:
    """Fill `model`; every parameter must be there with its shape. Other entries are named in a warning.

    Raises: WeightsError listing what is missing or of another shape, or naming the ResNet whose encoder layers the
        model lacks: all entries of ResNet-18 are in ResNet-34 too, so such a file is another network.
    """
    own, given = model.state_dict(), weights.state_dict
    needed = {k for k in own if not k.endswith(UNREAD)}
    shapes = [
        f"{k} {tuple(given[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in given and given[k].shape != v.shape
    ]
    unknown = sorted(given.keys() - own.keys())
    layers = [name for name in unknown if ENCODER_LAYER.match(name)]
    errors = {"missing": sorted(needed - given.keys()), "unknown": layers or unknown, "shape": shapes}
    if layers or errors["missing"] or shapes:
        found = "; ".join(f"{kind}: {_listed(names)}" for kind, names in errors.items() if names)
        arch = guess_arch(given)
        kind = f"(of {arch}) " if arch else ""
        raise WeightsError(f"weights {kind}do not fit the network: {_advice(given, own)}; {found}")
    if unknown:
        warnings.warn(
            f"the weights hold {len(unknown)} entries that this network does not have, which are "
            f"ignored: {_listed(unknown)}",
            stacklevel=2,
        )
    model.load_state_dict(given, strict=False)


def load_imagenet(model: STM, arch: str) -> None:
    """Start both encoders from torchvision's ImageNet weights (version 1, as the paper had), downloaded once.

    Raises: WeightsError without network.
    """
    try:
        source = get_model_weights(arch).IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"ImageNet weights of {arch} could not be downloaded ({error}); "
            "start without them by `pretrained False`, or from a file by `initial FILE`"
        ) from error
    renamed = {
        k.replace("layer1", "res2").replace("layer2", "res3").replace("layer3", "res4"): v
        for k, v in source.items()
    }
    for encoder in (model.Encoder_M, model.Encoder_Q):
        own = encoder.state_dict()
        encoder.load_state_dict({k: v for k, v in renamed.items() if k in own}, strict=False)


def guess_arch(state: Mapping[str, Tensor]) -> str:
    """Name of the ResNet whose layers a state dict holds, '' where the names do not tell."""
    blocks = {name.split(".")[2] for name in state if name.startswith("Encoder_Q.res4.")}
    bottleneck = "Encoder_Q.res4.0.conv3.weight" in state
    table = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}
    return table.get((len(blocks), bottleneck), "")


def _advice(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """'set decoder_dim 96', as far as sizes tell."""
    arch = guess_arch(given)
    if arch and arch != guess_arch(own):
        return f"set arch {arch}"
    differing = [
        f"{key} {len(given[name])}"
        for key, name in WIDTHS.items()
        if name in given and given[name].shape != own[name].shape
    ]
    return (
        f"check arch and set {' '.join(differing)}"
        if differing
        else "check arch, keydim, valdim and decoder_dim"
    )


def _dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
