"""Encoders from open_clip: any architecture with any of its weights, from the hub or from a file.

Two things don't show in a file of weights: the activation (OpenAI's and a few others need QuickGELU, and the wrong one
costs accuracy in silence) and the preprocessing. A tag settles both: `ViT-B-16/openai`, or
`ViT-B-16/openai=/path/to/weights` for the same weights from a file. Without a tag an architecture means its own
activation, so that there is a `ViT-B-16-quickgelu` beside `ViT-B-16`.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vlm_ood.digests import digest_of, digest_of_weights
from vlm_ood.encoders.checkpoints import Checkpoint, fill, read_checkpoint
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.openclip_sources import Source, find_source, folder_config, text_model_folder
from vlm_ood.encoders.openclip_text import text_tower
from vlm_ood.encoders.openclip_towers import image_tower
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import CheckpointError

OPENAI_EXTRAS: Final = frozenset({"input_resolution", "context_length", "vocab_size"})  # in OpenAI's own files only
QUICK_GELU: Final = "quick_gelu"  # "True" or "False" in the metadata of a safetensors file that CLIPN's import wrote
ACTIVATIONS: Final = {True: "QuickGELU", False: "GELU"}


def load_openclip(name: str, device: torch.device, dtype: torch.dtype) -> ClipEncoder:
    """Load an open_clip model.

    Args:
        name: ARCH/TAG, ARCH=FILE, ARCH/TAG=FILE, hf-hub:ORG/NAME, a folder with open_clip_config.json, or random:ARCH.
        device: where it runs.
        dtype: in which it runs.

    Raises:
        UnknownNameError: no such architecture or tag.
        CheckpointError: weights that don't fit the architecture.
        HubError: a hub that can't be reached.
    """
    source = find_source(name)
    checkpoint = None if source.weights is None else read_checkpoint(source.weights)
    return make_encoder(name, source, checkpoint, device, dtype)


def make_encoder(
    name: str, source: Source, checkpoint: Checkpoint | None, device: torch.device, dtype: torch.dtype
) -> ClipEncoder:
    """An encoder of an architecture and weights that were read already.

    Args:
        name: of the encoder.
        source: the architecture, its preprocessing, and where the weights came from.
        checkpoint: the weights; None for random ones.
        device: where it runs.
        dtype: in which it runs.

    Raises:
        CheckpointError: weights that don't fit the architecture.
        HubError: a hub that can't be reached.
    """
    model = _build(source.config, source.weights and source.weights.parent)
    if source.weights is not None and checkpoint is not None:
        _check_activation(source.weights, checkpoint, quick_gelu=source.config.get("quick_gelu", False))
        weights = _translated(checkpoint.weights, model)
        fill(model, weights, str(source.weights), f"is it the weights of another model than {name}?")
    if hasattr(model, "text_decoder"):
        del model.text_decoder  # CoCa's captions are of no use here
    preprocessing = _preprocessing(source.preprocessing, model.visual.image_size)
    digest = digest_of(
        "open_clip", source.config, digest_of_weights(model.state_dict()), preprocessing.digest, str(dtype)
    )
    scale = float(model.logit_scale.detach().exp())
    model = model.to(device, dtype).eval().requires_grad_(False)
    return ClipEncoder(
        name,
        digest,
        image_tower(model),
        text_tower(model, source.config["text_cfg"], source.weights and source.weights.parent),
        preprocessing,
        dim=source.config["embed_dim"],
        scale=scale,
        device=device,
        dtype=dtype,
    )


def _build(config: dict[str, Any], folder: Path | None) -> Any:
    """The model with weights that are the same every time; the global random state stays as it was."""
    import open_clip

    config = deepcopy(config)
    text, vision = config["text_cfg"], config["vision_cfg"]
    own_text = config.pop("custom_text", False) or "hf_model_name" in text
    if "hf_model_name" in text:
        text["hf_model_name"] = str(text_model_folder(text["hf_model_name"], folder))
        text["hf_model_pretrained"] = False
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    make = (
        open_clip.CLIP if not own_text else open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make(**config)


def _translated(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights under open_clip's names."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    weights = {key: value for key, value in weights.items() if key not in OPENAI_EXTRAS}
    translated: dict[str, Tensor] = convert_state_dict(model, weights)
    if "positional_embedding" in translated and not hasattr(model, "positional_embedding"):
        translated = convert_to_custom_text_state_dict(translated)
    translated.pop("text.transformer.embeddings.position_ids", None)  # a buffer that transformers no longer keeps
    for key in translated.keys() & {"logit_scale", "logit_bias"}:
        translated[key] = translated[key].squeeze()  # stored as a number or as a list of one
    return translated


def _check_activation(path: Path, checkpoint: Checkpoint, *, quick_gelu: bool) -> None:
    """Against OpenAI's keys, what `import_checkpoint` wrote into the file, and the description beside it."""
    described = folder_config(path.parent) or {"model_cfg": {}}
    if checkpoint.weights.keys() >= OPENAI_EXTRAS:
        told = True
    elif QUICK_GELU in checkpoint.facts:
        told = checkpoint.facts[QUICK_GELU] == "True"
    else:
        told = described["model_cfg"].get("quick_gelu")
    if told is not None and told != quick_gelu:
        raise CheckpointError(
            f"{path} was trained with {ACTIVATIONS[told]}, the architecture given uses {ACTIVATIONS[quick_gelu]}: "
            f"choose the one {'with' if told else 'without'} -quickgelu in its name, or say the tag, as in "
            "ViT-B-16/openai=FILE"
        )


def _preprocessing(entries: Mapping[str, Any], image_size: int | tuple[int, int]) -> Preprocessing:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    config = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), dict(entries)))
    height, width = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    return Preprocessing(
        height,
        width,
        _three(config.mean),
        _three(config.std),
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        resize_mode=config.resize_mode,
        fill=config.fill_color,
    )


def _three(values: float | Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (values,) * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)
