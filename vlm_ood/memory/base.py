"""The contract of every method with a memory: how it scores, and what it keeps of the images that it scored.

A method is a frozen record of parameters and holds no image: the memory is the session's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from annotated_types import Ge, Le
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor

from vlm_ood.detectors import FittedDetector
from vlm_ood.memory.entries import Entries
from vlm_ood.registry import Registry
from vlm_ood.types import ImageFeatures

registry: "Registry[MemoryMethod]" = Registry("memory", "vlm_ood.memory")
register = registry.register

MAX_CAPACITY: Final = 65_536  # vectors; 128 MiB in 512 dimensions

Capacity = Annotated[int, Ge(1), Le(MAX_CAPACITY)]


@dataclass(frozen=True)
class MemoryMethod(ABC):
    """An OOD score that starts from a fitted detector and depends on the images in a memory."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    paper: ClassVar[str]

    capacity: Capacity

    @property
    def most_per_label(self) -> int:
        """How many images with one label the memory holds at most."""
        return self.capacity

    @abstractmethod
    def labels(self, fitted: FittedDetector[Any]) -> int:
        """How many labels the entries have.

        Raises:
            TaskError: a detector that the method can't start from.
        """

    @abstractmethod
    def examine(
        self, fitted: FittedDetector[Any], images: ImageFeatures, memory: Entries
    ) -> tuple[Float[Tensor, " n"], Entries]:
        """Scores of the images, given the memory as it is, and what is worth remembering of them.

        Returns:
            (n,) finite, higher is more OOD, independent of the other images; and up to n entries, in their order.

        Raises:
            VectorError, CapabilityError: as `FittedDetector.score`.
        """
