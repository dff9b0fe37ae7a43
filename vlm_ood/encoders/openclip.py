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
from vlm_ood.encoders.checkpoints import fill, read_weights
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.openclip_sources import find_source, folder_config
from vlm_ood.encoders.openclip_towers import image_tower, text_tower
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import CheckpointError

OPENAI_EXTRAS: Final = frozenset({"input_resolution", "context_length", "vocab_size"})  # in OpenAI's own files only


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
    model = _build(source.config)
    if source.weights is not None:
        weights = _translated(source.weights, source.config, model)
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


def _build(config: dict[str, Any]) -> Any:
    """The model with weights that are the same every time; the global random state stays as it was."""
    import open_clip

    config = deepcopy(config)
    text, vision = config["text_cfg"], config["vision_cfg"]
    own_text = config.pop("custom_text", False) or "hf_model_name" in text
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    make = (
        open_clip.CLIP if not own_text else open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make(**config)


def _translated(path: Path, config: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """The weights under open_clip's names; what the file tells about its activation is checked on the way."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    weights = read_weights(path)
    _check_activation(path, weights, quick_gelu=config.get("quick_gelu", False))
    weights = {key: value for key, value in weights.items() if key not in OPENAI_EXTRAS}
    translated: dict[str, Tensor] = convert_state_dict(model, weights)
    if "positional_embedding" in translated and not hasattr(model, "positional_embedding"):
        translated = convert_to_custom_text_state_dict(translated)
    translated.pop("text.transformer.embeddings.position_ids", None)  # a buffer that transformers no longer keeps
    for key in translated.keys() & {"logit_scale", "logit_bias"}:
        translated[key] = translated[key].squeeze()  # stored as a number or as a list of one
    return translated


def _check_activation(path: Path, weights: Mapping[str, Tensor], *, quick_gelu: bool) -> None:
    described = folder_config(path.parent) or {"model_cfg": {}}
    told = True if weights.keys() >= OPENAI_EXTRAS else described["model_cfg"].get("quick_gelu")
    if told is not None and told != quick_gelu:
        names = {True: "QuickGELU", False: "GELU"}
        raise CheckpointError(
            f"{path} was trained with {names[told]}, the architecture given uses {names[quick_gelu]}: choose the one "
            f"{'with' if told else 'without'} -quickgelu in its name, or say the tag, as in ViT-B-16/openai=FILE"
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
