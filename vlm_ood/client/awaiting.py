"""The client for asyncio; the requests of each call are in `calls` and `banks`."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, Unpack

import httpx

from vlm_ood.client import banks, calls
from vlm_ood.client.bank_records import Bank, BankInfo
from vlm_ood.client.connection import checked_url, headers
from vlm_ood.client.files import File
from vlm_ood.client.records import (
    CalibrationAnswer,
    DetectorInfo,
    DetectorOptions,
    EncoderInfo,
    MethodInfo,
    ScoreAnswer,
)
from vlm_ood.client.requests import ApiRequest, Call
from vlm_ood.client.retries import DEFAULT_RETRIES, Done, Pause, Reply, Retries, advance, with_retries
from vlm_ood.selective import Costs
from vlm_ood.tasks import MinedBank, TemplateBank
from vlm_ood.types import TextBank

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio; files are read in a thread. An asynchronous context manager."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: Retries = DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=checked_url(base_url), headers=headers(api_key), timeout=timeout, transport=transport
        )
        self._retries, self._clock, self._sleep, self._rng = retries, clock, sleep, random.Random()  # noqa: S311

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def score(
        self,
        files: Sequence[File],
        *,
        classes: Sequence[str] | Bank,
        top: int = 3,
        threshold: float | None = None,
        **options: Unpack[DetectorOptions],
    ) -> ScoreAnswer:
        """Score files; arguments and errors as in `Client.score`."""
        return await self._run(
            calls.score("/v1/score", files, calls.detector_options(classes, options), top, threshold)
        )

    async def score_with(
        self,
        detector_id: str,
        files: Sequence[File],
        *,
        top: int = 3,
        threshold: float | None = None,
        costs: Costs | None = None,
    ) -> ScoreAnswer:
        """As `score`, with a stored detector; if it has a calibration, results have decisions and p-values."""
        path = f"{calls.detector_path(detector_id)}/score"
        return await self._run(calls.score(path, files, {}, top, threshold, costs))

    async def create_detector(self, classes: Sequence[str] | Bank, **options: Unpack[DetectorOptions]) -> DetectorInfo:
        """Store a detector on the server; the same content has the same id."""
        return await self._run(calls.create_detector(classes, options))

    async def detectors(self) -> tuple[DetectorInfo, ...]:
        """The detectors of the key's tenant, newest first."""
        return await self._run(calls.list_detectors())

    async def get(self, detector_id: str) -> DetectorInfo:
        """Get a detector with all its fields."""
        return await self._run(calls.get_detector(detector_id))

    async def delete(self, detector_id: str) -> None:
        """Delete a detector and its calibration."""
        await self._run(calls.delete_detector(detector_id))

    async def calibrate(
        self, detector_id: str, files: Sequence[File], *, keep: float = 0.95, append: bool = False, rule: str = "auto"
    ) -> CalibrationAnswer:
        """Choose the threshold of a stored detector; arguments and errors as in `Client.calibrate`."""
        return await self._run(calls.calibrate(detector_id, files, keep, append, rule))

    async def upload_bank(
        self, bank: TextBank | str | Path, *, encoder: str | None = None, label: str = ""
    ) -> BankInfo:
        """Store a text bank on the server; arguments and errors as in `Client.upload_bank`."""
        return await self._run(banks.upload_bank(bank, encoder, label))

    async def upload_support(
        self, images: Mapping[str, Sequence[File]], *, encoder: str | None = None, label: str = ""
    ) -> BankInfo:
        """Store labelled images, which the server encodes; arguments and errors as in `Client.upload_support`."""
        return await self._run(banks.upload_support(images, encoder, label))

    async def make_bank(
        self,
        spec: TemplateBank | MinedBank,
        *,
        encoder: str | None = None,
        label: str = "",
        wait_s: float = 1800.0,
    ) -> BankInfo:
        """Let the server make a bank, and wait for it; arguments and errors as in `Client.make_bank`."""
        return await self._run(banks.make_bank(spec, encoder, label, wait_s))

    async def banks(self) -> tuple[BankInfo, ...]:
        """The banks of the key's tenant, newest first."""
        return await self._run(banks.list_banks())

    async def get_bank(self, bank_id: str, *, limit: int = 20, against: str | None = None) -> BankInfo:
        """Get a bank with all its fields and a preview of its names; arguments as in `Client.get_bank`."""
        return await self._run(banks.get_bank(bank_id, limit, against))

    async def delete_bank(self, bank_id: str) -> None:
        """Delete a bank that no detector and no other bank uses."""
        await self._run(banks.delete_bank(bank_id))

    async def methods(self) -> tuple[MethodInfo, ...]:
        """The methods that the server has."""
        return await self._run(calls.list_methods())

    async def encoders(self) -> tuple[EncoderInfo, ...]:
        """The encoders that requests may name; one of them is the default."""
        return await self._run(calls.list_encoders())

    async def _run(self, call: Call[T]) -> T:
        steps = with_retries(call, self._retries, self._clock, self._rng)
        step = await asyncio.to_thread(advance, steps, None)
        while not isinstance(step, Done):
            step = await asyncio.to_thread(advance, steps, await self._perform(step))
        return step.value

    async def _perform(self, step: ApiRequest | Pause) -> Reply:
        if isinstance(step, Pause):
            await self._sleep(step.seconds)
            return None
        try:
            return await self._http.request(step.method, step.path, **step.content)
        except httpx.RequestError as error:
            return error
