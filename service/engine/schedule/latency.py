"""How long a batch will take: seconds = slope * n + intercept, fitted to what was seen."""

import math
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

FORGETTING = 0.95  # weight of what was seen before; half of it is gone after 14 batches


@dataclass
class LatencyModel:
    """Least squares over (n, seconds) with exponential forgetting; neither coefficient is ever negative."""

    weight: float = 0.0
    n: float = 0.0
    s: float = 0.0
    nn: float = 0.0
    ns: float = 0.0

    def observe(self, n: int, seconds: float) -> None:
        """Learn from one batch of n."""
        self.weight = FORGETTING * self.weight + 1
        self.n = FORGETTING * self.n + n
        self.s = FORGETTING * self.s + seconds
        self.nn = FORGETTING * self.nn + n * n
        self.ns = FORGETTING * self.ns + n * seconds

    def coefficients(self) -> tuple[float, float]:
        """Slope in seconds an item and intercept in seconds; both 0 before the first batch."""
        if not self.weight:
            return 0.0, 0.0
        n, s = self.n / self.weight, self.s / self.weight
        variance = self.nn / self.weight - n * n
        if variance < 1e-6 * n * n:
            return s / n, 0.0
        slope = max(0.0, (self.ns / self.weight - n * s) / variance)
        intercept = s - slope * n
        return (slope, intercept) if intercept >= 0 else (s / n, 0.0)

    def predict(self, n: int, batch: int) -> float:
        """Seconds for n items in batches of at most `batch`."""
        slope, intercept = self.coefficients()
        return slope * n + intercept * math.ceil(n / batch)


class LatencyBook:
    """One model for each kind of batch."""

    def __init__(self) -> None:
        self._models: defaultdict[Hashable, LatencyModel] = defaultdict(LatencyModel)

    def __getitem__(self, kind: Hashable) -> LatencyModel:
        return self._models[kind]
