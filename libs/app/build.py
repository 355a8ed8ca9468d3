"""Build the parts of a script from its configuration, which only the scripts and this folder see."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from libs.app.config import Config, Source
from libs.core.distributed import Processes
from libs.core.errors import InputError
from libs.core.named_weights import weights_file
from libs.core.precision import DTYPES, choose_precision
from libs.evaluation.inference import InferenceSettings
from libs.evaluation.outputs import WITH_PROBABILITIES
from libs.training.checkpoint import (
    fill_model,
    find_weights,
    latest_checkpoint,
    read_training_state,
    read_weights,
)
from models.compiled import compile_network
from models.fold import fold_batch_norm
from models.stm import STM
from models.weights import NetworkDescription, Weights, WeightsError, describe_network, load_imagenet
from models.winograd import use_winograd

S = TypeVar("S")
# The functions that layers call to fill a parameter with random numbers.
RANDOM = (
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
    nn.init.uniform_,
    nn.init.normal_,
    nn.init.kaiming_uniform_,
    nn.init.kaiming_normal_,
)


def build_device(
    gpu_id: int, multi_gpu_ids: Sequence[int] = (), processes: Processes | None = None
) -> torch.device:
    """The device of this process: GPU number `gpu_id`, or the CPU for -1 and, with a warning, without CUDA.

    Of several processes, the one with local rank i takes GPU multi_gpu_ids[i].
    Raises: InputError if there are GPUs, but not that one.
    """
    if gpu_id < 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        warnings.warn(
            "CUDA is not available, using the CPU (set `gpu_id -1` to silence this warning)", stacklevel=2
        )
        return torch.device("cpu")
    key, processes = "gpu_id", processes or Processes()
    if processes.world_size > 1:
        key = "multi_gpu_ids"
        if processes.local_rank >= len(multi_gpu_ids):
            raise InputError(f"key '{key}': {multi_gpu_ids} has no GPU for local rank {processes.local_rank}")
        gpu_id = multi_gpu_ids[processes.local_rank]
    count = torch.cuda.device_count()
    if gpu_id > 0 and count == 1 and processes.world_size == 1:
        warnings.warn(f"key '{key}': there is no GPU {gpu_id}, using GPU 0, the only one", stacklevel=2)
        gpu_id = 0
    if gpu_id >= count:
        raise InputError(f"key '{key}': there is no GPU {gpu_id}, only 0 to {count - 1}")
    torch.cuda.set_device(gpu_id)
    return torch.device("cuda", gpu_id)


def cache_folder(index_cache: str) -> Path | None:
    """The folder in which lists of files are kept, from the key `index_cache`; None if none are."""
    if index_cache == "auto":
        caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        return caches / "stm-cycle" if caches.is_absolute() else None  # '~' stays if there is no home
    return None if index_cache == "off" else Path(index_cache)


def build_model(cfg: Config, device: torch.device, resume: bool = False) -> tuple[STM, dict | None]:
    """Build the network with its weights, on `device`.

    Weights come from the checkpoint of `resume`, else from `initial`, else, with `pretrained`, from ImageNet.
    Weights from a file decide which network is built, see `compare_with_config`. Nothing is downloaded then.

    Args:
        resume: whether the key `resume` counts, which is for training only.
    Returns: the network, and the training state to resume or None.
    Raises: InputError naming the file or key.
    """
    if cfg.amp == "fp16" and device.type == "cpu":
        warnings.warn(
            "key 'amp': fp16 takes about ten times as long as float32 on CPUs; use bf16", stacklevel=2
        )
    start = _find_start(cfg, resume)
    torch.manual_seed(cfg.seed)
    if start:
        network = _describe(start.weights, start.path)
        compare_with_config(network, start.path, cfg)
        with UninitializedWeights():
            model = build_network(network, cfg.freeze_bn, cfg.grad_checkpoint)
        fill_model(model, start.weights, start.path)
    else:
        model = _new_model(cfg)
    model = model.to(device).to(memory_format=training_layout(model))
    return model, start.state if start else None


def load_network(path: Path, freeze_bn: bool = True) -> STM:
    """Build the network that a weight file describes and load its weights, on the CPU and in training mode.

    Args:
        path: weights of any released variant, or a checkpoint of train.py.
        freeze_bn: keep the running statistics of batch norm while training.
    Raises: InputError naming the file.
    """
    weights = read_weights(path)
    with UninitializedWeights():
        model = build_network(_describe(weights, path), freeze_bn)
    fill_model(model, weights, path)
    return model


class UninitializedWeights(TorchFunctionMode):
    """Within its block, new parameters that would be random stay as they are in memory.

    Random weights take most of the time of building a network, and weights from a file replace all of them.
    """

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Leave out the functions that fill a parameter with random numbers; each returns it."""
        kwargs = kwargs or {}
        if func in RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_network(network: NetworkDescription, freeze_bn: bool = True, grad_checkpoint: bool = False) -> STM:
    """The network of this description, with random weights. All scripts build their network here."""
    return STM(
        arch=network.arch,
        keydim=network.keydim,
        valdim=network.valdim,
        context=network.memory_context,
        pad_to=network.pad_to,
        freeze_bn=freeze_bn,
        decoder_dim=network.decoder_dim,
        grad_checkpoint=grad_checkpoint,
        norm=network.norm,
    )


