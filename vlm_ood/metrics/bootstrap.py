"""Confidence intervals of a figure: how far it may move with other images of the same kind."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlm_ood.errors import ParameterError
from vlm_ood.metrics.samples import Sample, as_sample, same_length


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    metric: Callable[..., float],
    *samples: Sample,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    paired: bool = False,
) -> Interval:
    """The percentile bootstrap interval of a metric. Source: Efron, Ann. Statist. 7(1), 1979.

    Args:
        metric: takes the samples and returns a number: `bootstrap(auroc, id_scores, ood_scores)`.
        samples: each is drawn anew with replacement, at its own size, independently of the others.
        resamples: how often.
        level: of the interval, in (0, 1).
        seed: of the generator; the same seed gives the same interval.
        paired: draw rows instead, the same from every sample: `bootstrap(accuracy, predictions, labels, paired=True)`.

    Raises:
        VectorError: a sample that is empty or not finite; paired samples of different length.
        ParameterError: no resamples, or a level outside (0, 1).
    """
    if resamples < 1:
        raise ParameterError(f"resamples={resamples}: give at least 1")
    if not 0 < level < 1:
        raise ParameterError(f"level={level}: give a level between 0 and 1")
    arrays = [as_sample(sample, "values") for sample in samples]
    if paired:
        for other in arrays[1:]:
            same_length(arrays[0], other, "paired samples")
    generator = np.random.default_rng(seed)
    values = [metric(*_draw(arrays, generator, paired)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(metric(*arrays)), float(low), float(high))


def _draw(arrays: list[np.ndarray], generator: np.random.Generator, paired: bool) -> list[np.ndarray]:
    if paired:
        rows = generator.integers(len(arrays[0]), size=len(arrays[0]))
        return [array[rows] for array in arrays]
    return [array[generator.integers(len(array), size=len(array))] for array in arrays]
