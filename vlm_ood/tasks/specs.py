"""Plain records that describe a task and a fitted detector; they are stored as JSON and identified by a digest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

from vlm_ood.detectors import Detector, registry
from vlm_ood.digests import digest_of
from vlm_ood.errors import InputError
from vlm_ood.tasks.banks import (
    BankSpec,
    StoredSupport,
    TemplateBank,
    bank_from_plain,
    bank_to_plain,
    changed,
    identity_of,
    to_plain,
)

PARTS: Final = ("negatives", "no", "support")
"""The parts of a task beyond its classes, each read by some methods only."""


@dataclass(frozen=True)
class TaskSpec:
    """What a task is made from.

    Args:
        classes: the in-distribution classes.
        encoder: the name of the encoder that makes the vectors; "" when every part is stored vectors.
        negatives: words for what is out of distribution.
        no: negated prompts, one row per class.
        support: labelled in-distribution images.
    """

    classes: BankSpec
    encoder: str = ""
    negatives: BankSpec | None = None
    no: BankSpec | None = None
    support: StoredSupport | None = None

    @property
    def given(self) -> frozenset[str]:
        """The parts beyond the classes that the spec has."""
        return frozenset(part for part in PARTS if getattr(self, part) is not None)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The class names, where the spec knows them."""
        return self.classes.names if isinstance(self.classes, TemplateBank) else None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        banks = {name: getattr(self, name) for name in ("classes", "negatives", "no")}
        return {
            "encoder": self.encoder,
            **{name: bank and bank_to_plain(bank) for name, bank in banks.items()},
            "support": self.support and asdict(self.support),
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "TaskSpec":
        """The spec that `plain` wrote.

        Raises:
            InputError: it has no classes, or a bank that can't be used.
        """
        banks = {name: plain.get(name) for name in ("classes", "negatives", "no")}
        made = {name: None if bank is None else bank_from_plain(bank) for name, bank in banks.items()}
        classes = made.pop("classes")
        if classes is None:
            raise InputError("a task without classes: give class names or a bank")
        support = plain.get("support")
        return TaskSpec(
            classes=classes,
            encoder=str(plain.get("encoder") or ""),
            support=None if support is None else StoredSupport(**support),
            **made,
        )


@dataclass(frozen=True)
class DetectorSpec:
    """A method with all its parameters over a task; equal content has equal digests.

    Args:
        method: a registered detector.
        parameters: the parameters of the method; those left out get their defaults.
        task: what the method is fitted to.

    Raises:
        UnknownNameError: there is no such method.
        ParameterError: a parameter is unknown or out of range.
    """

    method: str
    task: TaskSpec
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", registry.parameters(self.detector))

    @cached_property
    def detector(self) -> Detector[Any]:
        """The method with its parameters, not fitted."""
        return registry.create(self.method, **self.parameters)

    @cached_property
    def digest(self) -> str:
        """The digest of the content; see `identity_of` for what counts."""
        return digest_of("detector", self._identity())

    @property
    def family(self) -> str:
        """The digest of the content without the classes: detectors that differ only in their classes share it."""
        identity = self._identity()
        return digest_of("detector family", identity | {"task": identity["task"] | {"classes": None}})

    def _identity(self) -> dict[str, Any]:
        plain = self.plain()
        return {
            "method": self.method,
            "parameters": changed(plain["parameters"], type(self.detector)),
            "task": identity_of(changed(plain["task"], TaskSpec)),
        }

    def plain(self) -> dict[str, Any]:
        """As JSON values: what a database stores and `from_plain` reads."""
        return {"method": self.method, "parameters": to_plain(dict(self.parameters)), "task": self.task.plain()}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "DetectorSpec":
        """The spec that `plain` wrote.

        Raises:
            InputError: a method, a parameter or a bank can't be used.
        """
        return DetectorSpec(plain["method"], TaskSpec.from_plain(plain["task"]), plain["parameters"])