def compare_with_config(network: NetworkDescription, path: Path, cfg: Config) -> None:
    """Compare the network that the weights of the file `path` describe with the config; the weights decide.

    A key of the YAML file that contradicts them gives way with one warning. A default gives way silently.
    Raises: InputError if a key contradicts them that was given on the command line.
    """
    other = {key: value for key, value in asdict(network).items() if cfg[key] not in (value, "auto")}
    given = [key for key in other if cfg.source(key) is Source.COMMAND_LINE]
    if given:
        raise InputError(
            f"command line: {_pairs(given, cfg)} contradicts the weights {path}, which are of a network with "
            f"{_pairs(given, other)}; remove these keys, or give other weights"
        )
    in_file = [key for key in other if cfg.source(key) is Source.FILE]
    if in_file:
        warnings.warn(
            f"the weights {path} are of a network with {_pairs(in_file, other)}, which is used instead of "
            f"{_pairs(in_file, cfg)} of the config file",
            stacklevel=3,
        )


def _pairs(keys: Sequence[str], values: dict[str, Any]) -> str:
    """'arch resnet18, decoder_dim 96'."""
    return ", ".join(f"{key} {values[key]}" for key in keys)


@dataclass(frozen=True)
class _Start:
    """What a network starts from: weights, the file they were read from, and the training state to resume."""

    weights: Weights
    path: Path
    state: dict | None = None


def _find_start(cfg: Config, resume: bool) -> _Start | None:
    """The weights of `resume`, if it counts, else those of `initial`; None if the network is a new one."""
    found = _state_to_resume(cfg) if resume else None
    if found:
        state, path = found
        # The state resumes the running average by itself, so the model gets the weights in training.
        return _Start(find_weights(state, path, average=False), path, state)
    if cfg.initial:
        path = weights_file(cfg.initial)
        return _Start(read_weights(path), path)
    return None


def _state_to_resume(cfg: Config) -> tuple[dict, Path] | None:
    """The training state that `resume` names, and its file; for 'auto' the newest complete checkpoint."""
    if cfg.resume == "auto":
        return latest_checkpoint(Path(cfg.checkpoint) / f"{cfg.mode}.pth.tar")
    return (read_training_state(Path(cfg.resume)), Path(cfg.resume)) if cfg.resume else None


def _describe(weights: Weights, path: Path) -> NetworkDescription:
    try:
        return describe_network(weights)
    except WeightsError as error:
        raise InputError(f"{path}: {error}") from error


def _new_model(cfg: Config) -> STM:
    """A network that no file has weights for: as the config says, from ImageNet or random weights."""
    network = NetworkDescription(**{field.name: cfg[field.name] for field in fields(NetworkDescription)})
    if network.memory_context == "auto":
        network = replace(network, memory_context="background")
    model = build_network(network, cfg.freeze_bn, cfg.grad_checkpoint)
    if cfg.pretrained:
        try:
            load_imagenet(model, cfg.arch)
        except WeightsError as error:
            raise InputError(str(error)) from error
    if cfg.twin_start:
        model.init_memory_encoder_from_query()
    return model


def training_layout(model: STM) -> torch.memory_format:
    """Channels last, but not for group norm, whose training step would be 1.2 times as long (CPU, bf16)."""
    group_norm = any(isinstance(module, nn.GroupNorm) for module in model.modules())
    return torch.contiguous_format if group_norm else torch.channels_last


def for_inference(model: STM, amp: str = "off", compiled: bool = False, winograd: bool = True) -> STM:
    """Make the model fast, in place. It can then neither be trained nor saved.

    Args:
        amp: precision of all parameters: 'off' (float32), 'bf16', 'fp16' or 'auto'.
        compiled: use torch.compile; warns if that does not work on this machine.
        winograd: on CPUs, in float32 and not compiled, convolve with fewer multiplications, see
            models/winograd.py.
    """
    model = fold_batch_norm(model.eval()).requires_grad_(False)
    device = next(model.parameters()).device
    # CPUs normalise groups about as fast in either layout, and pool many times faster in this one.
    layout = torch.channels_last if device.type == "cpu" else training_layout(model)
    dtype = DTYPES[choose_precision(amp, device)]
    model.to(dtype).to(memory_format=layout)
    if winograd and not compiled and device.type == "cpu" and dtype == torch.float32:
        use_winograd(model)
    return compile_network(model) if compiled else model


def result_folder(cfg: Config) -> Path:
    """Folder of the masks of the validation set.

    Raises: InputError if it lies among frames or given masks, where a later run would read it.
    """
    root, path = Path(cfg.root), Path(cfg.root) / cfg.output_dir / cfg.valset
    inside = path.resolve()
    inputs = {"JPEGImages", "Annotations"}
    if inside.is_relative_to(root.resolve()) and inputs & set(inside.relative_to(root.resolve()).parts):
        raise InputError(f"key 'output_dir': {path} lies among the data set's files; give another folder")
    return path


def inference_settings(cfg: Config, validation: bool = False) -> InferenceSettings:
    """Settings of test and demo.

    Args:
        validation: without gradient correction, as in the paper, without backward segmentation, with a round
            trip from the last frame only, and without probabilities, because validation writes labels only.
    """
    object_probs = cfg.save_indexed_format in WITH_PROBABILITIES
    settings = settings_from(InferenceSettings, cfg, object_probs=object_probs)
    if validation:
        return replace(settings, loop=0, backward=False, drift_every=0, object_probs=False)
    return settings


def settings_from(kind: type[S], cfg: Mapping[str, Any], **given: Any) -> S:
    """Fill a settings dataclass from the config keys of its fields' names; `given` fields override them.

    Args:
        cfg: a config, or DEFAULTS for the defaults of all keys.
    Raises: TypeError if a field is neither a key nor given.
    """
    names = {field.name for field in fields(kind)} - given.keys()  # type: ignore[arg-type]
    unknown = sorted(names - cfg.keys())
    if unknown:
        raise TypeError(f"{kind.__name__}: expected a key or a value for each field, none for {unknown}")
    return kind(**{name: cfg[name] for name in names}, **given)
