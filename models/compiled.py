"""torch.compile for encoders, heads and decoder. The time loop and the memory stay ordinary Python."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from models.stm import STM

# Freezing makes the weights constants, laid out once as the convolutions want them. It excludes gradients.
FIXED_OPTIONS: dict[str, str | int | bool | Callable] = {"freezing": True}


GRAPHS = {"triton.cudagraphs": True}  # what torch.compile(mode="reduce-overhead") sets


def compile_network(model: STM, fixed: bool = True, graphs: bool = False) -> STM:
    """Compile encoders, heads and decoder, in place.

    If torch.compile does not work on this machine, warn and leave the model as it is.

    Args:
        fixed: the weights will not change.
        graphs: replay CUDA graphs, which saves launching each kernel. Each call of a part then overwrites
            what its last call returned. Without effect on CPUs.
    """
    options = (FIXED_OPTIONS if fixed else {}) | (GRAPHS if graphs else {})
    try:  # on a tiny module first: a failure in the midst of a video would come too late
        torch.compile(nn.ReLU(), options=options)(torch.zeros(2, device=next(model.parameters()).device))
    except Exception as error:  # any missing part: a C++ compiler, Triton, Python's headers
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(
            f"compile: torch.compile does not work here ({reason}); continuing without it", stacklevel=2
        )
        return model
    for part in (model.Encoder_M, model.Encoder_Q, model.KV_M_r4, model.KV_Q_r4, model.Decoder):
        part.compile(options=options)
    # Module.compile covers `forward` alone; the decoder has a second entry.
    compiled = torch.compile(model.Decoder.image_maps, options=options)
    model.Decoder.image_maps = compiled  # type: ignore[method-assign]
    return model
