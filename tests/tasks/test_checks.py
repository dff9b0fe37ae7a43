"""Impossible tasks are refused before any work; the error is worded for the caller's interface."""

import pytest

from vlm_ood.detectors import create_detector, detector_names, registry
from vlm_ood.errors import ClassNamesError, TaskError
from vlm_ood.tasks import PARTS, DetectorSpec, MinedBank, StoredSupport, TaskSpec, TemplateBank, check, check_methods

PETS = TemplateBank(("cat", "dog"))
FLAGS = {part: f"--{part} FILE" for part in PARTS}


def test_a_missing_part_is_named_as_the_caller_gives_it() -> None:
    with pytest.raises(TaskError, match="neglabel needs negatives: give --negatives FILE"):
        check(DetectorSpec("neglabel", TaskSpec(PETS)), FLAGS)
    with pytest.raises(TaskError, match=r"clipn needs negated prompts: give no=vo\.no_bank"):
        check(DetectorSpec("clipn", TaskSpec(PETS)))


@pytest.mark.parametrize(
    ("part", "title"), [("negatives", "negatives"), ("no", "negated prompts"), ("support", "labelled images")]
)
def test_a_part_that_nothing_reads_is_refused(part: str, title: str) -> None:
    given = {"negatives": MinedBank(), "no": PETS, "support": StoredSupport("x")}[part]
    with pytest.raises(TaskError, match=f"mcm does not read {title}: leave out --{part} FILE"):
        check(DetectorSpec("mcm", TaskSpec(PETS, **{part: given})), FLAGS)  # type: ignore[arg-type]


def test_methods_that_read_the_part_are_named() -> None:
    with pytest.raises(TaskError, match="or choose adjusted_energy or neglabel or negprompt"):
        check(DetectorSpec("mcm", TaskSpec(PETS, negatives=MinedBank())))


def test_one_of_several_methods_is_enough_to_read_a_part() -> None:
    mcm, neglabel = create_detector("mcm"), create_detector("neglabel")
    check_methods([mcm, neglabel], TaskSpec(PETS, negatives=MinedBank()))
    with pytest.raises(TaskError, match="neglabel needs negatives"):
        check_methods([mcm, neglabel], TaskSpec(PETS))
    with pytest.raises(TaskError, match="mcm and neglabel do not read negated prompts"):
        check_methods([mcm, neglabel], TaskSpec(PETS, negatives=MinedBank(), no=PETS))


def test_every_part_is_read_by_one_of_all_methods() -> None:
    check_methods([], TaskSpec(PETS, negatives=MinedBank(), no=PETS, support=StoredSupport("x")))
    assert set().union(*(registry.get(name).reads() for name in detector_names())) >= set(PARTS)


def test_too_few_names_are_known_before_they_are_encoded() -> None:
    with pytest.raises(ClassNamesError, match="at least 2 classes, got 1"):
        check(DetectorSpec("mcm", TaskSpec(TemplateBank(("cat",)))))
    check(DetectorSpec("max_cosine", TaskSpec(TemplateBank(("cat",)))))
