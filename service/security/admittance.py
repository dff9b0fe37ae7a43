"""Admits so many connections in all and per client address, and a reserve beyond in which only health is served."""

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import BusyError
from service.observability.metrics import HttpMetrics
from service.observability.seldom import Seldom
from service.problems import response_to
from service.request_id import request_id_of

HEALTH_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
RESERVE: Final = 2048  # as many as the backlog lets in at once; each lives for the seconds of one head
GRACE_S: Final = 1.0  # after which a connection that asks nothing makes room for another one
RETRY_AFTER_S: Final = 1.0

Place = Literal["ordinary", "reserve"]

log = structlog.get_logger("vlm_ood.http")


class Admitted(Protocol):
    """A connection, as far as its admittance goes."""

    def make_room(self) -> None:
        """Close, because another connection needs the place."""


@dataclass(frozen=True)
class AdmittanceLimits:
    """Limits of open connections.

    Args:
        ordinary: in all.
        per_address: per client address; IPv6 clients count by their network of 64 bits.
        reserve: beyond these, in which only health is served.
        exempt: networks without the limit per address, such as those of proxies.
    """

    ordinary: int
    per_address: int
    reserve: int = RESERVE
    exempt: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


class Admittance:
    """Admits connections, and closes those that ask nothing when another one needs their place.

    Args:
        limits: of open connections.
        metrics: count them.
        clock: seconds; by default those of the running event loop.
    """

    def __init__(
        self, limits: AdmittanceLimits, metrics: HttpMetrics, clock: Callable[[], float] | None = None
    ) -> None:
        self._limits, self._metrics = limits, metrics
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._places: dict[Admitted, tuple[Place, str | None]] = {}
        self._open: Counter[Place] = Counter()
        self._by_address: Counter[str] = Counter()  # ordinary ones
        self._asking: dict[Place, OrderedDict[Admitted, float]] = {"ordinary": OrderedDict(), "reserve": OrderedDict()}
        self._seldom = Seldom()
        metrics.connections.labels("ordinary").set_function(lambda: self._open["ordinary"])
        metrics.connections.labels("reserve").set_function(lambda: self._open["reserve"])

    def enter(self, connection: Admitted, host: str | None) -> Place | None:
        """Count a new connection; its place, or None when it is refused.

        Args:
            connection: is closed when another one needs its place while it asks nothing.
            host: address of the client.
        """
        address = self._address_of(host)
        place: Place = "ordinary" if self._has_room(address) else "reserve"
        if place == "reserve":
            self._refused(host)
            if self._open["reserve"] >= self._limits.reserve and not self._make_room("reserve", 0.0):
                return None
        self._places[connection] = place, address
        self._open[place] += 1
        if place == "ordinary" and address is not None:
            self._by_address[address] += 1
        self.idles(connection)
        return place

    def leave(self, connection: Admitted) -> None:
        """Give the place back; a second time does nothing."""
        place, address = self._places.pop(connection, (None, None))
        if place is None:
            return
        self._open[place] -= 1
        self._asking[place].pop(connection, None)
        if place == "ordinary" and address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def idles(self, connection: Admitted) -> None:
        """It asks nothing: no head is complete, and every answer is."""
        if connection in self._places:
            self._asking[self._places[connection][0]].setdefault(connection, self._clock())

    def works(self, connection: Admitted) -> None:
        """It has a request that isn't answered."""
        if connection in self._places:
            self._asking[self._places[connection][0]].pop(connection, None)

    def _has_room(self, address: str | None) -> bool:
        if address is not None and self._by_address[address] >= self._limits.per_address:
            return False
        return self._open["ordinary"] < self._limits.ordinary or self._make_room("ordinary", GRACE_S)

    def _make_room(self, place: Place, after_s: float) -> bool:
        """Close the one that has asked nothing for longest, if that is long enough."""
        connection, since = next(iter(self._asking[place].items()), (None, 0.0))
        if connection is None or self._clock() - since < after_s:
            return False
        self.leave(connection)
        connection.make_room()
        return True

    def _refused(self, host: str | None) -> None:
        self._metrics.refused_connections.inc()
        if self._seldom.now():
            log.warning("connections refused", open=self._open["ordinary"], client=host, limits=str(self._limits))

    def _address_of(self, host: str | None) -> str | None:
        """What the client is counted by; None for a client that isn't counted."""
        try:
            ip = ipaddress.ip_address((host or "").partition("%")[0])
        except ValueError:
            return None  # a Unix socket
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if ip.is_loopback or any(ip in network for network in self._limits.exempt):
            return None
        return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


@dataclass(frozen=True)
class HealthOnly:
    """The application behind a connection of the reserve: health is answered, all else is told to come back."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or answer 503."""
        if scope["path"] in HEALTH_PATHS:
            await self.app(scope, receive, send)
            return
        error = BusyError("too many connections are open, in all or from this address: try again later", RETRY_AFTER_S)
        await response_to(error, request_id_of(scope))(scope, receive, send)
