"""A session: a fitted detector that adapts to the images it scores, with a bounded memory."""

from types import TracebackType
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors import FittedDetector
from vlm_ood.digests import digest_of
from vlm_ood.errors import TaskError, VectorError
from vlm_ood.io.files import tensors_from_bytes, tensors_to_bytes
from vlm_ood.memory.base import MemoryMethod, registry
from vlm_ood.memory.entries import Entries
from vlm_ood.types import ImageFeatures, unit_rows

HEADER: Final = 2**16  # bytes of a snapshot beyond its values


class Session:
    """What `vo.adapting` returns; not for use by several threads at once.

    **Scores depend on the order.** The images of one call are scored against the memory as it was before the call, then
    the memory takes in what is worth remembering: they don't depend on each other, but on all calls before. The same
    calls in the same order give the same scores. A calibration of the fitted detector doesn't hold for them.

    Leaving the `with` block forgets all images.
    """

    def __init__(self, fitted: FittedDetector[Any], method: MemoryMethod) -> None:
        self.fitted, self.method = fitted, method
        self._labels = method.labels(fitted)
        self._memory: Entries
        self.reset()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()

    def __len__(self) -> int:
        """How many images the memory holds, at most the method's `capacity`."""
        return len(self._memory)

    def score(self, images: ImageFeatures) -> Float[Tensor, " n"]:
        """One fp32 number per image, (n,), on the task's device; higher is more OOD. Then the memory is updated.

        Raises:
            VectorError, CapabilityError: as `FittedDetector.score`; the memory stays as it was.
        """
        scores, new = self.method.examine(self.fitted, images, self._memory)
        self._memory = self._memory.joined(new, self.method.most_per_label, self.method.capacity)
        return scores

    def reset(self) -> None:
        """Forget all images."""
        classes = self.fitted.task.classes
        self._memory = Entries.none(classes.dim, classes.embeddings.device)

    @property
    def digest(self) -> str:
        """Of the detector, the method and its parameters: what a snapshot belongs to."""
        return digest_of(self.fitted.digest, self.method.name, registry.parameters(self.method))

    def snapshot(self) -> bytes:
        """The memory as a safetensors file: `vectors` (r, d), `costs` (r,), `labels` (r,), metadata `digest`."""
        memory = self._memory
        tensors = {"vectors": memory.vectors, "costs": memory.costs, "labels": memory.labels} if len(memory) else {}
        return tensors_to_bytes(tensors, {"digest": self.digest})

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot, whose bytes may come from anyone.

        Raises:
            StorageError: not a safetensors file, or a damaged one.
            TaskError: of another detector, another method or other parameters.
            VectorError: tensors that are no memory of this session. After an error the memory stays as it was.
        """
        dim, device = self.fitted.task.classes.dim, self.fitted.task.classes.embeddings.device
        most = HEADER + self.method.capacity * (4 * dim + 12)
        if len(snapshot) > most:
            raise VectorError(
                f"the snapshot has {len(snapshot)} bytes, one of {self.method.capacity} images at most {most}: "
                "give a snapshot of a session with this capacity"
            )
        tensors, metadata = tensors_from_bytes(snapshot)
        if metadata.get("digest") != self.digest:
            raise TaskError(
                "the snapshot is of another detector, another method or other parameters: restore it in a session "
                "that is made like the one it is from"
            )
        self._memory = self._checked(tensors, dim, device) if tensors else Entries.none(dim, device)

    def _checked(self, tensors: dict[str, Tensor], dim: int, device: torch.device) -> Entries:
        """The entries in the tensors of a snapshot; raises a VectorError when `score` can't have made them."""
        types = {name: (tensor.dtype, *tensor.shape[1:]) for name, tensor in tensors.items()}
        counts = {tensor.shape[:1] for tensor in tensors.values()}
        wanted = {"vectors": (torch.float32, dim), "costs": (torch.float32,), "labels": (torch.int64,)}
        if types != wanted or len(counts) != 1:
            raise VectorError(f"a snapshot holds vectors (r, {dim}), costs (r,) and labels (r,), got {types}")
        vectors, costs, labels = (tensors[name].to(device) for name in ("vectors", "costs", "labels"))
        if not costs.isfinite().all() or labels.min() < 0 or labels.max() >= self._labels:
            raise VectorError(f"a snapshot has finite costs and labels from 0 to {self._labels - 1}: take another")
        given = Entries(unit_rows(vectors, "snapshot"), costs, labels)
        kept = Entries.none(dim, device).joined(given, self.method.most_per_label, self.method.capacity)
        if len(kept) != len(given):
            raise VectorError(
                f"the snapshot holds {len(given)} images, the memory at most {self.method.capacity}, and "
                f"{self.method.most_per_label} per label: give a snapshot of a session with this capacity"
            )
        return kept
