"""The precisions of the network."""

import torch

DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # by the values of key `amp`
AUTO = "auto"


def choose_precision(amp: str, device: torch.device) -> str:
    """Turn 'auto' into 'bf16' if the device has instructions for it, else into 'off'; keep other values.

    Without such instructions, bf16 is emulated and slower than float32.
    """
    if amp != AUTO:
        return amp
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "off"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "off"
