"""Where and in which precision a network runs."""

from typing import Literal, get_args

import torch

from vlm_ood.errors import ParameterError, UnknownNameError

Precision = Literal["auto", "fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or CUDA, or MPS, or the CPU.

    Raises:
        UnknownNameError: torch knows no such device.
        ParameterError: this machine does not have it.
    """
    if device is not None and str(device) != "auto":
        return _existing(str(device))
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _existing(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UnknownNameError("device", name, ("auto", "cpu", "cuda", "cuda:0", "mps")) from None
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = counts.get(device.type)
    if count is not None and (device.index or 0) >= count:
        raise ParameterError(
            f"device={name}: torch finds {count} devices of type {device.type} on this machine: give auto or cpu"
        )
    return device


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
