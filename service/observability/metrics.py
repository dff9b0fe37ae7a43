"""Prometheus metrics of HTTP; those of the engine are in the same registry."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
UNMATCHED: Final = "unmatched"  # a path of no route
_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class HttpMetrics:
    """Metrics of requests. Labels are methods, routes and statuses, never paths or tenants: their number is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "vlm_ood_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "vlm_ood_http_request_seconds",
            "Seconds from the first byte of a request to the last byte of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("vlm_ood_http_requests_in_flight", "Requests being handled.", registry=registry)
        self.connections = Gauge("vlm_ood_http_connections", "Open connections.", ["place"], registry=registry)
        self.refused_connections = Counter(
            "vlm_ood_http_refused_connections",
            "Connections beyond the limits, in all or per address.",
            registry=registry,
        )
        self.waiting = Gauge(
            "vlm_ood_http_requests_waiting",
            "Requests that wait for URLs, or long for a detector or bank in the making.",
            ["awaited"],
            registry=registry,
        )
        self.refused_waits = Counter(
            "vlm_ood_http_refused_waits", "Requests that may not wait so, by limit.", ["limit"], registry=registry
        )
        self.images = Counter("vlm_ood_images", "Images answered, by outcome.", ["outcome"], registry=registry)
        self.judge_seconds = Histogram(
            "vlm_ood_judge_seconds", "Seconds from features to answers.", buckets=_SECONDS, registry=registry
        )

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; status 0 (the client disconnected before an answer) is recorded as 499.

        Args:
            method: a known one, or "other".
            route: of the application, or `UNMATCHED`.
            status: of the answer.
            seconds: until its last byte.
        """
        self.requests.labels(method, route, str(status or 499)).inc()
        self.seconds.labels(route).observe(seconds)
