"""From uploads to features: URLs fetched, images encoded by the engine, an error for each that can't be used."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from service.engine import EncodedImage, Engine, Head, Timings
from service.errors import BodyTooLargeError
from service.http.body import Upload
from service.security.fetching import Fetcher
from vlm_ood.detectors import Evidence, FittedDetector
from vlm_ood.errors import VlmOodError
from vlm_ood.types import ImageFeatures

FETCHES_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Encoded:
    """Encoded uploads.

    Args:
        found: {row: encoded image}, in order.
        errors: {row: why the image could not be encoded}.
    """

    found: dict[int, EncodedImage]
    errors: dict[int, VlmOodError]

    @cached_property
    def features(self) -> ImageFeatures:
        """Pooled, of all that have some, as one; for a thread, since the event loop does no arithmetic."""
        return ImageFeatures.concatenate([image.features for image in self.found.values()])

    def evidence(self, fitted: FittedDetector[Any], top: int) -> Evidence:
        """Scores and nearest negatives: from the worker if the detector has a head, else from the pooled features.

        Args:
            fitted: the detector they were encoded for.
            top: how many negatives to list per image, where there are as many.
        """
        found = [image.answer for image in self.found.values() if isinstance(image.answer, Evidence)]
        return Evidence.concatenate(found) if found else fitted.examine(self.features, top)


@dataclass(frozen=True)
class UploadEncoder:
    """Encodes uploads.

    Args:
        engine: encodes images.
        fetcher: for URLs; None when they are not fetched.
        chunk: how many images are put into the engine's queue at once.
        max_bytes: of all images of one request together, those behind URLs included.
    """

    engine: Engine
    fetcher: Fetcher | None
    chunk: int
    max_bytes: int

    async def encode(
        self, tenant: str, uploads: Sequence[Upload], encoder: str, timings: Timings, head: Head | None = None
    ) -> Encoded:
        """Encode the uploads; errors are collected per image.

        Args:
            tenant: whose images they are.
            uploads: any of them may already be an error.
            encoder: its name.
            timings: filled by the call.
            head: runs in the worker; None for pooled features alone.

        Raises:
            BodyTooLargeError: the images are larger than `max_bytes` together.
            EngineError: the engine can't answer now.
        """
        uploads = await self.fetched(uploads)
        contents = {row: upload.content for row, upload in enumerate(uploads) if isinstance(upload.content, bytes)}
        errors: dict[int, VlmOodError] = {
            row: upload.content for row, upload in enumerate(uploads) if isinstance(upload.content, VlmOodError)
        }
        found: dict[int, EncodedImage] = {}
        rows = list(contents)
        for start in range(0, len(rows), self.chunk):
            part = rows[start : start + self.chunk]
            encoded = await self.engine.encode_images(
                encoder, [contents[row] for row in part], tenant=tenant, head=head, timings=timings
            )
            for row, result in zip(part, encoded, strict=True):
                if isinstance(result, VlmOodError):
                    errors[row] = result
                else:
                    found[row] = result
        return Encoded(found, errors)

    async def fetched(self, uploads: Sequence[Upload]) -> list[Upload]:
        """The uploads with bytes, or an error, in place of each URL.

        Raises:
            BodyTooLargeError: the images are larger than `max_bytes` together.
        """
        gate, nbytes = asyncio.Semaphore(FETCHES_AT_ONCE), 0

        async def fetch(upload: Upload) -> Upload:
            nonlocal nbytes
            async with gate:
                self._check(nbytes)  # the limit was exceeded while this one waited
                found = await upload.fetched(self.fetcher)
                nbytes += len(found.content) if isinstance(found.content, bytes) else 0
                self._check(nbytes)
                return found

        return list(await asyncio.gather(*map(fetch, uploads)))

    def _check(self, nbytes: int) -> None:
        if nbytes > self.max_bytes:
            raise BodyTooLargeError(
                f"the images of this request together are over the limit of {self.max_bytes:,} bytes: send them in "
                "several requests"
            )
