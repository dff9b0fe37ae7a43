"""A CLIP of a million numbers, most of them its vocabulary: everything real but the size."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import open_clip.factory
import torch

from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.openclip import load_openclip

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@contextmanager
def tiny_architecture() -> Iterator[str]:
    """Let open_clip know the architectures `tiny` and `tiny-quickgelu` for a while."""
    known = {"tiny": CONFIG, "tiny-quickgelu": CONFIG | {"quick_gelu": True}}
    with patch.dict(open_clip.factory._MODEL_CONFIGS, known):
        yield "tiny"


def tiny_encoder() -> ClipEncoder:
    """With random weights, the same every time."""
    with tiny_architecture():
        return load_openclip("random:tiny", torch.device("cpu"), torch.float32)
