"""The authors' released checkpoints, taken apart into two files: a plain open_clip model and its no-tower.

A released file is a dict of epoch, name, state_dict, optimizer and scaler. The authors load its state loosely, so that
a wrong prefix leaves the no-tower a copy of the yes-tower, every probability at 0.5 and nobody the wiser. Here every
key is accounted for.
"""

import os
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import torch

from vlm_ood.clipn.files import PROBE, save_no_tower
from vlm_ood.clipn.no_tower import CausalNoTower
from vlm_ood.encoders.checkpoints import fill, read_weights
from vlm_ood.encoders.openclip import load_openclip
from vlm_ood.io.files import write_tensors


@dataclass(frozen=True)
class Imported:
    """The files of an import.

    Args:
        encoder: weights of both towers of CLIP, for `load_encoder("ARCH=PATH")`.
        no_tower: for `load_no_tower`.
    """

    encoder: Path
    no_tower: Path


def import_checkpoint(source: str | os.PathLike[str], architecture: str, folder: str | os.PathLike[str]) -> Imported:
    """Take a released checkpoint apart; no code in it is run, and its optimiser state is left behind.

    Args:
        source: the released .pt file.
        architecture: open_clip's name of the architecture, "ViT-B-16" for the authors' main results.
        folder: of the two safetensors files, `encoder.safetensors` and `no_tower.safetensors`.

    Raises:
        UnknownNameError: no such architecture.
        CheckpointError: not a file of tensors; or keys that are missing, unexpected or of another shape, named.
        CapabilityError: an architecture without a text tower that CLIPN can copy.
        StorageError: the files can't be written.
    """
    file, target = Path(source), Path(folder)
    encoder = load_openclip(f"random:{architecture}", torch.device("cpu"), torch.float32)
    tower = CausalNoTower(encoder._text)
    weights = read_weights(file)
    said_no = {key: value for key, value in weights.items() if key.partition(".")[0].endswith("_no")}
    remedy = f"name its architecture, it isn't {architecture}, or fetch it again"
    fill(tower.original, {key: value for key, value in weights.items() if key not in said_no}, str(file), remedy)
    fill(tower, said_no, str(file), remedy)
    metadata = {"architecture": architecture, "source": file.name, "source_sha256": _sha256(file)}
    imported = Imported(target / "encoder.safetensors", target / "no_tower.safetensors")
    write_tensors(imported.encoder, tower.original.state_dict(), metadata)
    save_no_tower(imported.no_tower, tower, encoder.encode_text([PROBE])[0], metadata)
    return imported


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()
