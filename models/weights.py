"""Weight files: which network a file describes, and how its weights get into ours. ImageNet weights too."""

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

Weights = dict[str, Tensor]  # a state dict with the names of our network

LISTED = 5  # names shown of a long list

# Entries that a file may lack. Nothing reads them: the counters (which came with PyTorch 0.4.1), and the mean
# and standard deviation of images.
UNREAD = ("num_batches_tracked", "Encoder_M.mean", "Encoder_M.std", "Encoder_Q.mean", "Encoder_Q.std")
ENCODER_LAYER = re.compile(r"Encoder_[MQ]\.res\d\.")

# Where training code bases keep the weights in a checkpoint, and what they put before the names of entries.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "network", "net")
PREFIXES = re.compile(r"^((module|_orig_mod|model|network|net)\.)+")

# Width of the network -> the entry whose length it is.
WIDTHS = {"keydim": "KV_Q_r4.Key.bias", "valdim": "KV_Q_r4.Value.bias", "decoder_dim": "Decoder.convFM.bias"}

# Number of blocks in res4, and whether they are bottlenecks -> ResNet.
RESNETS = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}


class WeightsError(ValueError):
    """Weights that cannot be used: one line that says why."""


@dataclass(frozen=True)
class NetworkDescription:
    """Which network it is. The fields are the config keys of the same names."""

    arch: str
    keydim: int
    valdim: int
    decoder_dim: int
    norm: str  # 'bn' or 'gn'
    memory_context: str  # 'background' (STM-Cycle) or 'others' (official STM)

    @property
    def pad_to(self) -> int:
        """The input is padded to multiples of this: official STM was trained so."""
        return 16 if self.memory_context == "others" else 1


def describe_network(state: Mapping[str, Tensor]) -> NetworkDescription:
    """Tell from names and shapes which network a state dict belongs to.

    Raises: WeightsError naming the entries that are missing for that.
    """
    arch = guess_arch(state)
    missing = [] if arch else ["the layers Encoder_Q.res4 of a known ResNet"]
    missing += [name for name in WIDTHS.values() if not _length(state, name)]
    if missing:
        raise WeightsError(
            f"expected weights of a Space-Time Memory network; missing: {_listed(missing)}; give another file"
        )
    widths = {key: _length(state, name) for key, name in WIDTHS.items()}
    batch_norm = any(name.endswith("running_mean") for name in state)
    others = f"Encoder_M.{CONTEXTS['others']}.weight" in state
    return NetworkDescription(
        arch, norm="bn" if batch_norm else "gn", memory_context="others" if others else "background", **widths
    )


def _length(state: Mapping[str, Tensor], name: str) -> int:
    """Length of the bias `name`; 0 if there is no such vector."""
    return len(state[name]) if name in state and state[name].ndim == 1 else 0


def guess_arch(state: Mapping[str, Tensor]) -> str:
    """Name of the ResNet whose layers a state dict holds; '' if the names do not tell."""
    blocks = {name.split(".")[2] for name in state if name.startswith("Encoder_Q.res4.")}
    bottleneck = "Encoder_Q.res4.0.conv3.weight" in state
    return RESNETS.get((len(blocks), bottleneck), "")


def convert_state_dict(content: object) -> Weights:
    """Bring the content of any released file to the names of our network.

    Args:
        content: a state dict, bare or under one of STATE_DICT_KEYS; of STM-Cycle or official STM; with or
            without PREFIXES, such as 'module.' of DataParallel and '_orig_mod.' of torch.compile.
    Raises: WeightsError if `content` is not a dictionary of tensors, or holds NaN or infinity.
    """
    state = content
    if isinstance(content, Mapping):
        found = [content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)]
        state = found[0] if found else content
    if not isinstance(state, Mapping) or not state:
        raise WeightsError("expected a state dict or {'state_dict': ...}; give a file of network weights")
    wrong = [str(name) for name, value in state.items() if not (isinstance(name, str) and _is_dense(value))]
    if wrong:
        raise WeightsError(
            f"expected named, dense tensors only, found others at {_listed(wrong)}; "
            "give a file of network weights"
        )
    plain = {PREFIXES.sub("", name): value for name, value in state.items()}
    damaged = [
        name
        for name, value in plain.items()
        if value.is_floating_point() and not value.float().isfinite().all()
    ]
    if damaged:
        raise WeightsError(
            f"expected finite numbers, found NaN or infinity in {_listed(damaged)}; download the file again"
        )
    return plain


def _is_dense(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return not (value.is_meta or value.is_quantized or value.is_complex())


def load_weights(model: STM, weights: Weights) -> None:
    """Fill `model`. Each of its parameters must be in `weights`, with its shape; a warning names others.

    Encoder layers that `model` lacks are an error too: ResNet-34 has all entries of ResNet-18, with equal
    shapes, but it is another network.

    Raises: WeightsError listing what is missing, unknown or of another shape. The model is then unchanged.
    """
    own = model.state_dict()
    needed = {name for name in own if not name.endswith(UNREAD)}
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    missing = sorted(needed - weights.keys())
    unknown = sorted(weights.keys() - own.keys())
    layers = [name for name in unknown if ENCODER_LAYER.match(name)]
    if layers or missing or shapes:
        errors = {"missing": missing, "unknown": layers or unknown, "shape": shapes}
        found = "; ".join(f"{kind}: {_listed(names)}" for kind, names in errors.items() if names)
        arch = guess_arch(weights) or "an unknown network"
        raise WeightsError(
            f"weights of {arch} do not fit a {guess_arch(own)} network; give complete weights of it; {found}"
        )
    if unknown:
        warnings.warn(
            f"{len(unknown)} entries of the weights are ignored, because the network does not have them: "
            f"{_listed(unknown)}",
            stacklevel=2,
        )
    model.load_state_dict(weights, strict=False)


def load_imagenet(model: STM, arch: str) -> None:
    """Start both encoders from torchvision's ImageNet weights (version 1, as in the paper), downloaded once.

    Raises: WeightsError if they cannot be downloaded.
    """
    try:
        source = get_model_weights(arch).IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"ImageNet weights of {arch} could not be downloaded ({error}); "
            "start without them by `pretrained False`, or from a file by `initial FILE`"
        ) from error
    renamed = {
        name.replace("layer1", "res2").replace("layer2", "res3").replace("layer3", "res4"): value
        for name, value in source.items()
    }
    for encoder in (model.Encoder_M, model.Encoder_Q):
        own = encoder.state_dict()
        # ImageNet's layer4 and classifier have no place in the encoders; the mask convolutions stay random.
        encoder.load_state_dict({name: v for name, v in renamed.items() if name in own}, strict=False)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
