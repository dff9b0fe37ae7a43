"""Makes banks, tasks and fitted detectors from their specs, with a text encoder: a network, or the server's engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from vlm_ood.background import background_of
from vlm_ood.detectors import FittedDetector
from vlm_ood.encoders.base import Encoder, Progress, TextEncoder
from vlm_ood.errors import CapabilityError, ClassNamesError, InputError
from vlm_ood.negatives import Mining, mine
from vlm_ood.tasks.banks import BankSpec, MinedBank, NoTowerBank, StoredBank, StoredSupport, TemplateBank
from vlm_ood.tasks.specs import DetectorSpec, TaskSpec
from vlm_ood.text import BankCache, text_bank
from vlm_ood.types import Background, Support, Task, TextBank


@runtime_checkable
class Sources(Protocol):
    """Where stored parts are read from."""

    def bank(self, stored: StoredBank) -> TextBank:
        """Read the bank of this source.

        Raises:
            FileNotFoundError, StorageError, VectorError: it can't be read.
        """

    def support(self, stored: StoredSupport, classes: TextBank) -> Support:
        """Read the labelled images of this source; labels are rows of the classes.

        Raises:
            FileNotFoundError, StorageError, VectorError, InputError: it can't be read or does not fit the classes.
        """


@dataclass(frozen=True)
class Builder:
    """Makes banks, tasks and fitted detectors from their specs.

    Args:
        encoder: encodes text; None where every part is stored vectors. A CLIPN tower needs a whole `Encoder`.
        sources: reads stored parts; None where there are none.
        banks: the cache of banks made from templates; by default in the user's cache folder.
        mine: how negatives are mined; by default `vlm_ood.negatives.mine` with the user's cache folder.
        progress: called with the number of prompts done since the last call.
        background: gives the background; by default made by `encoder` where that encodes images too.
    """

    encoder: TextEncoder | None
    sources: Sources | None = None
    banks: BankCache | None = None
    mine: Callable[..., Mining] = mine
    progress: Progress | None = None
    background: Callable[[], Background] | None = None

    def fit(self, spec: DetectorSpec) -> FittedDetector[Any]:
        """The detector fitted to its task.

        Raises:
            InputError: a part can't be used.
        """
        return spec.detector.fit(self.task(spec.task, background="background" in spec.detector.uses))

    def task(self, spec: TaskSpec, *, background: bool = False) -> Task:
        """The task, with every part on the device of the encoder.

        Args:
            spec: what the task is made from.
            background: whether a method reads the background; made where there is an encoder that encodes images.

        Raises:
            InputError: a part can't be used.
        """
        classes = self.bank(spec.classes)
        device = classes.embeddings.device
        parts = {name: getattr(spec, name) for name in ("negatives", "no")}
        banks = {name: None if part is None else self.bank(part, classes).to(device) for name, part in parts.items()}
        support = None if spec.support is None else self._sources().support(spec.support, classes)
        ordinary = self._ordinary() if background else None
        return Task(classes=classes, **banks, support=support and support.to(device), background=ordinary)

    def bank(self, spec: BankSpec, classes: TextBank | None = None) -> TextBank:
        """One bank.

        Args:
            spec: what the bank is made from.
            classes: the classes for mining and for negated prompts, where the spec does not have them.

        Raises:
            InputError, CapabilityError, EncoderError: it can't be made.
        """
        if isinstance(spec, StoredBank):
            return self._sources().bank(spec)
        encoder = self._encoder()
        if isinstance(spec, TemplateBank):
            return text_bank(encoder, spec.names, templates=spec.templates, cache=self.banks, progress=self.progress)
        if isinstance(spec, MinedBank):
            return self.mining(spec, classes).negatives
        return self._negated(spec, encoder, classes)

    def mining(self, spec: MinedBank, classes: TextBank | None = None) -> Mining:
        """A mined bank with all that there is to report about it; arguments and errors as in `bank`."""
        plan = spec.plan  # a word list that can't be used is refused before any name is encoded
        compared = classes if spec.classes is None else self.bank(spec.classes)
        if compared is None:
            raise ClassNamesError("words are mined against classes: give class names or a bank of them")
        return self.mine(self._encoder(), compared, plan, progress=self.progress)

    def _negated(self, spec: NoTowerBank, encoder: TextEncoder, classes: TextBank | None) -> TextBank:
        from vlm_ood.clipn import load_no_tower, no_bank  # a trainer comes with it, which scoring does not need

        names = spec.names or (classes and classes.names)
        if not names:
            raise ClassNamesError("negated prompts are made for class names: give them")
        if not isinstance(encoder, Encoder):
            raise CapabilityError("a CLIPN tower runs beside its encoder: make the bank with `vlm-ood clipn-bank`")
        tower = load_no_tower(spec.tower, encoder)
        return no_bank(encoder, tower, names, templates=spec.templates, progress=self.progress)

    def _ordinary(self) -> Background | None:
        if self.background is not None:
            return self.background()
        return background_of(self.encoder, cache=self.banks) if isinstance(self.encoder, Encoder) else None

    def _encoder(self) -> TextEncoder:
        if self.encoder is None:
            raise InputError("names need an encoder: name one, or give banks of vectors")
        return self.encoder

    def _sources(self) -> Sources:
        if self.sources is None:
            raise InputError("a stored part needs a place from which it is read: give the builder sources")
        return self.sources
