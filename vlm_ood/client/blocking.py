"""The blocking client; the requests of each call are in `calls` and `banks`."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
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


class Client:
    """A client whose calls return when the server has answered; a context manager, and safe to share between threads.

    Args:
        base_url: the URL of the server, such as http://127.0.0.1:8000.
        api_key: a token from `vlm-ood keys create`.
        timeout: the longest wait for a connection and for a response, in seconds.
        retries: how often and how long a request is repeated while the server is busy or can't be reached.
        transport: sends the requests, for tests; by default over the network.
        clock: a monotonic clock in seconds, for tests.
        sleep: waits for a number of seconds, for tests.

    Raises:
        InputError: `base_url` is not an HTTP URL.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: Retries = DEFAULT_RETRIES,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(
            base_url=checked_url(base_url), headers=headers(api_key), timeout=timeout, transport=transport
        )
        self._retries, self._clock, self._sleep, self._rng = retries, clock, sleep, random.Random()  # noqa: S311

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
        """Score files; each has a result, with an error if the file can't be used. More than 64 go in several requests.

        Args:
            files: paths, bytes, or pairs of a name and bytes.
            classes: names of the ID classes, or a bank of the server.
            top: how many nearest classes to name.
            threshold: scores above it are OOD.
            **options: the method and its parts, see `DetectorOptions`.

        Raises:
            ClassNamesError: `classes` is one string instead of a list of names.
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(calls.score("/v1/score", files, calls.detector_options(classes, options), top, threshold))

    def score_with(
        self,
        detector_id: str,
        files: Sequence[File],
        *,
        top: int = 3,
        threshold: float | None = None,
        costs: Costs | None = None,
    ) -> ScoreAnswer:
        """As `score`, with a stored detector; if it has a calibration, results have decisions and p-values.

        With `costs`, which need a calibration, they have actions too: accept, abstain or reject.
        """
        return self._run(calls.score(f"{calls.detector_path(detector_id)}/score", files, {}, top, threshold, costs))

    def create_detector(self, classes: Sequence[str] | Bank, **options: Unpack[DetectorOptions]) -> DetectorInfo:
        """Store a detector on the server; the same content has the same id."""
        return self._run(calls.create_detector(classes, options))

    def detectors(self) -> tuple[DetectorInfo, ...]:
        """The detectors of the key's tenant, newest first."""
        return self._run(calls.list_detectors())

    def get(self, detector_id: str) -> DetectorInfo:
        """Get a detector with all its fields."""
        return self._run(calls.get_detector(detector_id))

    def delete(self, detector_id: str) -> None:
        """Delete a detector and its calibration."""
        self._run(calls.delete_detector(detector_id))

    def calibrate(
        self, detector_id: str, files: Sequence[File], *, keep: float = 0.95, append: bool = False, rule: str = "auto"
    ) -> CalibrationAnswer:
        """Choose the threshold of a stored detector, which accepts the share `keep` of ID images.

        Args:
            detector_id: the id of the detector.
            files: ID images.
            keep: the share of ID images to accept.
            append: whether to add to the images of the calibration before, instead of replacing them.
            rule: "conformal", "empirical", or "auto": conformal where there are enough images. The result says which
                it was, and its `note` how many images a guarantee needs when there are too few.

        Raises:
            ImageError: no file can be read.
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(calls.calibrate(detector_id, files, keep, append, rule))

    def upload_bank(self, bank: TextBank | str | Path, *, encoder: str | None = None, label: str = "") -> BankInfo:
        """Store a text bank on the server, such as one from `vlm-ood mine`; the same content has the same id.

        Args:
            bank: the bank, or the path of its safetensors file.
            encoder: the encoder that made its vectors, a name of `encoders()`; by default the server's default.
            label: a note for people; not a part of the content.

        Raises:
            FileNotFoundError, StorageError, VectorError: the file can't be read.
            ServerError: the server refused, failed, or could not be reached.
        """
        return self._run(banks.upload_bank(bank, encoder, label))

    def upload_support(
        self, images: Mapping[str, Sequence[File]], *, encoder: str | None = None, label: str = ""
    ) -> BankInfo:
        """Store labelled images, which the server encodes; `failed` of the result has those that can't be used.

        Args:
            images: files by class name. All go in one request: at most 512, and 64 MiB together.
            encoder: as in `upload_bank`.
            label: as in `upload_bank`.

        Raises:
            InputError: there are more images or bytes than that.
            ImageError: a class has no file that can be read.
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
            spec: what the bank is made from. The classes of a `MinedBank` are a `TemplateBank`, or a `StoredBank` with
                the id of a bank.
            encoder: the encoder that makes the vectors, a name of `encoders()`; by default the server's default.
            label: a note for people; not a part of the content.
            wait_s: how many seconds to wait; if the bank is not ready then, the `state` of the result is "preparing".

        Raises:
            ClassNamesError, InputError: the server can't make a bank from this spec.
            ServerError: the bank can't be made, or the server refused, failed, or could not be reached.
        """
        return self._run(banks.make_bank(spec, encoder, label, wait_s))

    def banks(self) -> tuple[BankInfo, ...]:
        """The banks of the key's tenant, newest first."""
        return self._run(banks.list_banks())

    def get_bank(self, bank_id: str, *, limit: int = 20, against: str | None = None) -> BankInfo:
        """Get a bank with all its fields and a `preview` of its names.

        Args:
            bank_id: the id of the bank.
            limit: how many names to show, up to 200.
            against: the id of the bank whose most similar rows are shown with each name; by default the same bank.
        """
        return self._run(banks.get_bank(bank_id, limit, against))

    def delete_bank(self, bank_id: str) -> None:
        """Delete a bank that no detector and no other bank uses."""
        self._run(banks.delete_bank(bank_id))

    def methods(self) -> tuple[MethodInfo, ...]:
        """The methods that the server has."""
        return self._run(calls.list_methods())

    def encoders(self) -> tuple[EncoderInfo, ...]:
        """The encoders that requests may name; one of them is the default."""
        return self._run(calls.list_encoders())

    def _run(self, call: Call[T]) -> T:
        steps = with_retries(call, self._retries, self._clock, self._rng)
        step = advance(steps, None)
        while not isinstance(step, Done):
            step = advance(steps, self._perform(step))
        return step.value

    def _perform(self, step: ApiRequest | Pause) -> Reply:
        if isinstance(step, Pause):
            return self._sleep(step.seconds)
        try:
            return self._http.request(step.method, step.path, **step.content)
        except httpx.RequestError as error:
            return error
