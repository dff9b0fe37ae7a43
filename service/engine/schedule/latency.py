"""How long a batch will take: seconds = slope * n + intercept, fitted to past batches; n counts pixels or prompts."""

import math
from collections import defaultdict
from dataclasses import dataclass

from service.engine.schedule.items import BatchKey
from vlm_ood.encoders.outputs import POOLED, Outputs

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
        """Slope in seconds per pixel or prompt, and intercept in seconds; both 0 before the first batch."""
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
        """Seconds for n in batches of at most `batch`."""
        slope, intercept = self.coefficients()
        return slope * n + intercept * math.ceil(n / batch)


class LatencyBook:
    """One model for each kind of work: an encoder and the outputs of its forward pass, or None for prompts."""

    def __init__(self) -> None:
        self._models: defaultdict[tuple[str, Outputs | None], LatencyModel] = defaultdict(LatencyModel)

    def model(self, encoder: str, outputs: Outputs | None) -> LatencyModel:
        """The model of this work."""
        return self._models[encoder, outputs]

    def predict_s(self, key: BatchKey, cost: int) -> float:
        """Seconds for so much of this work; as for pooled features alone where it was never seen."""
        seen = key.outputs is None or (key.encoder, key.outputs) in self._models
        return self.model(key.encoder, key.outputs if seen else POOLED).predict(cost, key.max_cost)
