"""How many connections are admitted, in all and per address, and which one makes room."""

from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
from prometheus_client import CollectorRegistry

from service.observability.metrics import HttpMetrics
from service.security.admittance import GRACE_S, Admittance, AdmittanceLimits, Place


@dataclass(eq=False)
class Connection:
    """Notes that it had to make room."""

    closed: bool = False

    def make_room(self) -> None:
        self.closed = True


@dataclass
class Door:
    """Admittance on a clock that stands still."""

    limits: AdmittanceLimits
    now: float = 0.0
    admittance: Admittance = field(init=False)

    def __post_init__(self) -> None:
        self.admittance = Admittance(self.limits, HttpMetrics(CollectorRegistry()), lambda: self.now)

    def enter(self, host: str | None) -> tuple[Connection, Place | None]:
        connection = Connection()
        return connection, self.admittance.enter(connection, host)

    def places(self, *hosts: str | None) -> list[Place | None]:
        return [self.enter(host)[1] for host in hosts]


def test_each_address_has_its_limit_and_ipv6_counts_by_network() -> None:
    door = Door(AdmittanceLimits(ordinary=100, per_address=2))
    assert door.places(*["203.0.113.1"] * 3, "203.0.113.2") == ["ordinary", "ordinary", "reserve", "ordinary"]
    assert door.places("::ffff:203.0.113.2", "::ffff:203.0.113.2") == ["ordinary", "reserve"]
    assert door.places("2001:db8::1", "2001:db8::ffff:1", "2001:db8::2") == ["ordinary", "ordinary", "reserve"]
    assert door.places("2001:db8:0:1::1") == ["ordinary"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", None])
def test_loopback_proxies_and_unix_sockets_have_no_limit_per_address(host: str | None) -> None:
    door = Door(AdmittanceLimits(ordinary=100, per_address=1, exempt=(ip_network("10.0.0.0/8"),)))
    assert door.places(*[host] * 5) == ["ordinary"] * 5


def test_a_place_is_given_back_once() -> None:
    door = Door(AdmittanceLimits(ordinary=1, per_address=1, reserve=1))
    first, _ = door.enter("203.0.113.1")
    door.admittance.leave(first)
    door.admittance.leave(first)
    assert door.places("203.0.113.1", "203.0.113.1") == ["ordinary", "reserve"]


def test_the_longest_idle_connection_makes_room_but_none_that_is_new_or_works() -> None:
    door = Door(AdmittanceLimits(ordinary=3, per_address=100, reserve=100))
    works, first, second = (door.enter("203.0.113.1")[0] for _ in range(3))
    door.admittance.works(works)
    door.admittance.works(first)
    door.now = GRACE_S / 2
    door.admittance.idles(first)
    assert door.places("203.0.113.2") == ["reserve"]
    door.now = GRACE_S
    assert door.places("203.0.113.2", "203.0.113.2") == ["ordinary", "reserve"]
    assert (works.closed, first.closed, second.closed) == (False, False, True)
    door.now = 2 * GRACE_S
    assert door.places("203.0.113.2") == ["ordinary"]
    assert (works.closed, first.closed) == (False, True)


def test_a_full_reserve_takes_a_new_connection_for_its_oldest() -> None:
    door = Door(AdmittanceLimits(ordinary=0, per_address=1, reserve=2))
    (first, _), (second, _), (_, third) = (door.enter("203.0.113.1") for _ in range(3))
    assert (first.closed, second.closed, third) == (True, False, "reserve")


def test_a_reserve_in_which_all_work_refuses() -> None:
    door = Door(AdmittanceLimits(ordinary=0, per_address=1, reserve=1))
    first, _ = door.enter("203.0.113.1")
    door.admittance.works(first)
    assert door.places("203.0.113.1") == [None]
    assert not first.closed
