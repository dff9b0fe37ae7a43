"""A trained no-tower as a safetensors file, tied to the encoder that it belongs to."""

import os
from collections.abc import Mapping
from typing import Final

from jaxtyping import Float
from torch import Tensor

from vlm_ood.clipn.no_tower import NoTower, copy_text_tower
from vlm_ood.encoders.base import TextEncoder
from vlm_ood.encoders.checkpoints import fill
from vlm_ood.errors import CheckpointError
from vlm_ood.io.files import read_tensors, write_tensors

PROBE: Final = "a photo of a cat."  # its vector in the encoder's own text tower identifies the encoder
SAME: Final = 0.99  # least cosine of two probes of one encoder: fp16 and bf16 differ in the third digit


def save_no_tower(
    path: str | os.PathLike[str],
    tower: NoTower,
    probe: Float[Tensor, " d"],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the weights under the authors' keys, and the tensor `probe`, which ties them to the encoder.

    Args:
        path: of the new file.
        tower: trained or imported.
        probe: `encoder.encode_text([PROBE])[0]`.
        metadata: where the weights are from.

    Raises:
        StorageError: the file can't be written.
    """
    write_tensors(path, {**tower.state_dict(), "probe": probe}, {"kind": "clipn no-tower", **(metadata or {})})


def load_no_tower(path: str | os.PathLike[str], encoder: TextEncoder) -> NoTower:
    """The no-tower of a file, on the encoder's device.

    Raises:
        FileNotFoundError, StorageError: no such file, or a damaged one.
        CheckpointError: a tower of another architecture or of another encoder.
        CapabilityError: an encoder without "text_gradients".
    """
    tensors, _ = read_tensors(path)
    probe = tensors.pop("probe", None)
    tower = copy_text_tower(encoder)
    fill(tower, tensors, str(path), f"load it beside the encoder that it was trained with, not {encoder.name}")
    if probe is None or float(encoder.encode_text([PROBE])[0].cpu() @ probe) < SAME:
        raise CheckpointError(f"{path} was trained beside another encoder than {encoder.name}: load the one it names")
    return tower
