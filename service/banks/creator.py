"""Creates banks from requests: from a file, from labelled images, or from a spec."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch

from service.banks.contents import LabelledImages, bank_to_bytes
from service.banks.costs import prompts_of
from service.banks.made import MadeBanks, stored_in
from service.banks.records import BankKind, BankOptions, MinedJson, SupportOptions, TemplatesJson
from service.banks.rows import BankRow
from service.banks.spec import checked_bank_spec, checked_encoder
from service.banks.uploads import uploaded_bank
from service.engine import EncoderInfo, Engine, Timings
from service.errors import BodyTooLargeError, PreparingError
from service.http.body import Upload
from service.images.encoding import Encoded, UploadEncoder
from service.settings import Settings
from service.threads import in_thread
from vlm_ood.digests import digest_of
from vlm_ood.errors import ClassNamesError, ImageError, InputError, VlmOodError
from vlm_ood.tasks import TemplateBank, bank_to_plain, identity_of


@dataclass(frozen=True)
class Created:
    """A created bank.

    Args:
        row: the stored row.
        new: False if the same content was stored before.
        ready: whether it can be used now; otherwise it is being made.
        errors: {row of an image: why it could not be used}.
    """

    row: BankRow
    new: bool
    ready: bool = True
    errors: dict[int, VlmOodError] = field(default_factory=dict)


@dataclass(frozen=True)
class BankCreator:
    """Creates and stores banks.

    Args:
        settings: have the limits.
        engine: describes encoders.
        made: the banks in memory.
        images: encodes uploads.
        threads: in which files are parsed and written.
    """

    settings: Settings
    engine: Engine
    made: MadeBanks
    images: UploadEncoder
    threads: ThreadPoolExecutor

    async def upload(self, tenant: str, options: BankOptions, content: bytes) -> Created:
        """Store the bank of a safetensors file.

        Raises:
            BodyTooLargeError: the file is over the limit.
            VectorError, ClassNamesError: it does not contain a valid bank.
            ConflictError: the tenant has reached its limit.
            StorageError: it can't be written.
        """
        limit = self.settings.max_bank_bytes
        if len(content) > limit:
            raise BodyTooLargeError(f"a bank of {len(content):,} bytes, the limit is {limit:,}: upload fewer rows")
        encoder = await self._encoder(options)
        rows = self.settings.max_bank_rows
        bank = await in_thread(self.threads, lambda: uploaded_bank(content, dim=encoder.dim, max_rows=rows))
        packed = await in_thread(self.threads, lambda: bank_to_bytes(bank))
        digest = digest_of("bank", encoder.name, encoder.digest, bank.digest)
        row = _row(tenant, options, encoder, "text", digest, rows=len(bank))
        return Created(*await self.made.store.create(row, packed))

    async def support(self, tenant: str, options: SupportOptions, uploads: Sequence[Upload]) -> Created:
        """Encode labelled images and store their vectors; images that can't be used are left out.

        Raises:
            InputError: the number of labels is not the number of images.
            ImageError: a class has no image that can be used.
            ConflictError: the tenant has reached its limit.
            StorageError: it can't be written.
        """
        labels = _checked_labels(options.labels, len(uploads))
        encoder = await self._encoder(options)
        await self.made.store.check_room(tenant)
        async with self.images.urls.fetched(tenant, uploads) as fetched:
            encoded = await self.images.encode(tenant, fetched, encoder.name, Timings())
            _check_found(labels, encoded)
            images = await in_thread(self.threads, lambda: _labelled(labels, encoded))
            digest = await in_thread(self.threads, lambda: _digest(encoder, labels, fetched, encoded))
        packed = await in_thread(self.threads, images.to_bytes)
        row = _row(tenant, options, encoder, "support", digest, rows=len(images))
        return Created(*await self.made.store.create(row, packed), errors=encoded.errors)

    async def from_spec(
        self, tenant: str, asked: TemplatesJson | MinedJson, charge: Callable[[int], Awaitable[None]]
    ) -> Created:
        """Store a bank as its spec; a bank that can't be made is an error and is not stored.

        Args:
            tenant: of the caller.
            asked: what was asked for.
            charge: called with the number of prompts if the bank has to be made.

        Raises:
            InputError, NotFoundError: a part can't be used.
            ConflictError: the tenant has reached its limit.
            EngineError: the engine can't answer now.
        """
        name = checked_encoder(asked.encoder, self.settings)
        spec = await checked_bank_spec(asked, name, tenant, self.settings, self.made.store)
        encoder = await self.engine.encoder(name)
        plain = bank_to_plain(spec)
        digest = digest_of("bank spec", encoder.name, identity_of(plain))
        rows = len(spec.names) if isinstance(spec, TemplateBank) else 0
        row = _row(tenant, asked, encoder, "text", digest, rows=rows)
        row.spec = plain
        await self.made.store.same(row)  # raises if the tenant has reached its limit
        if self.made.state(row)[0] in {"cold", "failed"}:
            await charge(await prompts_of([spec]))
        ready = True
        try:
            row.rows = len(await self.made.get(row, stored=False))
        except PreparingError:
            ready = False
        uses = [part.source for part in stored_in([spec])]
        stored, new = await self.made.store.create(row, None, uses)
        self.made.keep(stored)
        if not stored.rows and self.made.state(stored)[0] == "ready":  # it was made just before it was stored
            await self.made.store.count(stored, len(await self.made.get(stored)))
        return Created(stored, new, ready=ready)

    async def _encoder(self, options: BankOptions) -> EncoderInfo:
        return await self.engine.encoder(checked_encoder(options.encoder, self.settings))


def _row(tenant: str, options: BankOptions, encoder: EncoderInfo, kind: BankKind, digest: str, *, rows: int) -> BankRow:
    return BankRow(
        id=f"bnk_{secrets.token_hex(12)}",
        tenant=tenant,
        kind=kind,
        label=options.label,
        spec=None,
        digest=digest,
        rows=rows,
        dim=encoder.dim,
        encoder=encoder.name,
        encoder_digest=encoder.digest,
        blob="",
        nbytes=0,
        created_at=datetime.now(UTC),
    )


def _checked_labels(labels: Sequence[str], images: int) -> list[str]:
    cleaned = [label.strip() for label in labels]
    if len(cleaned) != images:
        raise InputError(f"{len(cleaned)} labels for {images} images: give one class name per image, in order")
    if "" in cleaned:
        raise ClassNamesError(f"the label of image {cleaned.index('')} is empty: give each image a class name")
    return cleaned


def _check_found(labels: Sequence[str], encoded: Encoded) -> None:
    found = {labels[row] for row in encoded.found}
    missing = [label for label in dict.fromkeys(labels) if label not in found]
    if missing:
        why = next(error for row, error in sorted(encoded.errors.items()) if labels[row] == missing[0])
        raise ImageError(f"no image of {missing[0]!r} could be used: {why}; nothing was stored")


def _labelled(labels: Sequence[str], encoded: Encoded) -> LabelledImages:
    kept = [labels[row] for row in encoded.found]
    classes = tuple(dict.fromkeys(kept))
    return LabelledImages(classes, torch.tensor([classes.index(label) for label in kept]), encoded.features)


def _digest(encoder: EncoderInfo, labels: Sequence[str], uploads: Sequence[Upload], encoded: Encoded) -> str:
    """Digest of the files and labels, not of the vectors: their last bits depend on the batch."""
    files = [uploads[row].content for row in encoded.found]
    hashes = [hashlib.sha256(file).hexdigest() for file in files if isinstance(file, bytes)]
    kept = [[digest, labels[row]] for digest, row in zip(hashes, encoded.found, strict=True)]
    return digest_of("support", encoder.name, encoder.digest, kept)
