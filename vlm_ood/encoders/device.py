"""Where and in which precision a network runs."""

from typing import Literal, get_args

import torch

from vlm_ood.errors import UnknownNameError

Precision = Literal["auto", "fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or CUDA, or MPS, or the CPU."""
    if device is not None and str(device) != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The precision of the network on this device.

    "auto" is bf16 on a GPU with tensor cores for it, fp16 on an older CUDA device and fp32 elsewhere: on a CPU bf16
    was measured eight times slower than fp32.
    """
    if precision not in get_args(Precision):
        raise UnknownNameError("precision", precision, get_args(Precision))
    if precision != "auto":
        return _DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16
