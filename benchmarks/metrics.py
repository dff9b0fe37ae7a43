"""Times the metrics on a million scores, against scikit-learn and a loop over pairs. Run: python benchmarks/metrics.py

Every time is the best of three in this one run; equal results are asserted before anything is timed.
"""

import math
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from vlm_ood import metrics


def main() -> None:
    """Print the three comparisons."""
    rng = np.random.default_rng(0)
    large = rng.normal(0, 1, 500_000), rng.normal(1, 1, 500_000)
    small = tuple(rng.normal(mean, 1, 500).round(1) for mean in (0, 1))  # with ties

    print("500 000 ID and 500 000 OOD scores, seconds, and scikit-learn's time over ours")
    for name, ours, theirs in (
        ("auroc", metrics.auroc, _sklearn_auroc),
        ("fpr_at_tpr", metrics.fpr_at_tpr, _sklearn_fpr),
        ("aupr_out", metrics.aupr_out, _sklearn_aupr),
    ):
        _same(ours(*large), theirs(*large))
        _same(ours(*small), theirs(*small))
        own, other = _seconds(ours, *large), _seconds(theirs, *large)
        print(f"  {name:18} {own:8.3f} {other:8.3f} {other / own:8.1f}x")
    for figure in (metrics.fpr_at_ood_recall, metrics.aupr_in, metrics.autc, metrics.roc_curve, metrics.summary):
        print(f"  {figure.__name__:18} {_seconds(figure, *large):8.3f}")

    print("500 ID and 500 OOD scores with ties, seconds, and the loop's time over ours")
    _same(metrics.auroc(*small), _loop_auroc(*small))
    own, other = _seconds(metrics.auroc, *small), _seconds(_loop_auroc, *small)
    print(f"  {'auroc':18} {own:8.5f} {other:8.3f} {other / own:8.0f}x")

    print("1000 bootstrap resamples of 5000 ID and 5000 OOD scores, seconds")
    middle = large[0][:5000], large[1][:5000]
    for figure in (metrics.auroc, metrics.fpr_at_tpr):
        print(
            f"  {figure.__name__:18} {_seconds(lambda *s, figure=figure: metrics.bootstrap(figure, *s), *middle):8.3f}"
        )


def _sklearn_auroc(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    return float(roc_auc_score(*_labelled(id_scores, ood_scores)))


def _sklearn_aupr(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    return float(average_precision_score(*_labelled(id_scores, ood_scores)))


def _sklearn_fpr(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    is_ood, scores = _labelled(id_scores, ood_scores)
    fpr, tpr, _ = roc_curve(~is_ood, -scores, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95)])


def _labelled(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([False, True], [len(id_scores), len(ood_scores)]), np.concatenate([id_scores, ood_scores])


def _loop_auroc(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    wins = sum((ood > own) + (ood == own) / 2 for ood in ood_scores.tolist() for own in id_scores.tolist())
    return float(wins) / len(id_scores) / len(ood_scores)


def _same(own: float, other: float) -> None:
    assert math.isclose(own, other, abs_tol=1e-9), (own, other)


def _seconds(function: Callable[..., object], *samples: np.ndarray) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(*samples)
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
