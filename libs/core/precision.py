"""The precisions of the network."""

import torch

DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # by the values of key `amp`
