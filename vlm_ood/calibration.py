"""From scores of ID images to a decision about one image: a threshold, and a p-value with a guarantee.

Only in-distribution (ID) scores are needed. Source of the guarantee: Vovk, Gammerman and Shafer, "Algorithmic Learning
in a Random World", 2005; for outliers, Bates et al., "Testing for Outliers with Conformal p-values", Ann. Statist.
51(1), 2023, arXiv 2104.08279.

Two scores of one image differ in their last bits: a matrix product adds up in another order when the batch has another
size. So an image counts as OOD only when its score is above the threshold by more than a tolerance, which is part of
the calibration. `tolerance_of` says how large it is and why.
"""

import math
import os
import warnings
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.special import betaincinv

from vlm_ood.errors import CalibrationWarning, InputError, ParameterError, StorageError, TaskError, UnknownNameError
from vlm_ood.io.files import write_bytes
from vlm_ood.metrics.samples import Sample, as_sample, count_for

Rule = Literal["empirical", "conformal"]
RULES: Final[tuple[Rule, ...]] = ("empirical", "conformal")
AUTO: Final = "auto"

OF_SPREAD: Final = 1e-3  # of the standard deviation of the ID scores
OF_SIZE: Final = 2.0**-20  # of the largest magnitude among them: eight units in the last place of fp32


@dataclass(frozen=True, eq=False)
class Calibration:
    """ID scores of one fitted detector, and the threshold that they give.

    Args:
        scores: (n,) of ID images, higher is more OOD; kept sorted, in fp64.
        keep: the share of ID images to accept, in (0, 1).
        rule: "empirical" or "conformal"; `calibrate` explains them.
        digest: of the fitted detector that the scores come from; "" binds to none.
        tolerance: by how much a score must exceed another one to count as larger, in units of the scores; not
            negative. `calibrate` takes it from the scores; 0 compares them to the last bit.

    Raises:
        VectorError: scores that are not finite, or none.
        ParameterError, UnknownNameError: a `keep`, a `rule` or a `tolerance` that doesn't exist.
        TaskError: too few scores for the conformal rule.
    """

    scores: Float64[np.ndarray, " n"]
    keep: float = 0.95
    rule: str = "empirical"
    digest: str = ""
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        scores = np.sort(as_sample(self.scores, "ID scores"))
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)
        check_rule(self.rule)
        if not 0 <= self.tolerance < math.inf:
            raise ParameterError(f"tolerance={self.tolerance}: give a finite number that is not negative")
        needed = needed_images(self.keep)
        if self.rule == "conformal" and self.n < needed:
            raise TaskError(
                f"{self.n} ID images can't guarantee to keep {self.keep:.4g} of them: give {needed} or more, "
                "lower `keep`, or take the empirical rule"
            )

    @staticmethod
    def of(id_scores: Sample, keep: float = 0.95, digest: str = "", *, rule: str = AUTO) -> "Calibration":
        """What `calibrate` returns, without its warning: for programs that show `note` in their own way."""
        scores, keep = as_sample(id_scores, "ID scores"), float(keep)
        if rule == AUTO:
            rule = "conformal" if len(scores) >= needed_images(keep) else "empirical"
        return Calibration(scores, keep, rule, digest, tolerance_of(scores))

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
        """An image is OOD when its score is above this by more than `tolerance`; a tie is ID."""
        return float(self.scores[self.rank - 1])

    @property
    def note(self) -> str:
        """What to know about this calibration before it is relied on, in one sentence; empty when nothing is."""
        needed = needed_images(self.keep)
        if self.n >= needed:
            return ""
        return (
            f"{self.n} ID images are too few to guarantee that {100 * self.keep:.4g} % of new ones are kept: on "
            f"average {100 * self.rank / (self.n + 1):.3g} % will be; the guarantee needs {needed} images or more"
        )

    def is_ood(self, scores: Sample) -> Bool[np.ndarray, " m"]:
        """True where a score is above the threshold by more than the tolerance.

        Raises:
            VectorError: scores that are not finite.
        """
        return is_above(as_sample(scores, "scores", may_be_empty=True), self.threshold, self.tolerance)

    def p_values(self, scores: Sample) -> Float64[np.ndarray, " m"]:
        """Conformal p-values, (1 + the number of ID scores >= s) / (n + 1); small means OOD.

        For a fresh ID image exchangeable with those of the calibration, P(p <= a) <= a for every a, averaged over
        calibrations. ID scores that are less than s by the tolerance or less count as equal, which never lowers p.

        Under the conformal rule an image is OOD exactly when p <= 1 - keep, written just so in fp64: the decision is
        a comparison of counts, and where the quotient and the difference round to different sides of each other, p is
        the nearest number on the side of the decision.

        Raises:
            VectorError: scores that are not finite.
        """
        values = as_sample(scores, "scores", may_be_empty=True)
        below = np.searchsorted(self.scores, values - self.tolerance)
        p = (1 + self.n - below) / (self.n + 1)
        if self.rule == "empirical":
            return p
        largest_ood = 1 - self.keep
        return np.where(below >= self.rank, np.minimum(p, largest_ood), np.maximum(p, np.nextafter(largest_ood, 1)))

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
            tolerance=self.tolerance,
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
            calibration = Calibration(
                np.array(record.scores), record.keep, record.rule, record.digest, record.tolerance
            )
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


