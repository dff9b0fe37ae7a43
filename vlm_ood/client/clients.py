"""The two clients: one blocks, one awaits; what they say is in `calls`."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack

import httpx

from vlm_ood.client import calls
from vlm_ood.client.calls import Ask, Call
from vlm_ood.client.files import File
from vlm_ood.client.records import (
    CalibrationAnswer,
    DetectorInfo,
    DetectorOptions,
    EncoderInfo,
    MethodInfo,
    ScoreAnswer,
)
from vlm_ood.client.retries import Pause, Reply, Retries, patiently
from vlm_ood.errors import InputError

T = TypeVar("T")

PATIENT = Retries()


class Client:
    """Blocks until the server has answered; a context manager, safe to share between threads.

    Args:
        base_url: of the server, such as http://127.0.0.1:8000.
        api_key: from `vlm-ood keys create`.
        timeout: seconds for connecting, and for each wait on an answer.
        retries: how patient to be with a server that is busy or away.
        transport: in place of the network.
        clock: seconds that only grow.
        sleep: waits.

    Raises:
        InputError: `base_url` isn't a URL of HTTP.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: Retries = PATIENT,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(
            base_url=_checked(base_url), headers=_headers(api_key), timeout=timeout, transport=transport
        )
        self._retries, self._clock, self._sleep, self._dice = retries, clock, sleep, random.Random()  # noqa: S311

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def score(
        self,
        files: Sequence[File],
        *,
        classes: Sequence[str],
        top: int = 3,
        threshold: float | None = None,
        **options: Unpack[DetectorOptions],
    ) -> ScoreAnswer:
        """One result a file; more than 64 go in several requests, and one that can't be used is an error of its own.

        Args:
            files: paths, bytes, or pairs of a name and bytes.
            classes: names of what belongs.
            top: how many nearest classes to name.
            threshold: scores above it are out.
            **options: see `DetectorOptions`.

        Raises:
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(calls.score("/v1/score", files, _scoring(classes, options, top, threshold)))

    def score_with(
        self, detector_id: str, files: Sequence[File], *, top: int = 3, threshold: float | None = None
    ) -> ScoreAnswer:
        """As `score`, by a detector that the server keeps; with a calibration there are decisions and p-values."""
        return self._run(calls.score(f"{calls.detector_path(detector_id)}/score", files, _answering(top, threshold)))

    def create_detector(self, classes: Sequence[str], **options: Unpack[DetectorOptions]) -> DetectorInfo:
        """Keep a detector; the same content has the same id."""
        return self._run(calls.create_detector(classes, options))

    def detectors(self) -> tuple[DetectorInfo, ...]:
        """Those of the key's tenant, newest first."""
        return self._run(calls.list_detectors())

    def get(self, detector_id: str) -> DetectorInfo:
        """All there is to know about a detector."""
        return self._run(calls.get_detector(detector_id))

    def delete(self, detector_id: str) -> None:
        """Delete a detector and its calibration."""
        self._run(calls.delete_detector(detector_id))

    def calibrate(
        self, detector_id: str, files: Sequence[File], *, keep: float = 0.95, append: bool = False, rule: str = "auto"
    ) -> CalibrationAnswer:
        """A threshold that keeps the share `keep` of ID images; `append` adds to those given before.

        The rule is "conformal", "empirical", or "auto": conformal where there are enough images. The answer says which
        it was, and its `note` how many images a guarantee needs when there are too few.

        Raises:
            ImageError: no file can be read.
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(calls.calibrate(detector_id, files, keep, append, rule))

    def methods(self) -> tuple[MethodInfo, ...]:
        """What the server can score with."""
        return self._run(calls.list_methods())

    def encoders(self) -> tuple[EncoderInfo, ...]:
        """What the server may be asked to encode with; one of them is the default."""
        return self._run(calls.list_encoders())

    def _run(self, call: Call[T]) -> T:
        talk = patiently(call, self._retries, self._clock, self._dice)
        step = _advance(talk, None)
        while not isinstance(step, Done):
            step = _advance(talk, self._take(step))
        return step.value

    def _take(self, step: Ask | Pause) -> Reply:
        if isinstance(step, Pause):
            return self._sleep(step.seconds)
        try:
            return self._http.request(step.method, step.path, **step.content)
        except httpx.RequestError as error:
            return error


class AsyncClient:
    """As `Client`, for asyncio; files are read in a thread. An asynchronous context manager."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: Retries = PATIENT,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=_checked(base_url), headers=_headers(api_key), timeout=timeout, transport=transport
        )
        self._retries, self._clock, self._sleep, self._dice = retries, clock, sleep, random.Random()  # noqa: S311

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
        classes: Sequence[str],
        top: int = 3,
        threshold: float | None = None,
        **options: Unpack[DetectorOptions],
    ) -> ScoreAnswer:
        """See `Client.score`."""
        return await self._run(calls.score("/v1/score", files, _scoring(classes, options, top, threshold)))

    async def score_with(
        self, detector_id: str, files: Sequence[File], *, top: int = 3, threshold: float | None = None
    ) -> ScoreAnswer:
        """See `Client.score_with`."""
        path = f"{calls.detector_path(detector_id)}/score"
        return await self._run(calls.score(path, files, _answering(top, threshold)))

    async def create_detector(self, classes: Sequence[str], **options: Unpack[DetectorOptions]) -> DetectorInfo:
        """See `Client.create_detector`."""
        return await self._run(calls.create_detector(classes, options))

    async def detectors(self) -> tuple[DetectorInfo, ...]:
        """See `Client.detectors`."""
        return await self._run(calls.list_detectors())

    async def get(self, detector_id: str) -> DetectorInfo:
        """See `Client.get`."""
        return await self._run(calls.get_detector(detector_id))

    async def delete(self, detector_id: str) -> None:
        """See `Client.delete`."""
        await self._run(calls.delete_detector(detector_id))

    async def calibrate(
        self, detector_id: str, files: Sequence[File], *, keep: float = 0.95, append: bool = False, rule: str = "auto"
    ) -> CalibrationAnswer:
        """See `Client.calibrate`."""
        return await self._run(calls.calibrate(detector_id, files, keep, append, rule))

    async def methods(self) -> tuple[MethodInfo, ...]:
        """See `Client.methods`."""
        return await self._run(calls.list_methods())

    async def encoders(self) -> tuple[EncoderInfo, ...]:
        """See `Client.encoders`."""
        return await self._run(calls.list_encoders())

    async def _run(self, call: Call[T]) -> T:
        talk = patiently(call, self._retries, self._clock, self._dice)
        step = await asyncio.to_thread(_advance, talk, None)
        while not isinstance(step, Done):
            step = await asyncio.to_thread(_advance, talk, await self._take(step))
        return step.value

    async def _take(self, step: Ask | Pause) -> Reply:
        if isinstance(step, Pause):
            await self._sleep(step.seconds)
            return None
        try:
            return await self._http.request(step.method, step.path, **step.content)
        except httpx.RequestError as error:
            return error


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a call; an exception of its own could not leave a thread."""

    value: T


def _advance(talk: Generator[Ask | Pause, Reply, T], reply: Reply) -> Ask | Pause | Done[T]:
    try:
        return talk.send(reply)
    except StopIteration as end:
        return Done(end.value)


def _checked(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InputError(f"server {base_url!r}: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"server {base_url!r}: give a URL such as http://127.0.0.1:8000")
    return url


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _scoring(classes: Sequence[str], options: DetectorOptions, top: int, threshold: float | None) -> dict[str, Any]:
    return calls.detector_options(classes, options) | _answering(top, threshold)


def _answering(top: int, threshold: float | None) -> dict[str, Any]:
    return {"top": top} | ({} if threshold is None else {"threshold": threshold})
