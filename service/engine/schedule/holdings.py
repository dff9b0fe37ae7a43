"""What is admitted and not yet answered, by tenant, and how much of the queue a tenant may hold."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.engine.schedule.items import BatchKey


@dataclass(eq=False)
class Place:
    """Room for one item of a tenant, from its admission to its answer."""

    tenant: str
    key: BatchKey
    cost: int
    nbytes: int
    taken: bool = True


@dataclass(eq=False)
class Held:
    """What one tenant has, or all together."""

    items: int = 0
    bytes: int = 0
    costs: Counter[BatchKey] = field(default_factory=Counter)

    def add(self, place: Place, sign: int = 1) -> None:
        """Count a place, or with a sign of -1 count it no longer."""
        self.items += sign
        self.bytes += sign * place.nbytes
        self.costs[place.key] += sign * place.cost
        if not self.costs[place.key]:
            del self.costs[place.key]


class Holdings:
    """Counts places.

    A tenant may hold a limit less half of what others hold (a dynamic threshold: Choudhury and Hahne 1998). Alone it
    may fill the queue; a newcomer then finds half a queue beyond it, and the next one half of what is still free. All
    together hold less than twice the limit.
    """

    def __init__(self) -> None:
        self.all = Held()
        self._tenants: dict[str, Held] = {}

    @property
    def tenants(self) -> Mapping[str, Held]:
        """Those that hold something."""
        return self._tenants

    def of(self, tenant: str) -> Held:
        """What a tenant holds."""
        return self._tenants.get(tenant, Held())

    def share(self, tenant: str, items: int, nbytes: int) -> tuple[int, int]:
        """How many items and bytes the tenant may hold now, of these limits."""
        own = self.of(tenant)
        return items - (self.all.items - own.items) // 2, nbytes - (self.all.bytes - own.bytes) // 2

    def largest_share(self) -> float:
        """The part of all items that the tenant with the most of them holds; 0 where there is none."""
        return max((held.items for held in self._tenants.values()), default=0) / max(1, self.all.items)

    def enter(self, place: Place) -> None:
        """Count a place."""
        self.all.add(place)
        self._tenants.setdefault(place.tenant, Held()).add(place)

    def leave(self, place: Place) -> None:
        """Count a place no longer; a second time does nothing."""
        if not place.taken:
            return
        place.taken = False
        self.all.add(place, -1)
        own = self._tenants[place.tenant]
        own.add(place, -1)
        if not own.items:
            del self._tenants[place.tenant]
