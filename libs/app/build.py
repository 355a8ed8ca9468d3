"""From the config to the parts; nothing below the scripts and this file sees the config."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from libs.core.errors import InputError
from libs.core.named_weights import weights_file
from libs.evaluation.inference import InferenceSettings
from libs.training.checkpoint import (
    fill_model,
    find_weights,
    latest_checkpoint,
    read_training_state,
    read_weights,
)
from libs.training.distributed import Processes
from models.compiled import compile_network
from models.fold import fold_batch_norm
from models.stm import STM
from models.weights import Weights, WeightsError, load_imagenet


def build_device(
    gpu_id: int, multi_gpu_ids: Sequence[int] = (), processes: Processes = Processes()
) -> torch.device:
    """The GPU of that number; the CPU for -1, and with a warning where there is no CUDA.

    Of several processes, the one of local rank i takes multi_gpu_ids[i].
    Raises: InputError where there are several GPUs, but not that one.
    """
    if gpu_id < 0:
        return torch.device("cpu")
    if processes.world_size > 1:
        if processes.local_rank >= len(multi_gpu_ids):
            raise InputError(
                f"key 'multi_gpu_ids': {multi_gpu_ids} names too few GPUs for local rank {processes.local_rank}"
            )
        gpu_id = multi_gpu_ids[processes.local_rank]
    if not torch.cuda.is_available():
        warnings.warn(
            "no CUDA here, running on the CPU; gpu_id -1 says so without this warning", stacklevel=2
        )
        return torch.device("cpu")
    key = "multi_gpu_ids" if processes.world_size > 1 else "gpu_id"
    if gpu_id > 0 and torch.cuda.device_count() == 1 and processes.world_size == 1:
        warnings.warn(f"key '{key}': there is no GPU {gpu_id}, using GPU 0, the only one", stacklevel=2)
        gpu_id = 0
    if gpu_id >= torch.cuda.device_count():
        raise InputError(f"key '{key}': there is no GPU {gpu_id}, only 0 to {torch.cuda.device_count() - 1}")
    torch.cuda.set_device(gpu_id)
    return torch.device("cuda", gpu_id)


def build_model(cfg: CfgNode, device: torch.device, resume: bool = False) -> tuple[STM, dict | None]:
    """The network with its weights from `resume` (training only), `initial` or ImageNet, in this order, and the state to resume.

    Nothing is downloaded where a file brings the weights.
    """
    state, source = _state_to_resume(cfg) if resume else (None, None)
    weights = None
    if state:
        weights = find_weights(state, source, average=False)
    elif cfg.initial:
        source = weights_file(cfg.initial)
        weights = read_weights(source)
    torch.manual_seed(cfg.seed)
    model = _network(cfg, weights)
    if weights:
        fill_model(model, weights, source)
    elif cfg.pretrained:
        try:
            load_imagenet(model, cfg.arch)
        except WeightsError as error:
            raise InputError(str(error)) from error
    if cfg.twin_start and not weights:
        model.init_memory_encoder_from_query()
    return model.to(device, memory_format=_layout(model)), state


def _state_to_resume(cfg: CfgNode) -> tuple[dict | None, Path | None]:
    """The training state that `resume` names and where it lies; 'auto' is the newest whole checkpoint, if there is one."""
    if cfg.resume == "auto":
        return latest_checkpoint(Path(cfg.checkpoint) / f"{cfg.mode}.pth.tar") or (None, None)
    return (read_training_state(Path(cfg.resume)), Path(cfg.resume)) if cfg.resume else (None, None)


def _network(cfg: CfgNode, weights: Weights | None) -> STM:
    context = cfg.memory_context
    if context == "auto":
        context = weights.context if weights else "background"
    pad_to = 16 if context == "others" else 1  # what official STM was trained with
    return STM(
        cfg.arch,
        cfg.keydim,
        cfg.valdim,
        context,
        pad_to,
        cfg.freeze_bn,
        cfg.decoder_dim,
        cfg.grad_checkpoint,
        weights.norm if weights else cfg.norm,
    )


def _layout(model: STM) -> torch.memory_format:
    """Channels last, but for group norm, whose kernels for it are slow: a training step in bf16 on the CPU takes 1.2 times as long."""
    return (
        torch.contiguous_format
        if any(isinstance(m, nn.GroupNorm) for m in model.modules())
        else torch.channels_last
    )


def result_folder(cfg: CfgNode) -> Path:
    """Where the masks of the validation set go."""
    return Path(cfg.root) / cfg.output_dir / cfg.valset


def inference_settings(cfg: CfgNode, correct: bool = True, object_probs: bool = False) -> InferenceSettings:
    """Settings of test and demo; `correct` False for validation, which the paper does without correction."""
    return InferenceSettings(
        input_size=cfg.input_size,
        max_size=cfg.max_size,
        tta_scales=tuple(cfg.tta_scales),
        tta_flip=cfg.tta_flip,
        save_freq=cfg.save_freq,
        memory_frames=cfg.memory_frames,
        loop=cfg.loop if correct else 0,
        correction_rate=cfg.correction_rate,
        correction_beta=cfg.correction_beta,
        correction_tolerance=cfg.correction_tolerance,
        sharpness=cfg.sharpness,
        save_corrected=cfg.save_corrected,
        object_probs=object_probs,
    )


def for_inference(model: STM, amp: str = "off", compiled: bool = False) -> STM:
    """The model made to run fast, in place: no more to be trained or saved.

    Args:
        amp: number format of all its parameters, 'off', 'bf16' or 'fp16'.
        compiled: let torch.compile fuse what it can, or warn where that does not work on this machine.
    """
    formats = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    model = fold_batch_norm(model.eval()).requires_grad_(False)
    model.to(formats[amp], memory_format=_layout(model))
    return compile_network(model) if compiled else model
