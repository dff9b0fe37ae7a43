"""The settings of the server: environment variables `VLM_OOD_*`, read once."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le
from platformdirs import user_data_path
from pydantic import BeforeValidator, Field, IPvAnyNetwork, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import ceilings
from vlm_ood.errors import InputError

if TYPE_CHECKING:
    from service.engine import EngineSettings

MIB = 2**20


class SettingsError(InputError):
    """Settings that contradict each other or are unsafe."""


def _split(value: object) -> object:
    """("a", "b") for "a,b"; other values unchanged."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_split)]
Count = Annotated[int, Ge(1)]
Seconds = Annotated[float, Gt(0)]


class Settings(BaseSettings):
    """All settings. Sizes are in bytes, times in seconds; lists are written 'a,b' in the environment."""

    model_config = SettingsConfigDict(env_prefix="VLM_OOD_", frozen=True, extra="forbid")

    # address and storage
    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0)] = 8000
    data: Path = Field(default_factory=lambda: user_data_path("vlm-ood"))
    database_url: str = ""  # SQLite in the data folder

    # access
    insecure: bool = False
    allowed_hosts: Names = ()  # Host headers; empty: on loopback the names of this machine, else any
    cors_origins: Names = ()
    images_per_minute: Count | None = 6000  # for keys without their own limit
    rate_limit_storage: str = "async+memory://"

    # limits per request and tenant
    max_body_bytes: Count = 100 * MIB
    max_json_bytes: Annotated[Count, Le(ceilings.JSON_BYTES)] = 32 * MIB
    max_bytes_in_flight: Count = 1024 * MIB
    body_timeout_s: Seconds = 60.0
    max_images: Annotated[Count, Le(ceilings.IMAGES)] = 64
    max_calibration_images: Annotated[Count, Le(ceilings.IMAGES)] = 512
    max_image_bytes: Count = 20 * MIB
    max_image_pixels: Count = 40_000_000
    max_classes: Annotated[Count, Le(ceilings.CLASSES)] = 10_000
    max_templates: Annotated[Count, Le(ceilings.TEMPLATES)] = 256
    max_prompts: Count = 200_000  # classes times templates
    max_words: Annotated[Count, Le(ceilings.WORDS)] = 100_000  # words of a list of negatives in a request
    max_detectors: Count = 1000  # per tenant
    max_preparing: Count = 16  # detectors, and as many banks, in the making for a tenant at once
    max_waiting: Count = 96  # requests that wait for URLs or makings, at most half of max_connections
    max_waiting_per_tenant: Count = 32
    max_bank_bytes: Count = 64 * MIB  # per uploaded bank
    max_bank_rows: Count = 100_000
    max_support_images: Annotated[Count, Le(ceilings.IMAGES)] = 512  # labelled images per request
    max_banks: Count = 1000  # per tenant
    max_banks_bytes: Count = 1024 * MIB  # all vectors that a tenant stores
    max_connections: Count = 256
    max_connections_per_address: Count = 64
    proxies: Networks = ()  # whose connections are not limited per address
    keep_alive_s: Annotated[int, Ge(1)] = 5

    # images by URL
    url_input: bool = False
    url_schemes: Names = ("https",)
    url_ports: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split)] = (443,)
    url_timeout_s: Seconds = 10.0
    max_urls_at_once: Count = 16  # per tenant

    # scoring
    encoders: Names = ("embedded",)  # that requests may name; the first is the default
    device: str = "auto"
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    workers: Literal["process", "inline"] = "process"
    decode_processes: Count | None = None  # one per CPU core
    decode_cpu_s: Seconds = 5.0  # per picture
    decode_memory_bytes: Count = 1024 * MIB  # per picture
    pixel_bytes: Count = 64 * MIB  # images between decoding and the network
    max_wait_s: Annotated[float, Ge(0)] = 0.0
    max_queue_items: Count = 256
    max_queue_bytes: Count = 256 * MIB
    deadline_s: Seconds = 10.0
    drain_s: Seconds = 30.0
    judge_threads: Count = 2
    detector_cache_bytes: Count = 256 * MIB
    bank_cache_bytes: Count = 256 * MIB  # text banks in memory
    image_cache_bytes: Annotated[int, Ge(0)] = 64 * MIB  # features by file content; 0 disables the cache
    head_bytes: Count = 256 * MIB  # per device, state of detectors that run in the worker
    prepare_wait_s: Seconds = 10.0  # how long a request waits for its detector
    prepare_limit_s: Seconds = 1800.0

    # monitoring
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = ""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.encoders:
            raise ValueError("encoders is empty: name at least one, such as 'embedded'")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> tuple[str, ...]:
        """Accepted values of the Host header; empty for any. They prevent DNS rebinding by pages of other sites."""
        return self.allowed_hosts or (("127.0.0.1", "localhost", "[::1]", self.host) if self.loopback else ())

    @property
    def sql_url(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{self.data / 'vlm-ood.sqlite3'}"

    def engine(self) -> "EngineSettings":
        """The settings of the engine, which is imported here: the server answers before it can be."""
        from service.engine import EngineSettings
        from vlm_ood.images import ImageLimits

        return EngineSettings(
            encoders=self.encoders,
            device=self.device,
            dtype=self.dtype,
            workers=self.workers,
            decode_processes=self.decode_processes,
            decode_cpu_s=self.decode_cpu_s,
            decode_memory_bytes=self.decode_memory_bytes,
            pixel_bytes=self.pixel_bytes,
            max_wait_s=self.max_wait_s,
            max_queue_items=self.max_queue_items,
            max_queue_bytes=self.max_queue_bytes,
            deadline_s=self.deadline_s,
            drain_s=self.drain_s,
            image_cache_bytes=self.image_cache_bytes,
            head_bytes=self.head_bytes,
            image_limits=ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels),
        )


def read_settings(**given: Any) -> Settings:
    """Read the settings from the environment; arguments that are not None take precedence.

    Raises:
        SettingsError: a value can't be used; the message names the setting.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise SettingsError(f"settings: {wrong}") from None
