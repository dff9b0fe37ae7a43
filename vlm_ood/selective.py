"""Accept, abstain or reject: one decision over both mistakes, a wrong class and an image that is OOD.

Source: Narasimhan, Menon, Jitkrittum and Kumar, "Plugin Estimators for Selective Classification with
Out-of-Distribution Detection" (SCOD), ICLR 2024, arXiv 2301.12386. Their Bayes rule turns an image away where

    (1 - c_in - c_out) (1 - max_y P(y | x)) + c_out P_out(x) / P_in(x) > c_in.

Here the three weights are the caller's costs, `wrong`, `accepted` and `rejected`: only their ratios count. The
probability of the nearest class stands for max_y P(y | x). The ratio of densities is estimated from ID images alone,
by the conformal p-value p of the OOD score: p^(k - 1), k in (0, 1), is proportional to a density of p that falls, which
bets on small p (Vovk and Wang, "E-values: Calibration, combination and applications", Ann. Statist. 49(3), 2021,
arXiv 1912.06116, with k = 1/2). It is scaled to 1 at p = 1 - keep: at the threshold of the calibration an image is
taken to be as likely OOD as ID. So an image whose class is certain is rejected where the calibration says OOD, as
long as `accepted` equals `rejected`.

An image is rejected where the OOD term alone exceeds the cost of turning it away, and abstained from where it does so
only together with the doubt about its class.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vlm_ood.errors import ParameterError

Action = Literal["accept", "abstain", "reject"]

ROOT: Final = 0.5  # k - 1 with the sign turned: the ratio falls with the root of p


@dataclass(frozen=True)
class Costs:
    """What each mistake costs; only the ratios count.

    Args:
        wrong: of an ID image that is accepted with a wrong class.
        rejected: of an ID image that is turned away, whether by "abstain" or by "reject".
        accepted: of an OOD image that is accepted, times how many OOD images come per ID image, relative to what the
            calibration's threshold supposes; None for the same as `rejected`.

    Raises:
        ParameterError: by `costs_from`, a cost that is negative, not finite or unknown.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    wrong: Annotated[float, Ge(0), Le(1e9)] = 1.0
    rejected: Annotated[float, Gt(0), Le(1e9)] = 0.5
    accepted: Annotated[float, Ge(0), Le(1e9)] | None = None

    @property
    def of_ood(self) -> float:
        """The cost of an OOD image that is accepted."""
        return self.rejected if self.accepted is None else self.accepted


_COSTS: Final = TypeAdapter(Costs)


def costs_from(text: str) -> Costs:
    """The costs in "wrong=1,rejected=0.5,accepted=2"; those left out have their defaults.

    Raises:
        ParameterError: a cost without "=", an unknown one, or one that is out of range.
    """
    given: dict[str, str] = {}
    for setting in text.split(","):
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or name in given:
            raise ParameterError(f"costs {setting.strip()!r}: give each once, as in wrong=1,rejected=0.5,accepted=2")
        given[name] = value
    try:
        return _COSTS.validate_python(given)
    except ValidationError as error:
        wrong = "; ".join(f"{each['loc'][0]}={each['input']!r}: {each['msg']}" for each in error.errors())
        raise ParameterError(f"costs {wrong}. There are wrong, rejected and accepted.") from None


def act(p_value: float, confidence: float, keep: float, costs: Costs) -> tuple[Action, str]:
    """What to do with an image, and one sentence why.

    Args:
        p_value: conformal p-value of its OOD score, in (0, 1].
        confidence: probability of its nearest class, in [0, 1].
        keep: share of ID images that the calibration keeps, in (0, 1).
        costs: of the mistakes.
    """
    doubt = costs.wrong * (1 - confidence)
    strange = costs.of_ood * ((1 - keep) / p_value) ** ROOT
    away = f"the cost of turning it away, {costs.rejected:.3g}"
    if strange > costs.rejected:
        return "reject", f"that it may be OOD costs {strange:.3g} and is alone above {away}"
    total = f"accepting costs {doubt + strange:.3g} (wrong class {doubt:.3g}, OOD {strange:.3g}) and is"
    if doubt + strange > costs.rejected:
        return "abstain", f"{total} above {away}"
    return "accept", f"{total} not above {away}"
