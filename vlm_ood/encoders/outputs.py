"""What a forward pass over images must give beyond one pooled vector per image.

One record from the library down to the worker process: it is part of every batch key, cache key and message, so that
features that differ in anything are never mixed.
"""

from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Final, Literal, get_args

from vlm_ood.errors import CapabilityError, ParameterError
from vlm_ood.types import ImageFeatures

Attention = Literal["value", "softmax", "vv"]
Capability = Literal["patches", "stages", "windows", "vv", "sizes", "text_gradients"]


@dataclass(frozen=True, order=True)
class Outputs:
    """What to return from one forward pass; pooled vectors always come with it.

    Equal requests are equal records: stages and windows are sorted and unique, and `attention` and `vv_from` fall back
    to their defaults where nothing reads them.

    Args:
        patches: whether to return one vector of the joint space per place of the grid.
        stages: numbers of blocks, from 1, whose tokens to return, in the width of the network.
        attention: how the tokens of patches and stages are computed. "value" replaces the attention of the last block
            by the identity (GL-MCM, MaskCLIP) and leaves stages as they are; "softmax" keeps the block as it was
            trained; "vv" follows AnomalyCLIP's second stream, whose blocks from `vv_from` on attend by value against
            value and have no MLP.
        vv_from: number of the first block with value-value attention; AnomalyCLIP uses 6 of 24. Read for "vv" only.
        size: rows and columns of the input in pixels; None for the size of the encoder's own preprocessing. Positions
            are resized from the original table.
        windows: sides, in patches, of the square windows that go through the whole network on their own (WinCLIP).

    Raises:
        ParameterError: a stage, window or side below 1, or an unknown kind of attention.
    """

    patches: bool = False
    stages: tuple[int, ...] = ()
    attention: Attention = "value"
    vv_from: int = 1
    size: tuple[int, int] | None = None
    windows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention):
            raise ParameterError(f"attention={self.attention!r}: give one of {', '.join(get_args(Attention))}")
        for name, numbers in (("stages", self.stages), ("windows", self.windows), ("size", self.size or ())):
            if any(number < 1 for number in numbers):
                raise ParameterError(f"{name}={tuple(numbers)}: each must be at least 1")
        if self.vv_from < 1:
            raise ParameterError(f"vv_from={self.vv_from} must be at least 1, the number of the first block")
        object.__setattr__(self, "stages", tuple(sorted(set(self.stages))))
        object.__setattr__(self, "windows", tuple(sorted(set(self.windows))))
        if not (self.patches or self.stages):
            object.__setattr__(self, "attention", "value")
        if self.attention != "vv":
            object.__setattr__(self, "vv_from", 1)

    @property
    def local(self) -> bool:
        """Whether anything but pooled vectors is asked for."""
        return bool(self.patches or self.stages or self.windows)

    @property
    def needs(self) -> frozenset[Capability]:
        """The capabilities that an encoder must have."""
        wanted: dict[Capability, bool] = {
            "patches": self.patches,
            "stages": bool(self.stages),
            "windows": bool(self.windows),
            "vv": self.attention == "vv",
            "sizes": self.size is not None,
        }
        return frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def check(self, name: str, capabilities: Set[str]) -> None:
        """Check that an encoder can give all that is asked for.

        Args:
            name: of the encoder.
            capabilities: of the encoder, of its images and of its text.

        Raises:
            CapabilityError: it can't; the message names what is missing and what there is.
        """
        missing = sorted(self.needs - capabilities)
        if missing:
            offered = ", ".join(sorted(capabilities - {"text_gradients"})) or "pooled features only"
            raise CapabilityError(f"{name} gives no {' and no '.join(missing)}; it gives {offered}")

    def missing_in(self, features: ImageFeatures) -> list[str]:
        """Names of what is asked for and these features don't hold, such as "patches" or "stage 6"."""
        return [
            *(["patches"] if self.patches and features.patches is None else []),
            *(f"stage {number}" for number in self.stages if number not in features.stages),
            *(f"windows of {side}" for side in self.windows if side not in features.windows),
        ]

    def plain(self) -> dict[str, Any]:
        """As plain values, for digests and JSON."""
        return asdict(self)

    def join(self, other: "Outputs") -> "Outputs":
        """One pass that gives what both ask for.

        Raises:
            ParameterError: they ask for different sizes, or for local tokens of different kinds.
        """
        if self.size != other.size:
            raise ParameterError(f"one pass can't have the sizes {self.size} and {other.size}: encode twice")
        readers = [each for each in (self, other) if each.patches or each.stages]
        if len({(each.attention, each.vv_from) for each in readers}) > 1:
            raise ParameterError(f"one pass can't have {self.attention} and {other.attention} attention: encode twice")
        kind = readers[0] if readers else self
        return Outputs(
            self.patches or other.patches,
            self.stages + other.stages,
            kind.attention,
            kind.vv_from,
            self.size,
            self.windows + other.windows,
        )


def capabilities_of(features: ImageFeatures) -> frozenset[Capability]:
    """What stored features hold beyond pooled vectors."""
    held: dict[Capability, bool] = {
        "patches": features.patches is not None,
        "stages": bool(features.stages),
        "windows": bool(features.windows),
    }
    return frozenset(name for name, is_held in held.items() if is_held)


POOLED: Final = Outputs()
PATCHES: Final = Outputs(patches=True)


def join_all(outputs: Iterable[Outputs]) -> Outputs:
    """One pass that gives what all ask for; only pooled vectors when there are none.

    Raises:
        ParameterError: see `Outputs.join`.
    """
    wanted = list(outputs)
    return reduce(Outputs.join, wanted) if wanted else POOLED
