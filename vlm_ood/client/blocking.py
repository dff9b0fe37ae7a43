"""The blocking client; the requests of each call are in `calls` and `banks`."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, Unpack

import httpx

from vlm_ood.client import banks, calls
from vlm_ood.client.asks import Ask, Call
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
from vlm_ood.client.retries import PATIENT, Done, Pause, Reply, Retries, advance, patiently
from vlm_ood.tasks import MinedBank, TemplateBank
from vlm_ood.types import TextBank

T = TypeVar("T")


class Client:
    """Blocks until the server has answered; a context manager, safe to share between threads.

    Args:
        base_url: of the server, such as http://127.0.0.1:8000.
        api_key: from `vlm-ood keys create`.
        timeout: seconds for connecting, and for each wait on an answer.
        retries: how often and how long a request is repeated while the server is busy or away.
        transport: in place of the network.
        clock: seconds that only grow, for the limit of the retries.
        sleep: called with the seconds to wait.

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
            base_url=checked_url(base_url), headers=headers(api_key), timeout=timeout, transport=transport
        )
        self._retries, self._clock, self._sleep, self._jitter = retries, clock, sleep, random.Random()  # noqa: S311

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
        classes: Sequence[str] | Bank,
        top: int = 3,
        threshold: float | None = None,
        **options: Unpack[DetectorOptions],
    ) -> ScoreAnswer:
        """One result per file; more than 64 go in several requests, and one that can't be used is an error of its own.

        Args:
            files: paths, bytes, or pairs of a name and bytes.
            classes: names of the ID classes, or a bank of the server.
            top: how many nearest classes to name.
            threshold: scores above it are OOD.
            **options: see `DetectorOptions`.

        Raises:
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(calls.score("/v1/score", files, calls.detector_options(classes, options), top, threshold))

    def score_with(
        self, detector_id: str, files: Sequence[File], *, top: int = 3, threshold: float | None = None
    ) -> ScoreAnswer:
        """As `score`, by a detector that the server keeps; with a calibration there are decisions and p-values."""
        return self._run(calls.score(f"{calls.detector_path(detector_id)}/score", files, {}, top, threshold))

    def create_detector(self, classes: Sequence[str] | Bank, **options: Unpack[DetectorOptions]) -> DetectorInfo:
        """Keep a detector; the same content has the same id."""
        return self._run(calls.create_detector(classes, options))

    def detectors(self) -> tuple[DetectorInfo, ...]:
        """The detectors of the key's tenant, newest first."""
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

    def upload_bank(self, bank: TextBank | str | Path, *, encoder: str | None = None, label: str = "") -> BankInfo:
        """Store a text bank, such as one from `vlm-ood mine`; the same content has the same id.

        Args:
            bank: itself, or its safetensors file.
            encoder: whose vectors it has, a name of `encoders()`; by default the server's first.
            label: for people; not a part of the content.

        Raises:
            FileNotFoundError, StorageError, VectorError: the file can't be read.
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(banks.upload_bank(bank, encoder, label))

    def upload_support(
        self, images: Mapping[str, Sequence[File]], *, encoder: str | None = None, label: str = ""
    ) -> BankInfo:
        """Store labelled images, which the server encodes; `failed` of the answer has those that can't be used.

        Args:
            images: files by class name. All go in one request: at most 512, and 64 MiB together.
            encoder: as in `upload_bank`.
            label: as in `upload_bank`.

        Raises:
            InputError: more images or bytes than that.
            ImageError: a class without a file that can be read.
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(banks.upload_support(images, encoder, label))

    def make_bank(
        self,
        spec: TemplateBank | MinedBank,
        *,
        encoder: str | None = None,
        label: str = "",
        wait_s: float = 1800.0,
    ) -> BankInfo:
        """Let the server make a bank from names and templates, or mine one; the same spec has the same id.

        Args:
            spec: what it is made from. The classes of a `MinedBank` are a `TemplateBank`, or a `StoredBank` with the
                id of a bank.
            encoder: that encodes it, a name of `encoders()`; by default the server's first.
            label: for people; not a part of the content.
            wait_s: seconds to wait until it is made; after that the `state` of the answer is "preparing".

        Raises:
            ClassNamesError, InputError: a spec that the server can't make a bank of.
            ServerError: the bank can't be made, or the server refused, failed, or could not be reached.
        """
        return self._run(banks.make_bank(spec, encoder, label, wait_s))

    def banks(self) -> tuple[BankInfo, ...]:
        """The banks of the key's tenant, newest first."""
        return self._run(banks.list_banks())

    def get_bank(self, bank_id: str, *, limit: int = 20, against: str | None = None) -> BankInfo:
        """All there is to know about a bank, with a `preview` of its names.

        Args:
            bank_id: of the bank.
            limit: how many names to show, up to 200.
            against: id of the bank in which their nearest rows are looked for; by default the same bank.
        """
        return self._run(banks.get_bank(bank_id, limit, against))

    def delete_bank(self, bank_id: str) -> None:
        """Delete a bank that no detector and no other bank uses."""
        self._run(banks.delete_bank(bank_id))

    def methods(self) -> tuple[MethodInfo, ...]:
        """The methods that the server can score with."""
        return self._run(calls.list_methods())

    def encoders(self) -> tuple[EncoderInfo, ...]:
        """The encoders that may be asked for; one of them is the default."""
        return self._run(calls.list_encoders())

    def _run(self, call: Call[T]) -> T:
        talk = patiently(call, self._retries, self._clock, self._jitter)
        step = advance(talk, None)
        while not isinstance(step, Done):
            step = advance(talk, self._take(step))
        return step.value

    def _take(self, step: Ask | Pause) -> Reply:
        if isinstance(step, Pause):
            return self._sleep(step.seconds)
        try:
            return self._http.request(step.method, step.path, **step.content)
        except httpx.RequestError as error:
            return error
