"""From a name to an encoder."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import torch

from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.device import Precision, choose_device, choose_dtype

ENCODERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "embedded": "EfficientNet-Lite2 and MiniLM from packages; no hub, not CLIP",
        "ARCH/TAG": "any pair of open_clip, such as ViT-B-16/openai",
        "hf-hub:ORG/NAME": "an open_clip model on the Hugging Face hub",
        "hf:ORG/NAME": "a CLIP or SigLIP checkpoint of transformers on the hub",
        "/path": "a local checkpoint: a transformers folder, or ARCH=/path/to/weights for open_clip",
        "random:ARCH": "an open_clip architecture with random weights, for tests and benchmarks",
    }
)


def load_encoder(
    name: str = "embedded", *, device: str | torch.device | None = None, dtype: Precision = "auto"
) -> Encoder:
    """Load an encoder by name.

    Args:
        name: one of the forms in `ENCODERS`.
        device: "cuda", "cuda:1", "mps", "cpu"; by default the best there is.
        dtype: precision of the network; "auto" is bf16 or fp16 on a GPU that is fast at it, fp32 elsewhere.

    Raises:
        UnknownNameError: no such encoder, architecture or tag.
        CheckpointError: weights that don't fit.
        HubError: a hub that can't be reached.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    if name == "embedded":
        from vlm_ood.encoders.embedded import EmbeddedEncoder

        return EmbeddedEncoder(where, precision)
    if name.startswith("hf:"):
        from vlm_ood.encoders.transformers_clip import load_transformers

        return load_transformers(name, where, precision)
    from vlm_ood.encoders.openclip import load_openclip

    return load_openclip(name, where, precision)
