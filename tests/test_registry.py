"""A new method is one file; a wrong name or parameter says what would be right."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
from annotated_types import Gt
from pydantic import ConfigDict

from vlm_ood.errors import ParameterError, UnknownNameError
from vlm_ood.registry import Registry


@dataclass(frozen=True)
class Thing:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    size: Annotated[float, Gt(0)] = 1.0


@pytest.fixture
def things() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing", "vlm_ood.detectors")
    registry.register("small")(Thing)
    return registry


def test_a_close_name_is_suggested(things: Registry[Thing]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown thing 'smal'; did you mean 'small'\? Known: small"):
        things.create("smal")
    with pytest.raises(UnknownNameError, match=r"unknown thing 'x'\. Known"):
        things.create("x")


def test_a_taken_name_is_refused(things: Registry[Thing]) -> None:
    with pytest.raises(ValueError, match=r"already registered by .*test_registry"):
        things.register("small")(Thing)


@pytest.mark.parametrize("parameters", [{"size": -1.0}, {"size": "wide"}, {"sise": 1.0}, {"name": "x"}, {"self": 1}])
def test_a_wrong_parameter_is_named_with_the_known_ones(things: Registry[Thing], parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=r"thing small: .*Its parameters: size\."):
        things.create("small", **parameters)


def test_parameters_are_read_from_plain_values(things: Registry[Thing]) -> None:
    assert things.create("small", size="2.5") == Thing(2.5)
    assert things.schema("small")["properties"]["size"]["exclusiveMinimum"] == 0
