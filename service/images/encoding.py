"""From uploads to features: images encoded by the engine, an error for each that can't be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.engine import EncodedImage, Engine, Head, Timings
from service.http.body import Upload
from service.images.urls import UrlImages
from vlm_ood.detectors import Evidence, FittedDetector
from vlm_ood.errors import VlmOodError
from vlm_ood.types import ImageFeatures


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
        urls: fetches images by URL.
        chunk: how many images are put into the engine's queue at once.
    """

    engine: Engine
    urls: UrlImages
    chunk: int

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
            BodyTooLargeError: the images behind URLs are larger together than a request may send.
            BusyError: too many bytes are in flight.
            EngineError: the engine can't answer now.
        """
        async with self.urls.fetched(tenant, uploads) as fetched:
            return await self._encoded(tenant, fetched, encoder, timings, head)

    async def _encoded(
        self, tenant: str, uploads: Sequence[Upload], encoder: str, timings: Timings, head: Head | None
    ) -> Encoded:
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
