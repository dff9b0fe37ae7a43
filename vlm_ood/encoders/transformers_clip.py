"""Encoders from transformers: CLIP and SigLIP checkpoints, from a folder or from the hub.

SigLIP 2 checkpoints of a fixed resolution are stored as SigLIP and load as such; those of free resolution (NaFlex) are
another architecture and are refused. Activation, head counts and sizes are read from the checkpoint's config.json.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.digests import digest_of, digest_of_weights
from vlm_ood.encoders.checkpoints import fill, read_checkpoint
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.hub import hub_weights
from vlm_ood.encoders.image_tower import Block, VisionTransformer
from vlm_ood.encoders.positions import Positions
from vlm_ood.encoders.preprocessing import Interpolation, Preprocessing
from vlm_ood.encoders.transformers_text import ClipText, SiglipText
from vlm_ood.errors import CheckpointError

WEIGHTS: Final = ("model*.safetensors", "pytorch_model*.bin")  # one file, or the shards of one model
TOKENIZERS: Final = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
RESAMPLING: Final[Mapping[int, Interpolation]] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def load_transformers(name: str, device: torch.device, dtype: torch.dtype) -> ClipEncoder:
    """Load a CLIP or SigLIP checkpoint.

    Args:
        name: a folder with config.json, or hf:ORG/NAME.
        device: where it runs.
        dtype: in which it runs.

    Raises:
        CheckpointError: another architecture, weights that don't fit, a description that is missing.
        HubError: a hub that can't be reached.
    """
    folder = _folder(name)
    model = _load_model(folder)
    family = model.config.model_type
    preprocessing = _preprocessing(folder)
    described = (folder / "config.json").read_bytes()
    digest = digest_of(
        "transformers", described, digest_of_weights(model.state_dict()), preprocessing.digest, str(dtype)
    )
    scale = float(model.logit_scale.detach().exp())
    model = model.to(device, dtype).eval().requires_grad_(False)
    return ClipEncoder(
        name,
        digest,
        _clip_image_tower(model) if family == "clip" else _siglip_image_tower(model),
        (ClipText if family == "clip" else SiglipText)(model, _load_tokenizer(folder)),
        preprocessing,
        dim=model.config.projection_dim if family == "clip" else model.config.text_config.projection_size,
        scale=scale,
        device=device,
        dtype=dtype,
    )


def _folder(name: str) -> Path:
    if not name.startswith("hf:"):
        return Path(name)
    return hub_weights(name.removeprefix("hf:"), WEIGHTS, "no network: download its files and pass /path/to/its/folder")


def _load_model(folder: Path) -> Any:
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    described = _read_json(folder / "config.json")
    families = {"clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel)}
    family = described.get("model_type")
    if family not in families:
        raise CheckpointError(f"{folder} holds a model of type {family!r}: give one of {', '.join(families)}")
    make_config, make_model = families[family]
    with torch.random.fork_rng(devices=[]):
        model = make_model(make_config.from_dict(described)).float()
    fill(model, _read_folder(folder), str(folder), "is config.json that of another model?")
    return model


def _read_folder(folder: Path) -> dict[str, Tensor]:
    for pattern in WEIGHTS:
        files = sorted(folder.glob(pattern))
        if files:
            weights = {key: tensor for file in files for key, tensor in read_checkpoint(file).weights.items()}
            return {key: tensor for key, tensor in weights.items() if not key.endswith(".position_ids")}
    raise CheckpointError(f"{folder} holds neither {' nor '.join(WEIGHTS)}: download the weights beside config.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    return content


def _preprocessing(folder: Path) -> Preprocessing:
    """From preprocessor_config.json, or from processor_config.json, where newer versions keep the same entries."""
    older = folder / "preprocessor_config.json"
    entries = _read_json(older) if older.is_file() else _read_json(folder / "processor_config.json")["image_processor"]
    size, crop = _sides(entries.get("size", 224)), _sides(entries.get("crop_size", entries.get("size", 224)))
    shortest = size.get("shortest_edge")
    if shortest is not None and entries.get("do_center_crop", False):
        height, width = crop.get("height"), crop.get("width")
    else:
        height, width = size.get("height"), size.get("width")
    if height is None or width is None:
        raise CheckpointError(f"{folder} doesn't say one size of its input: size {size}, crop_size {crop}")
    return Preprocessing(
        height,
        width,
        tuple(entries["image_mean"]),
        tuple(entries["image_std"]),
        interpolation=RESAMPLING[entries.get("resample", 3)],
        resize_mode="squash" if shortest is None else "shortest",
        resize=shortest,
    )


def _sides(size: int | Mapping[str, int]) -> Mapping[str, int]:
    """Older checkpoints write one number: the side of the crop, and of the shorter edge before it."""
    return {"shortest_edge": size, "height": size, "width": size} if isinstance(size, int) else size


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers would make an empty one
        raise CheckpointError(f"{folder} holds none of {', '.join(TOKENIZERS)}: put the tokenizer beside config.json")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"{folder} has no usable tokenizer ({error}): download its files anew") from error


@dataclass(frozen=True, eq=False)
class EncoderLayer(Block):
    """A block of CLIP's or SigLIP's vision transformer."""

    layer: Any

    @property
    def heads(self) -> int:
        """Heads of the attention."""
        heads: int = self.layer.self_attn.num_heads
        return heads

    def whole(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The block as it was trained."""
        attended = self.layer.self_attn(self.layer.layer_norm1(tokens))[0]
        return self.feed_forward(tokens + attended)

    def values(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The values of the attention, heads side by side."""
        result: Tensor = self.layer.self_attn.v_proj(self.layer.layer_norm1(tokens))
        return result

    def project(self, attended: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The output projection of the attention, up to the residual."""
        result: Tensor = self.layer.self_attn.out_proj(attended)
        return result

    def feed_forward(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The MLP with its residual."""
        result: Tensor = tokens + self.layer.mlp(self.layer.layer_norm2(tokens))
        return result


def _clip_image_tower(model: Any) -> VisionTransformer:
    vision, project = model.vision_model, model.visual_projection

    def embed(inputs: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t width"]:
        first = vision.embeddings.class_embedding.expand(len(inputs), 1, -1)
        return torch.cat([first, _patches(vision, inputs)], dim=1)

    return VisionTransformer(
        embed=embed,
        positions=_positions(model, prefix=1),
        enter=vision.pre_layrnorm,
        blocks=[EncoderLayer(layer) for layer in vision.encoder.layers],
        pool=lambda tokens: project(vision.post_layernorm(tokens[:, 0])),
        project=lambda tokens: project(vision.post_layernorm(tokens)),
        patch=_patch(model),
    )


def _siglip_image_tower(model: Any) -> VisionTransformer:
    """No patches: SigLIP pools by attention and has no map from one token to the joint space."""
    vision = model.vision_model
    return VisionTransformer(
        embed=lambda inputs: _patches(vision, inputs),
        positions=_positions(model, prefix=0),
        enter=lambda tokens: tokens,
        blocks=[EncoderLayer(layer) for layer in vision.encoder.layers],
        pool=lambda tokens: vision.head(vision.post_layernorm(tokens)),
        project=None,
        patch=_patch(model),
    )


def _patches(vision: Any, inputs: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p width"]:
    """One token per patch, positions not yet added."""
    patches: Tensor = vision.embeddings.patch_embedding(inputs).flatten(2).transpose(1, 2)
    return patches


def _positions(model: Any, prefix: int) -> Positions:
    side = model.config.vision_config.image_size // model.config.vision_config.patch_size
    return Positions(model.vision_model.embeddings.position_embedding.weight, (side, side), prefix)


def _patch(model: Any) -> tuple[int, int]:
    side: int = model.config.vision_config.patch_size
    return side, side
