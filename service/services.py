"""The components of a running server, and how they are assembled."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from service.banks.building import Building
from service.banks.cache import MemoryBanks
from service.banks.creator import BankCreator
from service.banks.made import MadeBanks
from service.banks.store import BankStore
from service.calibration.calibrator import Calibrator
from service.calibration.store import CalibrationStore
from service.detectors.maker import Maker
from service.detectors.prepared import PreparedDetectors, prepared_detectors
from service.detectors.store import DetectorStore
from service.engine import Engine, LocalEngine
from service.http.parsing import Parsing
from service.http.readiness import Readiness
from service.images.encoding import UploadEncoder
from service.images.urls import UrlImages
from service.lifecycle import Lifecycle
from service.observability.metrics import HttpMetrics
from service.scoring.scorer import Scorer
from service.security.budget import ByteBudget
from service.security.fetch_slots import FetchSlots
from service.security.fetching import Fetcher
from service.security.keys import KeyStore
from service.security.rate_limit import RateLimiter
from service.security.waits import OutsideWaits
from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.database import Database
from vlm_ood.errors import VlmOodError
from vlm_ood.io.cache import DiskCache, bank_cache

THREADS_S: Final = 1.0  # that a stop waits for what runs in threads
BUILDERS: Final = 8  # tasks being built at once; each waits for the engine most of the time
PARSERS: Final = 4  # further threads for files and previews, so that these don't wait for builders

log = structlog.get_logger("vlm_ood")


@dataclass(frozen=True)
class Services:
    """The components that routes use."""

    settings: Settings
    lifecycle: Lifecycle
    engine: Engine
    building: Building
    registry: CollectorRegistry
    metrics: HttpMetrics
    database: Database
    keys: KeyStore
    limiter: RateLimiter
    in_flight: ByteBudget
    blobs: Blobs
    detectors: DetectorStore
    banks: MadeBanks
    creator: BankCreator
    prepared: PreparedDetectors
    scorer: Scorer
    calibrator: Calibrator
    readiness: Readiness
    parsing: Parsing
    pools: tuple[ThreadPoolExecutor, ...]

    async def start(self) -> None:
        """Delete unused files and load the encoders; returns when images can be scored."""
        await self.lifecycle.start(self._start)

    async def _start(self) -> None:
        await self.blobs.sweep()
        await self.engine.start()
        for name in self.settings.encoders:
            await self._share_background(name)

    async def _share_background(self, name: str) -> None:
        """Make the encoder's background; the first request that needs it tries again where that fails."""
        try:
            await self.building.share_background(await self.engine.encoder(name))
        except VlmOodError as error:
            log.warning("no background of ordinary images yet", encoder=name, error=str(error))

    async def stop(self) -> None:
        """Stop the engine and release threads, connections and the database; a thread that goes on is left."""
        await self.prepared.close()
        await self.banks.close()
        await self.engine.stop()
        await self.scorer.images.urls.close()
        for pool in self.pools:
            pool.shutdown(wait=False, cancel_futures=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(THREADS_S):
                await asyncio.gather(*(asyncio.to_thread(pool.shutdown) for pool in self.pools))
        await asyncio.to_thread(self.database.close)


def assemble(settings: Settings, engine: Engine | None = None) -> Services:
    """Create the components of a server.

    Args:
        settings: of the server.
        engine: encodes images and text; by default a `LocalEngine`.

    Raises:
        StorageError: the database can't be opened.
    """
    registry = CollectorRegistry()
    engine = engine or LocalEngine(settings.engine(), registry)
    metrics = HttpMetrics(registry)
    database = Database(settings.sql_url)
    judge_threads = ThreadPoolExecutor(settings.judge_threads, thread_name_prefix="judge")
    mine_threads = ThreadPoolExecutor(1, thread_name_prefix="mine")
    build_threads = ThreadPoolExecutor(BUILDERS + PARSERS, thread_name_prefix="build")
    blobs = Blobs(database, settings.data)
    building = Building(
        engine,
        build_threads,
        BUILDERS,
        mine_threads,
        MemoryBanks(bank_cache(), settings.bank_cache_bytes),
        DiskCache(settings.data / "words"),
        settings.prepare_limit_s,
    )
    waits = OutsideWaits(
        min(settings.max_waiting, max(1, settings.max_connections // 2)), settings.max_waiting_per_tenant, metrics
    )
    long_wait = partial(waits.of, awaited="making")
    banks = MadeBanks(
        BankStore(database, blobs, settings.max_banks, settings.max_banks_bytes),
        building,
        max_bytes=settings.bank_cache_bytes,
        max_making=settings.max_preparing,
        wait_s=settings.prepare_wait_s,
        waiting=long_wait,
    )
    make = Maker(building, banks).make
    in_flight = ByteBudget(settings.max_bytes_in_flight)
    images = UploadEncoder(engine, _url_images(settings, in_flight, waits), settings.max_images)
    parsing = Parsing.of(settings)
    scorer = Scorer(images, judge_threads, metrics)
    return Services(
        settings=settings,
        lifecycle=Lifecycle(settings.drain_s),
        engine=engine,
        building=building,
        registry=registry,
        metrics=metrics,
        database=database,
        keys=KeyStore(database),
        limiter=RateLimiter(settings.images_per_minute, settings.rate_limit_storage),
        in_flight=in_flight,
        blobs=blobs,
        detectors=DetectorStore(database, blobs, settings.max_detectors),
        banks=banks,
        creator=BankCreator(settings, engine, banks, images, build_threads),
        prepared=prepared_detectors(
            make,
            max_bytes=settings.detector_cache_bytes,
            max_making=settings.max_preparing,
            wait_s=settings.prepare_wait_s,
            waiting=long_wait,
        ),
        scorer=scorer,
        calibrator=Calibrator(CalibrationStore(database, blobs), scorer, judge_threads),
        readiness=Readiness(engine),
        parsing=parsing,
        pools=(judge_threads, build_threads, mine_threads, parsing.threads),
    )


def _url_images(settings: Settings, in_flight: ByteBudget, waits: OutsideWaits) -> UrlImages:
    slots = FetchSlots(settings.max_urls_at_once, settings.url_timeout_s)
    return UrlImages(_fetcher(settings), in_flight, slots, waits, settings.max_body_bytes)


def _fetcher(settings: Settings) -> Fetcher | None:
    if not settings.url_input:
        return None
    return Fetcher(settings.max_image_bytes, settings.url_schemes, settings.url_ports, settings.url_timeout_s)
