"""How long a batch will take: seconds = slope * n + intercept, fitted to past batches; n counts pixels or prompts."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.engine.schedule.items import BatchKey
from vlm_ood.encoders.outputs import POOLED, Outputs

FORGETTING = 0.95  # weight of what was seen before a batch; half of it is gone after 14 batches
HALF_LIFE_S = 60.0  # half of the weight is also gone after so long
WARM_UP = 0.1  # weight of a pass while the encoder warmed up, where a batch has 1: the machine did other things too
OUTLIER = 4.0  # a batch counts as no more than so many times what was predicted


@dataclass
class LatencyModel:
    """Least squares over (n, seconds) with exponential forgetting; neither coefficient is ever negative.

    Args:
        clock: in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    weight: float = 0.0
    n: float = 0.0
    s: float = 0.0
    nn: float = 0.0
    ns: float = 0.0
    seen_at: float = -math.inf  # when the last batch was

    @property
    def age_s(self) -> float:
        """Seconds since the last batch; infinite before the first."""
        return self.clock() - self.seen_at

    def expect(self, n: int, seconds: float) -> None:
        """Take a pass of the warm-up as a guess that a few batches outweigh."""
        self._add(n, seconds, WARM_UP)

    def observe(self, n: int, seconds: float) -> None:
        """Learn from one batch of n."""
        if math.isfinite(self.seen_at):
            seconds = min(seconds, OUTLIER * self.predict(n, n))
            self._forget(FORGETTING * 0.5 ** (self.age_s / HALF_LIFE_S))
        self._add(n, seconds, 1.0)
        self.seen_at = self.clock()

    def coefficients(self) -> tuple[float, float]:
        """Slope in seconds per pixel or prompt, and intercept in seconds; both 0 before the first pass."""
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

    def _forget(self, kept: float) -> None:
        self.weight, self.n, self.s = kept * self.weight, kept * self.n, kept * self.s
        self.nn, self.ns = kept * self.nn, kept * self.ns

    def _add(self, n: int, seconds: float, weight: float) -> None:
        self.weight += weight
        self.n += weight * n
        self.s += weight * seconds
        self.nn += weight * n * n
        self.ns += weight * n * seconds


class LatencyBook:
    """One model for each kind of work: an encoder and the outputs of its forward pass, or None for prompts.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._models: dict[tuple[str, Outputs | None], LatencyModel] = {}

    def model(self, encoder: str, outputs: Outputs | None) -> LatencyModel:
        """The model of this work."""
        return self._models.setdefault((encoder, outputs), LatencyModel(self.clock))

    def of(self, key: BatchKey) -> LatencyModel:
        """The model that predicts this work: that of pooled features where it was never seen."""
        seen = key.outputs is None or (key.encoder, key.outputs) in self._models
        return self.model(key.encoder, key.outputs if seen else POOLED)

    def predict_s(self, key: BatchKey, cost: int) -> float:
        """Seconds for so much of this work."""
        return self.of(key).predict(cost, key.max_cost)

    def share_s(self, key: BatchKey, cost: int) -> float:
        """Seconds of a batch with which so much of this work is charged; batches count alike where none was seen."""
        slope, intercept = self.of(key).coefficients()
        return slope * cost + intercept * cost / key.max_cost or cost / key.max_cost

    def age_s(self, key: BatchKey) -> float:
        """Seconds since the last batch of exactly this work; infinite before the first."""
        model = self._models.get((key.encoder, key.outputs))
        return math.inf if model is None else model.age_s