def calibrate(id_scores: Sample, keep: float = 0.95, digest: str = "", *, rule: str = AUTO) -> Calibration:
    """A threshold that accepts at least `keep` of ID images, from ID scores alone.

    Args:
        id_scores: (n,) of ID images, not used to fit the detector; higher is more OOD.
        keep: the share of ID images to accept, in (0, 1).
        digest: of the fitted detector (`fitted.digest`), so that no other can use the threshold; "" binds to none.
        rule: "conformal" takes the ceil((n + 1) * keep)-th smallest ID score: a fresh ID image, exchangeable with
            these, is rejected with a probability of at most 1 - keep. That needs `needed_images(keep)` images or more.
            "empirical" takes the smallest ID score that accepts at least `keep` of these very images, as
            `metrics.fpr_at_tpr` does; of fresh ones it keeps less, 0.83 on average with five images and a `keep` of
            0.95. "auto" is conformal where there are enough images, and else empirical, with a CalibrationWarning.

    Raises:
        VectorError: scores that are not finite, or none.
        ParameterError, UnknownNameError: a `keep` or a `rule` that doesn't exist.
        TaskError: too few scores for the conformal rule.
    """
    calibration = Calibration.of(id_scores, keep, digest, rule=rule)
    if rule == AUTO and calibration.note:
        warnings.warn(calibration.note, CalibrationWarning, stacklevel=2)
    return calibration


def is_above(scores: Float64[np.ndarray, " m"], threshold: float, tolerance: float) -> Bool[np.ndarray, " m"]:
    """Where a score is above the threshold by more than the tolerance: the one comparison that decides."""
    return scores - tolerance > threshold


def tolerance_of(scores: Sample) -> float:
    """By how much two scores of one image may differ, judged by scores of other images; in the units of the scores.

    It is the larger of 0.001 of their standard deviation and 2**-20 of their largest magnitude.

    Measured on a CPU in fp32, as the largest difference between the scores of one image in batches of 1 to 64, over
    every method, 2 to 1000 classes and 512 to 1024 dimensions, on random vectors, CLIP's, and photographs through
    two encoders. At default parameters it is at most 6.5e-5 of the standard deviation (negprompt, whose scores
    are near 8 and spread by 0.02; neglabel, which computes in fp64, 1e-6). With the parameters that leave
    least spread (temperature 100, scale 0.01) it reaches 8e-4 or, where the scores are large beside their spread, one
    unit in the last place, which is 2**-23 of the score. The first term has room for the former, the second for the
    latter and for scores without any spread. One image in ten thousand lies that near to a threshold.
    """
    values = np.sort(as_sample(scores, "scores"))  # sorted: a sum depends on its order
    largest = float(np.abs(values).max())
    if largest == 0:
        return 0.0
    return largest * max(OF_SPREAD * float((values / largest).std()), OF_SIZE)


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
    for known in RULES:
        if rule == known:
            return known
    raise UnknownNameError("calibration rule", rule, (*RULES, AUTO))


class _Record(BaseModel):
    """The file; `threshold` is there for programs that read nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal["vlm-ood calibration 1"]
    threshold: float
    keep: float
    rule: Rule
    digest: str
    tolerance: float = 0.0  # files of before it was stored compare to the last bit
    scores: list[float]


def _problem(error: ValidationError | InputError) -> str:
    """In one line, without the content."""
    if isinstance(error, InputError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
