"""Records can't be changed after they were checked and their digests taken."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import service
import vlm_ood
from tests.detectors.world import make_world
from vlm_ood.calibration import Calibration

# What is filled or counted while a piece of work goes on, and errors, to which Python attaches a traceback.
CHANGING = {
    "vlm_ood.client.files.Batch",
    "service.caching.flight._Shared",
    "service.engine.records.Timings",
    "service.engine.decoding.base.Picture",
    "service.security.bodies.BodyLimits",
    "service.security.charges.Account",
}


def records() -> Iterator[type]:
    for package in (vlm_ood, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Scheduling moves its items along; migrations and programs run when they are imported.
            if "migrations" in module.name or "schedule" in module.name or module.name.endswith("__main__"):
                continue
            for found in vars(importlib.import_module(module.name)).values():
                if isinstance(found, type) and found.__module__ == module.name and dataclasses.is_dataclass(found):
                    yield found


def test_records_are_frozen() -> None:
    found = list(records())
    assert len(found) > 100
    changing = {
        f"{each.__module__}.{each.__name__}"
        for each in found
        if not issubclass(each, Exception) and not each.__dataclass_params__.frozen  # type: ignore[attr-defined]
    }
    assert changing <= CHANGING


@pytest.mark.parametrize("name", ["digest", "threshold", "scores", "tolerance"])
def test_a_calibration_can_not_be_moved(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Calibration.of([1.0, 2.0]), name, "another")


@pytest.mark.parametrize("name", vlm_ood.detector_names())
def test_a_fitted_detector_can_not_be_changed_under_its_digest(name: str) -> None:
    world = make_world(2)
    fitted = vlm_ood.create_detector(name).fit(world.task)
    for record in (fitted, fitted.detector, fitted.task, fitted.task.classes, world.id_images):
        for field in dataclasses.fields(record):
            with pytest.raises(AttributeError):
                setattr(record, field.name, None)
