"""Banks in memory: read from their blobs or made from their specs, once for all callers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from service.banks.building import Building
from service.banks.contents import LabelledImages, bank_from_bytes
from service.banks.rows import BankRow
from service.banks.store import BankStore
from service.caching.prepared import PreparedCache, State
from service.caching.sizes import bytes_of
from service.engine import EncoderInfo
from service.threads import in_thread
from vlm_ood.errors import VectorError
from vlm_ood.tasks import BankSpec, MinedBank, StoredBank, StoredSupport, TaskSpec, TemplateBank, bank_from_plain
from vlm_ood.types import Support, TextBank

T = TypeVar("T")
Content = TextBank | LabelledImages


@dataclass(frozen=True)
class LoadedSources:
    """The contents of the stored banks that one task needs.

    Args:
        contents: {id of a bank: its content}.
    """

    contents: Mapping[str, Content]

    def bank(self, stored: StoredBank) -> TextBank:
        """The text bank that a spec refers to.

        Raises:
            VectorError: the bank holds labelled images.
        """
        content = self.contents[stored.source]
        if not isinstance(content, TextBank):
            raise VectorError(f"bank {stored.source} holds labelled images: give a bank of names")
        return content

    def support(self, stored: StoredSupport, classes: TextBank) -> Support:
        """The labelled images that a spec refers to, with labels as rows of `classes`.

        Raises:
            VectorError: the bank holds names.
            ClassNamesError: a label is not among the classes.
        """
        content = self.contents[stored.source]
        if not isinstance(content, LabelledImages):
            raise VectorError(f"bank {stored.source} holds names: give a bank of labelled images")
        return content.support(classes.names)


class MadeBanks:
    """Gives the contents of stored banks, and keeps them in memory.

    Args:
        store: the rows and blobs.
        building: runs the work that makes banks.
        max_bytes: of all banks in memory.
        max_making: how many banks may be in the making at once for the requests of one tenant.
        wait_s: how long a caller waits for a bank that is being made.
        waiting: counts a caller of a tenant who waits for long.
    """

    def __init__(
        self,
        store: BankStore,
        building: Building,
        *,
        max_bytes: int,
        max_making: int,
        wait_s: float,
        waiting: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self.store = store
        self._building = building
        self._made: PreparedCache[BankRow, Content] = PreparedCache(
            self._make,
            "bank",
            digest=lambda row: f"{row.tenant} {row.digest}",  # not shared: an error may name a tenant's bank
            tenant=lambda row: row.tenant,
            max_bytes=max_bytes,
            max_making=max_making,
            wait_s=wait_s,
            waiting=waiting,
            nbytes=bytes_of,
        )

    async def get(self, row: BankRow, *, stored: bool = True) -> Content:
        """The content of the bank; it is read or made if it is not in memory.

        Args:
            row: of the bank.
            stored: whether the work goes on when no caller waits any more; False for a row that may yet be refused.

        Raises:
            BusyError: too many banks are being made for this tenant.
            PreparingError: it takes longer than `wait_s`; the work goes on.
            VlmOodError: it can't be made or read.
        """
        return await self._made.get(row, stored=stored)

    def keep(self, row: BankRow) -> None:
        """Go on making the bank when no caller waits any more, because it was stored."""
        self._made.keep(row)

    async def names(self, row: BankRow) -> tuple[str, ...]:
        """The names of a bank, from its spec or else from its content; errors as in `get`."""
        spec = None if row.spec is None else bank_from_plain(row.spec)
        if isinstance(spec, TemplateBank):
            return spec.names
        content = await self.get(row)
        return content.names if isinstance(content, TextBank) else content.classes

    async def images(self, row: BankRow) -> LabelledImages:
        """The content of a bank of labelled images; errors as in `get`, and VectorError for a bank of names."""
        content = await self.get(row)
        if not isinstance(content, LabelledImages):
            raise VectorError(f"bank {row.id} holds names: give a bank of labelled images")
        return content

    async def sources(self, stored: Iterable[StoredBank | StoredSupport], encoder: EncoderInfo) -> LoadedSources:
        """The contents of these stored parts, for a builder; waits until all banks are made.

        Args:
            stored: the parts; their ids were checked to be of the caller's tenant.
            encoder: must have made their vectors.

        Raises:
            NotFoundError: a bank was deleted.
            VectorError: a bank holds vectors of other weights than the encoder has now.
            VlmOodError: a bank can't be made or read.
        """
        contents: dict[str, Content] = {}
        for part in stored:
            row = await self.store.find(part.source)
            check_weights(row, encoder)
            contents[row.id] = await self._made.made(row)
        return LoadedSources(contents)

    async def unmade(self, stored: Iterable[StoredBank | StoredSupport]) -> list[BankSpec]:
        """What has to be made again for these parts: the specs of stored banks that are no longer in memory.

        Raises:
            NotFoundError: a bank was deleted.
        """
        found: list[BankSpec] = []
        for part in stored:
            row = await self.store.find(part.source)
            if self.state(row)[0] in {"cold", "failed"}:
                spec = bank_from_plain(row.spec or {})
                found += [spec, *await self.unmade(stored_in([spec]))]
        return found

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`, which runs in a thread."""
        return await in_thread(self._building.threads, work)

    def state(self, row: BankRow) -> tuple[State, str | None]:
        """The state of a bank, and the error if it failed; uploaded vectors are always ready."""
        return ("ready", None) if row.blob else self._made.state(row)

    async def close(self) -> None:
        """Stop what is being made."""
        await self._made.close()

    async def _make(self, row: BankRow) -> Content:
        if row.blob:
            content = await self.store.read(row)
            return await self.in_thread(lambda: _parsed(row.kind, content))
        spec = bank_from_plain(row.spec or {})
        encoder = await self._building.engine.encoder(row.encoder)
        sources = await self.sources(stored_in([spec]), encoder)
        mines = isinstance(spec, MinedBank)
        bank = await self._building.run(row.tenant, encoder, sources, lambda builder: builder.bank(spec), mines=mines)
        if not row.rows:
            await self.store.count(row, len(bank))
        return bank


def _parsed(kind: str, content: bytes) -> Content:
    return LabelledImages.from_bytes(content) if kind == "support" else bank_from_bytes(content)


def check_weights(row: BankRow, encoder: EncoderInfo) -> None:
    """Check that stored vectors are of the encoder's present weights; a bank stored as a spec always is.

    Raises:
        VectorError: the encoder was changed after the bank was stored.
    """
    if row.blob and row.encoder_digest != encoder.digest:
        raise VectorError(
            f"bank {row.id} holds vectors of other weights than {encoder.name} has now: encode and upload it again"
        )


def stored_in(parts: Iterable[BankSpec | StoredSupport | None]) -> Iterator[StoredBank | StoredSupport]:
    """The stored parts among these, including those that mined banks are made from."""
    for part in parts:
        if isinstance(part, StoredBank | StoredSupport):
            yield part
        elif isinstance(part, MinedBank):
            yield from stored_in([part.classes])


def stored_parts(task: TaskSpec) -> list[StoredBank | StoredSupport]:
    """The stored parts of a task."""
    return list(stored_in([task.classes, task.negatives, task.no, task.support]))
