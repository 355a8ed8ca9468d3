"""torch.compile for the parts of the network whose work is arithmetic; the time loop and the memory stay as they are."""

import warnings

import torch
from torch import nn

from models.stm import STM

OPTIONS = {
    "freezing": True
}  # weights become constants, laid out once as the convolutions want them; only without gradients


def compile_network(model: STM, fixed: bool = True) -> STM:
    """Compile encoders, heads and decoder, in place; warns and leaves the model as it is where compiling does not work.

    Args:
        fixed: the weights will not change.
    """
    options = OPTIONS if fixed else {}
    try:
        torch.compile(nn.ReLU(), options=options)(torch.zeros(2, device=next(model.parameters()).device))
    except Exception as error:  # whatever is missing: a C++ compiler, Triton, Python's headers
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(f"compile: torch.compile does not work here ({reason}); going on without", stacklevel=2)
        return model
    for part in (model.Encoder_M, model.Encoder_Q, model.KV_M_r4, model.KV_Q_r4, model.Decoder):
        part.compile(options=options)
    model.Decoder.picture = torch.compile(model.Decoder.picture, options=options)
    return model
