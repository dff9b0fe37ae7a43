"""The toy world that the detectors' tests share."""

import pytest

from tests.detectors.world import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    """Images that belong, strange ones, and a task with every part a method may need."""
    return make_world()
