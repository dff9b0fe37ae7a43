"""Types that several records share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Template = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Asked(BaseModel):
    """Something a caller sends: unknown fields are errors, so that a typing mistake can't pass for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Answered(BaseModel):
    """Something we send."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class Problem(Answered):
    """RFC 9457: what went wrong, for people (`detail`) and programs (`type`)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, Any]] | None = None
