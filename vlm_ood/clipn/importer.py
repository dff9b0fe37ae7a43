"""The authors' released checkpoints, taken apart into two files: a plain open_clip model and its no-tower.

A released file is a dict of epoch, name, state_dict, optimizer and scaler. The authors load its state without checks:
under a wrong prefix the no-tower stays a copy of the encoder's text tower and every probability is 0.5. Here every key
is accounted for.

Weights don't show their activation, and the wrong one costs accuracy without an error. But open_clip's training script
writes the architecture into the name of a run, `2023_08_24-00_02_18-model_ViT-B-32-lr_...`, and that name into the
file.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final

import torch

from vlm_ood.clipn.files import PROBE, save_no_tower
from vlm_ood.clipn.no_tower import copy_text_tower
from vlm_ood.encoders.checkpoints import Checkpoint, fill, read_checkpoint
from vlm_ood.encoders.openclip import ACTIVATIONS, QUICK_GELU, make_encoder
from vlm_ood.encoders.openclip_sources import find_source
from vlm_ood.errors import CheckpointError
from vlm_ood.io.files import write_tensors

RUN_NAME: Final = re.compile(r"-model_(.+?)-lr_")  # open_clip's training script: DATE-model_ARCHITECTURE-lr_RATE-...


@dataclass(frozen=True)
class Imported:
    """The files of an import.

    Args:
        encoder: weights of both towers of CLIP, for `load_encoder("ARCH=PATH")`.
        no_tower: for `load_no_tower`.
    """

    encoder: Path
    no_tower: Path


def import_checkpoint(
    source: str | os.PathLike[str],
    architecture: str,
    folder: str | os.PathLike[str],
    *,
    quick_gelu: bool | None = None,
) -> Imported:
    """Take a released checkpoint apart; no code in it is run, and its optimiser state is left behind.

    Args:
        source: the released .pt file.
        architecture: open_clip's name of the architecture, "ViT-B-16" for the authors' main results.
        folder: of the two safetensors files, `encoder.safetensors` and `no_tower.safetensors`.
        quick_gelu: whether the weights were trained with QuickGELU. By default the file must record that it was trained
            as `architecture`; state it for a file that records nothing, or whose training replaced the activation.

    Raises:
        UnknownNameError: no such architecture.
        CheckpointError: not a file of tensors; keys that are missing, unexpected or of another shape, named; no
            no-tower; another activation than the architecture's, or none recorded or stated.
        StorageError: the files can't be written.
    """
    file, target = Path(source), Path(folder)
    described = find_source(f"{architecture}={file}")
    used: bool = described.config.get("quick_gelu", False)
    checkpoint = read_checkpoint(file)
    _check_activation(file, checkpoint, architecture, used, quick_gelu)
    no = {key: value for key, value in checkpoint.weights.items() if key.partition(".")[0].endswith("_no")}
    plain = {key: value for key, value in checkpoint.weights.items() if key not in no}
    encoder = make_encoder(
        f"{architecture}={file}", described, Checkpoint(plain, {}), torch.device("cpu"), torch.float32
    )
    _check_no_tower(file, no.keys())
    tower = copy_text_tower(encoder)
    fill(tower, no, str(file), f"its no-tower isn't a copy of the text tower of {architecture}: download it again")
    metadata = {
        "architecture": architecture,
        QUICK_GELU: str(used),
        "source": file.name,
        "source_sha256": _sha256(file),
    }
    imported = Imported(target / "encoder.safetensors", target / "no_tower.safetensors")
    write_tensors(imported.encoder, plain, metadata)
    save_no_tower(imported.no_tower, tower, encoder.encode_text([PROBE])[0], metadata)
    return imported


def _check_activation(file: Path, checkpoint: Checkpoint, architecture: str, used: bool, stated: bool | None) -> None:
    """That the architecture has the activation of the weights, as stated or as the architecture that they record."""
    if stated is not None:
        if stated != used:
            raise CheckpointError(
                f"{architecture} computes with {ACTIVATIONS[used]}, and {ACTIVATIONS[stated]} was stated: choose the "
                f"architecture {'with' if stated else 'without'} -quickgelu in its name"
            )
        return
    found = RUN_NAME.search(checkpoint.facts.get("name", ""))
    if found is None:
        raise CheckpointError(
            f"{file} doesn't record its architecture, and weights don't show their activation: state it, "
            f"quick_gelu=True or False (--quick-gelu or --gelu); {architecture} computes with {ACTIVATIONS[used]}"
        )
    if found[1] != architecture:
        raise CheckpointError(
            f"{file} records that it was trained as {found[1]}, not as {architecture}: import it as {found[1]}; or "
            f"state quick_gelu={used} (--{'quick-gelu' if used else 'gelu'}) if its training replaced the activation"
        )


def _check_no_tower(file: Path, keys: Collection[str]) -> None:
    if not keys:
        raise CheckpointError(f"{file} has no no-tower, no key with _no: it is a plain CLIP, to be loaded as ARCH=FILE")
    if "prompt_no" not in keys:
        raise CheckpointError(
            f"{file} has a no-tower without learned contexts, no key prompt_no: it is CLIPN's hand-crafted variant, or "
            "damaged; only the variant with learned contexts can be imported"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()
