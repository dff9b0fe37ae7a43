import pytest
import torch

from vlm_ood.detectors import detector_names
from vlm_ood.detectors.mcm import MCM
from vlm_ood.errors import ParameterError, UnknownNameError
from vlm_ood.evaluation.methods import available_methods, parse_method
from vlm_ood.types import ImageFeatures, Support, Task, TextBank

TASK = Task(TextBank(("a", "b"), torch.eye(2)))


def test_parameters_follow_the_name() -> None:
    assert parse_method("mcm") == MCM()
    assert parse_method("mcm:temperature=0.5") == MCM(temperature=0.5)
    assert parse_method(" mcm : temperature = 0.5 ") == MCM(temperature=0.5)


@pytest.mark.parametrize("given", ["mcm:temperature", "mcm:temperature=0", "mcm:temperature=warm", "mcm:heat=1"])
def test_a_wrong_parameter_is_an_error(given: str) -> None:
    with pytest.raises(ParameterError):
        parse_method(given)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mcm'"):
        parse_method("mcmm")


def test_every_registered_method_is_either_available_or_skipped_with_a_reason() -> None:
    methods, skipped = available_methods(TASK)

    assert sorted([*methods, *skipped]) == detector_names()
    assert "mcm" in methods
    assert skipped["neglabel"] == "needs negatives"
    assert skipped["gl_mcm"] == "needs patches"
    assert all(detector.fit(TASK) for detector in methods.values())


def test_what_the_task_has_makes_methods_available() -> None:
    task = Task(TASK.classes, negatives=TextBank(("n", "m"), -torch.eye(2)))

    methods, _ = available_methods(task, frozenset({"patches"}))

    assert {"neglabel", "gl_mcm"} <= set(methods)


def test_methods_that_compare_classes_are_skipped_for_one_class() -> None:
    methods, skipped = available_methods(Task(TextBank(("a",), torch.eye(1))))

    assert "max_cosine" in methods
    assert skipped["mcm"] == "needs at least 2 classes"


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_whatever_the_number_of_labelled_images_every_available_method_can_be_fitted(count: int) -> None:
    features = torch.randn(count, 2, generator=torch.Generator().manual_seed(count))
    task = Task(TASK.classes, support=Support(ImageFeatures(features), torch.arange(count) % 2))

    methods, skipped = available_methods(task)

    assert all(detector.fit(task) for detector in methods.values())
    assert "knn" in methods
    assert ("react" in methods) == (count >= 16)
    assert count > 1 or "needs at least 2 labelled images, got 1" in skipped["vim"]
