"""From scores of images that belong to a decision about one image: a threshold, and a p-value with a guarantee.

Only in-distribution (ID) scores are needed. Source of the guarantee: Vovk, Gammerman and Shafer, "Algorithmic Learning
in a Random World", 2005; for outliers, Bates et al., "Testing for Outliers with Conformal p-values", Ann. Statist.
51(1), 2023, arXiv 2104.08279.
"""

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.special import betaincinv

from vlm_ood.errors import InputError, ParameterError, StorageError, TaskError, UnknownNameError
from vlm_ood.io.files import write_bytes
from vlm_ood.metrics.samples import Sample, as_sample, count_for

Rule = Literal["empirical", "conformal"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """ID scores of one fitted detector, and the threshold that they give.

    Args:
        scores: (n,) of ID images, higher is more OOD; kept sorted, in fp64.
        keep: the share of ID images to accept, in (0, 1).
        rule: "empirical" or "conformal", see `calibrate`.
        digest: of the fitted detector that the scores come from; "" binds to none.

    Raises:
        VectorError: scores that are not finite, or none.
        ParameterError, UnknownNameError: a `keep` or a `rule` that doesn't exist.
        TaskError: too few scores for the conformal rule.
    """

    scores: Float64[np.ndarray, " n"]
    keep: float = 0.95
    rule: str = "empirical"
    digest: str = ""

    def __post_init__(self) -> None:
        scores = np.sort(as_sample(self.scores, "ID scores"))
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)
        check_rule(self.rule)
        needed = needed_images(self.keep)
        if self.rule == "conformal" and self.n < needed:
            raise TaskError(
                f"{self.n} ID images can't guarantee to keep {self.keep:.4g} of them: give {needed} or more, "
                "lower `keep`, or take the empirical rule"
            )

    @property
    def n(self) -> int:
        """How many ID images."""
        return len(self.scores)

    @property
    def rank(self) -> int:
        """The threshold is the ID score of this rank, 1 being the smallest."""
        return count_for(self.keep, self.n + (self.rule == "conformal"), "keep")

    @cached_property
    def threshold(self) -> float:
        """An image is OOD when its score is above; a tie belongs."""
        return float(self.scores[self.rank - 1])

    def is_ood(self, scores: Sample) -> Bool[np.ndarray, " m"]:
        """True where a score is above the threshold.

        Raises:
            VectorError: scores that are not finite.
        """
        return as_sample(scores, "scores", may_be_empty=True) > self.threshold

    def p_values(self, scores: Sample) -> Float64[np.ndarray, " m"]:
        """Conformal p-values, (1 + the number of ID scores >= s) / (n + 1); small means OOD.

        For a fresh ID image exchangeable with those of the calibration, P(p <= a) <= a for every a, averaged over
        calibrations. Under the conformal rule an image is OOD exactly when p <= 1 - keep.

        Raises:
            VectorError: scores that are not finite.
        """
        below = np.searchsorted(self.scores, as_sample(scores, "scores", may_be_empty=True))
        return (1 + self.n - below) / (self.n + 1)

    def coverage_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Between which shares of all ID images this threshold will keep, with probability `level`.

        The share that the k-th smallest of n independent scores without ties keeps has the distribution
        Beta(k, n + 1 - k); ties keep more. These are its quantiles with equal tails.

        Raises:
            ParameterError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ParameterError(f"level={level}: give a level between 0 and 1")
        low, high = betaincinv(self.rank, self.n + 1 - self.rank, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def check(self, digest: str) -> None:
        """Raise a TaskError when this calibration was made for another fitted detector."""
        if self.digest and self.digest != digest:
            raise TaskError(
                f"the calibration was made for detector {self.digest[:12]}, this is {digest[:12]}: calibrate again; "
                "changing classes, templates, method, parameters or encoder makes a new detector"
            )

    def to_bytes(self) -> bytes:
        """The calibration as JSON; every score survives exactly."""
        record = _Record(
            format="vlm-ood calibration 1",
            threshold=self.threshold,
            keep=self.keep,
            rule=check_rule(self.rule),
            digest=self.digest,
            scores=self.scores.tolist(),
        )
        return record.model_dump_json().encode()

    @staticmethod
    def from_bytes(content: bytes, name: str = "the calibration") -> "Calibration":
        """What `to_bytes` gave.

        Raises:
            StorageError: something else; the message calls it by `name`.
        """
        try:
            record = _Record.model_validate_json(content)
            calibration = Calibration(np.array(record.scores), record.keep, record.rule, record.digest)
        except (ValidationError, InputError) as error:
            raise StorageError(f"{name} is damaged or no calibration: {_problem(error)}; calibrate again") from None
        if calibration.threshold != record.threshold:
            raise StorageError(f"{name}: the threshold doesn't follow from the scores: calibrate again")
        return calibration

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, whole or not at all.

        Raises:
            StorageError: the file can't be written.
        """
        write_bytes(path, self.to_bytes())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            StorageError: a file that can't be read, or that holds something else.
        """
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(f"no such file: {path}") from None
        except OSError as error:
            raise StorageError(f"{path} can't be read: {error.strerror or error}") from None
        return Calibration.from_bytes(content, str(path))


def calibrate(id_scores: Sample, keep: float = 0.95, digest: str = "", *, rule: str = "empirical") -> Calibration:
    """A threshold that accepts at least `keep` of ID images, from ID scores alone.

    Args:
        id_scores: (n,) of images that belong, not used to fit the detector; higher is more OOD.
        keep: the share of ID images to accept, in (0, 1).
        digest: of the fitted detector (`fitted.digest`), so that no other can use the threshold; "" binds to none.
        rule: "empirical", the default since it works with any number of images, takes the smallest ID score that
            accepts at least `keep` of these very images, as `metrics.fpr_at_tpr` does; of fresh ones it may keep less.
            "conformal" takes the ceil((n + 1) * keep)-th smallest: a fresh ID image, exchangeable with these, is
            rejected with a probability of at most 1 - keep. That needs `needed_images(keep)` images or more.

    Raises:
        VectorError: scores that are not finite, or none.
        ParameterError, UnknownNameError: a `keep` or a `rule` that doesn't exist.
        TaskError: too few scores for the conformal rule.
    """
    return Calibration(as_sample(id_scores, "ID scores"), float(keep), rule, digest)


def needed_images(keep: float) -> int:
    """The fewest ID images with which the conformal rule can keep this share: 19 for 0.95, 99 for 0.99.

    Raises:
        ParameterError: `keep` outside (0, 1).
    """
    if not 0 < keep < 1:
        raise ParameterError(f"keep={keep}: give a share between 0 and 1; no number of images guarantees all of them")
    share = Fraction(str(float(keep)))
    return math.ceil(share / (1 - share))


def check_rule(rule: str) -> Rule:
    """The rule, known to exist.

    Raises:
        UnknownNameError: it doesn't.
    """
    for known in get_args(Rule):
        if rule == known:
            return known  # type: ignore[no-any-return]
    raise UnknownNameError("calibration rule", rule, get_args(Rule))


class _Record(BaseModel):
    """The file; `threshold` is there for programs that read nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal["vlm-ood calibration 1"]
    threshold: float
    keep: float
    rule: Rule
    digest: str
    scores: list[float]


def _problem(error: ValidationError | InputError) -> str:
    """In one line, without the content."""
    if isinstance(error, InputError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
