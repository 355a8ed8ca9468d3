"""Weight files: which network a file describes, and how its weights get into ours. ImageNet weights too."""

import re
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from torch import Tensor
from torch.hub import get_dir
from torchvision.models import get_model_weights

from models.encoders import CONTEXTS
from models.stm import STM

Weights = dict[str, Tensor]  # a state dict with the names of our network

LISTED = 5  # names shown of a long list

# Entries that a file may lack. Nothing reads them: the counters (which came with PyTorch 0.4.1), and the mean
# and standard deviation of images.
UNREAD = ("num_batches_tracked", "Encoder_M.mean", "Encoder_M.std", "Encoder_Q.mean", "Encoder_Q.std")
ENCODER_LAYER = re.compile(r"Encoder_[MQ]\.res\d\.")

# Where training code bases keep the weights in a checkpoint, the best first; where an average of them.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "network", "net")
AVERAGES = re.compile(r"ema|average|swa|teacher", re.IGNORECASE)
DEEPEST = 4  # dictionaries within each other that are searched for weights
# Parts that wrappers such as DataParallel and torch.compile put into names.
WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
PREFIXES = re.compile(r"^((model|network|net)\.)+")

# Width of the network -> the entry whose length it is.
WIDTHS = {"keydim": "KV_Q_r4.Key.bias", "valdim": "KV_Q_r4.Value.bias", "decoder_dim": "Decoder.convFM.bias"}
MARK = WIDTHS["keydim"]  # the entry by which weights of such a network are recognized
CLASSIFIER = {"layer1.0.conv1.weight", "fc.weight"}  # entries of a ResNet of torchvision

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
    if missing and state.keys() >= CLASSIFIER:
        raise WeightsError(
            "expected weights of a Space-Time Memory network, found those of an image classifier; give "
            "another file (to train a new network from ImageNet weights, set `pretrained True`, no `initial`)"
        )
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


def convert_state_dict(content: object, average: bool = False) -> Weights:
    """Bring the content of any released file to the names of our network.

    Args:
        content: a state dict of STM-Cycle or official STM, bare or in dictionaries, under names with or
            without prefixes and WRAPPERS. Warns if it holds other weights beside those that are taken.
        average: take the running average of a checkpoint of train.py (key 'ema'), if it has one.
    Raises: WeightsError if `content` is not a dictionary of tensors, holds NaN or infinity, or holds several
        networks of which none comes first.
    """
    state = _find_state_dict(content, average)
    if not isinstance(state, Mapping) or not state:
        raise WeightsError("expected a state dict or {'state_dict': ...}; give a file of network weights")
    wrong = {name: v for name, v in state.items() if not (isinstance(name, str) and _is_dense(v))}
    if wrong:
        kinds = [f"{name} ({v.dtype})" if isinstance(v, Tensor) else str(name) for name, v in wrong.items()]
        raise WeightsError(
            f"expected named, dense tensors only, found others at {_listed(kinds)}; "
            "give a file of network weights"
        )
    plain = _with_plain_names(state)
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


def _find_state_dict(content: object, average: bool) -> object:
    """The state dict in nested dictionaries; if none is of such a network, what may be meant to be one."""
    found = _networks(content)
    if average:
        found = {key: state for key, state in found.items() if key.startswith("ema.")} or found
    if not found:
        keys = ("ema", *STATE_DICT_KEYS) if average else STATE_DICT_KEYS
        states = [content.get(key) for key in keys] if isinstance(content, Mapping) else []
        return next((state for state in states if isinstance(state, Mapping)), content)
    ranks = {key: _rank(key) for key in found}
    first, *others = sorted(found, key=ranks.__getitem__)
    if others and ranks[others[0]] == ranks[first]:
        raise WeightsError(
            f"expected one network, found {len(found)}, {_listed([key.rstrip('.') for key in found])}; "
            "save one of them alone"
        )
    others = [key.rstrip(".") for key in others if key != "ema."]  # train.py writes it for itself
    if others:
        warnings.warn(
            f"the weights '{first.rstrip('.')}' of the file are used, and not '{_listed(others)}'; "
            "to use these, save them alone",
            stacklevel=2,
        )
    return found[first]


def _networks(content: object) -> dict[str, Mapping]:
    """State dicts of Space-Time Memory networks, by the keys that lead to them, such as 'model.weights.'."""
    found: dict[str, Mapping] = {}
    waiting, seen = deque([("", 0, content)]), set()
    while waiting:
        key, depth, value = waiting.popleft()
        if not isinstance(value, Mapping) or id(value) in seen or depth > DEEPEST:
            continue
        seen.add(id(value))  # a dictionary may contain itself
        if any(isinstance(name, str) and name.endswith(MARK) for name in value):
            found[key] = value
        else:
            waiting.extend((f"{key}{name}.", depth + 1, inner) for name, inner in value.items())
    return found


def _rank(key: str) -> tuple[bool, int]:
    """Sort key of state dicts: weights before averages, then in the order of STATE_DICT_KEYS."""
    last = key.rstrip(".").rpartition(".")[2]
    place = STATE_DICT_KEYS.index(last) if last in STATE_DICT_KEYS else len(STATE_DICT_KEYS)
    return bool(AVERAGES.search(key)), place


def _with_plain_names(state: Mapping[str, Tensor]) -> Weights:
    """The entries without WRAPPERS, and without the prefix under which the network is.

    Raises: WeightsError if there are several networks, or if two entries would have the same name.
    """
    unwrapped = {name: WRAPPERS.sub("", name) for name in state}
    prefixes = sorted({name[: -len(MARK)] for name in unwrapped.values() if name.endswith(MARK)})
    if len(prefixes) > 1:
        names = [f"'{prefix}{MARK}'" for prefix in prefixes]
        raise WeightsError(
            f"expected one network, found {len(prefixes)}, {_listed(names)}; save one of them alone"
        )
    plain: Weights = {}
    for name, unwrapped_name in unwrapped.items():
        own = unwrapped_name.removeprefix(prefixes[0]) if prefixes else PREFIXES.sub("", unwrapped_name)
        if own in plain:
            raise WeightsError(
                f"expected each entry once, found {own} twice, with and without a prefix; save it once"
            )
        plain[own] = state[name]
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
    floating = {name for name, value in own.items() if value.is_floating_point()}
    whole = [n for n, value in weights.items() if n in floating and not value.is_floating_point()]
    if whole:
        raise WeightsError(
            f"expected numbers with fractions, found {weights[whole[0]].dtype} in {_listed(whole)}; "
            "give the weights as they were before they were quantized"
        )
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

    Raises: WeightsError if they cannot be downloaded, or if the file in torch's cache is damaged.
    """
    version = get_model_weights(arch).IMAGENET1K_V1
    try:
        # The hash is compared after a download only; a file in the cache may be anybody's.
        source = version.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (UnpicklingError, EOFError) as error:
        path = Path(get_dir(), "checkpoints", version.url.rpartition("/")[2])
        raise WeightsError(
            f"{path}: expected ImageNet weights of {arch}; remove it to download them"
        ) from error
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
