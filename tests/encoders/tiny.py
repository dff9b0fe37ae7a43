"""Checkpoints of a few thousand parameters, in the files and under the names that real ones have."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "patch_size": None}
WORDS = [
    "[UNK]",
    "a",
    "cat",
    "dog",
    "photo",
    "of",
    "very",
    "small",
    "red",
    "fire",
    "truck",
    "the",
    "<pad>",
    "<s>",
    "</s>",
]
HF_VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3}
HF_VISION |= {"image_size": 24, "patch_size": 8}
HF_TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
HF_TEXT |= {"vocab_size": len(WORDS), "max_position_embeddings": 12, "bos_token_id": 13, "eos_token_id": 14}
HF_TEXT |= {"pad_token_id": 12}
HF_ENCODERS = {  # text transformers that open_clip takes from another library, and how it reads them
    "roberta": ({"max_position_embeddings": 40}, "mean_pooler"),
    "xlm-roberta": ({"max_position_embeddings": 40}, "mean_pooler"),
    "mt5": ({"d_model": 32, "d_kv": 16, "d_ff": 48, "num_heads": 2, "num_layers": 2}, "mean_pooler"),
    "m2m_100": (
        {"d_model": 32, "encoder_ffn_dim": 48, "encoder_attention_heads": 2, "encoder_layers": 2}
        | {"decoder_ffn_dim": 48, "decoder_attention_heads": 2, "decoder_layers": 1, "scale_embedding": True},
        "cls_pooler",
    ),
}
PROMPTS = ["a cat", "a photo of a very small red fire truck", "dog", "", "the " * 40]


def openclip_model(vision: dict[str, Any] = VIT, **config: Any) -> Any:
    """A model of open_clip with weights that make every part matter."""
    torch.manual_seed(1)
    make = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    return shaken(make(**{"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT} | config), 0.05)


def openclip_folder(folder: Path, model: Any, vision: dict[str, Any] = VIT, **config: Any) -> Path:
    """The folder that open_clip would push to the hub."""
    described = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT} | config
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": described, "preprocess_cfg": preprocess}))
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    return folder


def hf_text(folder: Path, family: str) -> dict[str, Any]:
    """Write the description and the tokenizer of a text transformer into a folder; the text_cfg that names it."""
    options, pooler = HF_ENCODERS[family]
    folder.mkdir(parents=True, exist_ok=True)
    AutoConfig.for_model(family, **(HF_TEXT | options)).save_pretrained(folder)
    save_tokenizer(folder, start=True)
    named = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_model_pretrained": False}
    return named | {"context_length": 12, "hf_proj_type": "mlp", "hf_pooler_type": pooler}


def transformers_clip(folder: Path) -> Any:
    """A tiny CLIP of transformers, saved to a folder."""
    torch.manual_seed(3)
    model = shaken(CLIPModel(CLIPConfig(text_config=HF_TEXT, vision_config=HF_VISION, projection_dim=20)))
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder)
    save_tokenizer(folder, start=True)
    return model


def transformers_siglip(folder: Path) -> Any:
    """A tiny SigLIP of transformers, saved to a folder."""
    torch.manual_seed(4)
    text = HF_TEXT | {"projection_size": 32}
    model = shaken(SiglipModel(SiglipConfig(text_config=text, vision_config=HF_VISION)))
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(folder)
    save_tokenizer(folder, start=False)
    return model


def shaken(model: Any, scale: float = 0.1) -> Any:
    """Every parameter away from zero and one, so that none can be left out unseen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model.eval()


def save_tokenizer(folder: Path, *, start: bool) -> None:
    """A tokenizer of `WORDS`, with or without a start token."""
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if start else "$A </s>", special_tokens=[("<s>", 13), ("</s>", 14)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="[UNK]"
    ).save_pretrained(folder)


def pixels(side: int, n: int = 3) -> Tensor:
    """Noise as it comes from preprocessing."""
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
