"""What Prometheus sees. The names are Triton's: "request" in the name of a metric is one image."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.engine.errors import DeadlineExceeded, Draining, QueueFull
from vlm_ood.errors import ImageError, VlmOodError

FailureReason = Literal["REJECTED", "CANCELED", "EXPIRED", "DECODE", "BACKEND"]

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class EngineMetrics:
    """Counters, gauges and histograms in the registry that it is given, never in the global one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"vlm_ood_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vlm_ood_{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"vlm_ood_{name}", text, ("encoder",), buckets=buckets, registry=registry)

        self.success = counter("inference_request_success", "Images encoded, or found in the cache", "encoder")
        self.failure = counter("inference_request_failure", "Images not encoded, by reason", "encoder", "reason")
        self.inferences = counter("inference_count", "Images and texts that went through a network", "encoder")
        self.executions = counter("inference_exec_count", "Batches that went through a network", "encoder")
        self.dispatches = counter("inference_dispatch", "Batches sent to a worker, by reason", "encoder", "reason")
        self.pending = gauge("inference_pending_request_count", "Images and texts admitted and not yet answered")
        self.pending_bytes = gauge("inference_pending_request_bytes", "Their files and pixels")
        self.oldest_wait = gauge("inference_oldest_wait_seconds", "Since the first of the queue was put there")
        self.predicted_wait = gauge("inference_predicted_wait_seconds", "Until all that is admitted is encoded")
        self.refused = counter("admission_refused", "Images and texts refused before any work, by reason", "reason")
        self.tenants = gauge("inference_pending_tenants", "Tenants with images or texts admitted and not yet answered")
        self.largest_share = gauge("inference_pending_largest_share", "Part of these that one tenant has, 0 to 1")
        self.batch_size = histogram("inference_batch_size", "Images or prompts in a batch", SIZES)
        self.queue_s = histogram("inference_queue_duration_seconds", "Waiting, by image", SECONDS)
        self.decode_s = histogram("inference_decode_duration_seconds", "Decoding, by image", SECONDS)
        self.encode_s = histogram("inference_encode_duration_seconds", "Forward pass, by batch", SECONDS)
        self.cache_hits = counter("cache_hits", "Found in a cache", "cache")
        self.cache_misses = counter("cache_misses", "Not found in a cache", "cache")
        self.restarts = counter("worker_restarts", "Workers started anew after a death")
        self.decoders_lost = counter("decoders_lost", "Decoders ended before their time, by reason", "reason")
        self.workers = gauge("workers_ready", "Workers that take batches")
        self.encoders = gauge("encoders_loaded", "Encoders that take images")

    def fail(self, encoder: str, reason: FailureReason, images: int = 1) -> None:
        """Count images that were not encoded."""
        self.failure.labels(encoder, reason).inc(images)

    def refuse(self, reason: str, items: int) -> None:
        """Count images or texts that were refused before any work."""
        self.refused.labels(reason).inc(items)

    def look_up(self, cache: str, hits: int, misses: int) -> None:
        """Count look-ups in a cache that found something, and those that didn't."""
        self.cache_hits.labels(cache).inc(hits)
        self.cache_misses.labels(cache).inc(misses)


def reason_of(error: VlmOodError) -> FailureReason:
    """The reason under which an error is counted."""
    if isinstance(error, QueueFull | Draining):
        return "REJECTED"
    if isinstance(error, DeadlineExceeded):
        return "EXPIRED"
    return "DECODE" if isinstance(error, ImageError) else "BACKEND"
