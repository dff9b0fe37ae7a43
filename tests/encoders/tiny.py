"""Checkpoints of a few thousand parameters, in the files and under the names that real ones have."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "patch_size": None}
PROMPTS = ["a cat", "a photo of a very small red fire truck", "dog", "", "the " * 40]


def openclip_model(vision: dict[str, Any] = VIT, **config: Any) -> Any:
    """A model of open_clip with weights that make every part matter."""
    torch.manual_seed(1)
    make = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    model = make(**{"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT} | config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def openclip_folder(folder: Path, model: Any, vision: dict[str, Any] = VIT, **config: Any) -> Path:
    """The folder that open_clip would push to the hub."""
    described = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT} | config
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": described, "preprocess_cfg": preprocess}))
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    return folder


def pixels(side: int, n: int = 3) -> Tensor:
    """Noise as it comes from preprocessing."""
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
