"""Specs survive JSON, and their digest is that of their content, wherever it is stored."""

import json
from dataclasses import replace
from typing import Any

import pytest

from vlm_ood.digests import digest_of
from vlm_ood.errors import ClassNamesError, InputError, ParameterError, TemplateError, UnknownNameError
from vlm_ood.tasks import (
    BankSpec,
    DetectorSpec,
    MinedBank,
    NoTowerBank,
    StoredBank,
    StoredSupport,
    TaskSpec,
    TemplateBank,
    bank_from_plain,
    bank_to_plain,
)

PETS = TemplateBank(("cat", "dog"))

BANKS: list[BankSpec] = [
    PETS,
    TemplateBank(("cat",), ("a {}.", "the {}.")),
    MinedBank(),
    MinedBank(words=("sofa", "lamp"), keep=0.5, under=("animal.n.01",), templates=("my {}",), classes=PETS),
    NoTowerBank("tower.safetensors", names=("cat",)),
    StoredBank("bank.safetensors", "abc"),
]


@pytest.mark.parametrize("bank", BANKS, ids=lambda bank: bank.kind)
def test_a_bank_survives_json(bank: BankSpec) -> None:
    assert bank_from_plain(json.loads(json.dumps(bank_to_plain(bank)))) == bank


def test_a_detector_survives_json() -> None:
    task = TaskSpec(PETS, "embedded", MinedBank(), TemplateBank(("cat", "dog"), "nice"), StoredSupport("sup", "d"))
    spec = DetectorSpec("mcm", task, {"temperature": 0.5})
    again = DetectorSpec.from_plain(json.loads(json.dumps(spec.plain())))
    assert again == spec
    assert again.digest == spec.digest


def test_defaults_are_written_out() -> None:
    assert DetectorSpec("mcm", TaskSpec(PETS)).parameters == {"temperature": 1.0}
    assert DetectorSpec("mcm", TaskSpec(PETS)).digest == DetectorSpec("mcm", TaskSpec(PETS), {"temperature": 1}).digest


def test_names_are_cleaned_before_they_count() -> None:
    assert TemplateBank((" cat ", "dog")) == PETS


CHANGES: list[dict[str, Any]] = [
    {"classes": TemplateBank(("dog", "cat"))},
    {"classes": TemplateBank(("cat", "dog"), "nice")},
    {"classes": StoredBank("x", "abc")},
    {"classes": StoredBank("x", "abe")},
    {"encoder": "other"},
    {"negatives": MinedBank()},
    {"negatives": MinedBank(keep=0.2)},
    {"negatives": MinedBank(words=("sofa",))},
    {"negatives": MinedBank(classes=PETS)},
    {"no": PETS},
    {"support": StoredSupport("x", "abc")},
    {"support": StoredSupport("x", "abe")},
]


def test_every_ingredient_changes_the_digest() -> None:
    base = TaskSpec(PETS, "embedded")
    specs = [DetectorSpec("mcm", base), DetectorSpec("msp", base), DetectorSpec("mcm", base, {"temperature": 2})]
    specs += [DetectorSpec("mcm", replace(base, **change)) for change in CHANGES]
    assert len({spec.digest for spec in specs}) == len(specs)


def test_an_option_that_a_later_version_adds_changes_no_digest() -> None:
    """Such an option has a default under which all is as before; the digest of a stored detector must find it again."""
    kept = DetectorSpec("neglabel", TaskSpec(PETS, "e", MinedBank(keep=0.2)), {"groups": 5})
    content = {
        "method": "neglabel",
        "parameters": {"groups": 5},
        "task": {
            "encoder": "e",
            "classes": {"kind": "templates", "names": ["cat", "dog"]},
            "negatives": {"kind": "mined", "keep": 0.2},
        },
    }
    assert kept.digest == digest_of("detector", content)


def test_where_a_part_is_stored_does_not_count() -> None:
    one, other = (DetectorSpec("mcm", TaskSpec(StoredBank(source, "abc"))) for source in ("here", "there"))
    assert one.digest == other.digest
    assert (
        DetectorSpec("mcm", TaskSpec(StoredBank("here"))).digest
        != DetectorSpec("mcm", TaskSpec(StoredBank("there"))).digest
    )


def test_a_family_is_all_but_the_classes() -> None:
    one, other = (DetectorSpec("mcm", TaskSpec(TemplateBank(names), "e")) for names in (("cat", "dog"), ("cat", "car")))
    assert one.family == other.family
    assert one.family != DetectorSpec("mcm", TaskSpec(PETS, "f")).family


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: TemplateBank(()), ClassNamesError),
        (lambda: TemplateBank(("cat", "cat")), ClassNamesError),
        (lambda: TemplateBank(("cat",), ("no place",)), TemplateError),
        (lambda: TemplateBank(("cat",), "no such set"), UnknownNameError),
        (lambda: MinedBank(recipe="no such"), UnknownNameError),
        (lambda: DetectorSpec("no such", TaskSpec(PETS)), UnknownNameError),
        (lambda: DetectorSpec("mcm", TaskSpec(PETS), {"temperature": -1}), ParameterError),
        (lambda: bank_from_plain({"kind": "no such"}), InputError),
        (lambda: bank_from_plain({"kind": "mined", "colour": "red"}), InputError),
        (lambda: bank_from_plain({"kind": "templates"}), InputError),
        (lambda: bank_from_plain({"kind": "stored", "digest": "abc"}), InputError),
        (lambda: TaskSpec.from_plain({"encoder": "e"}), InputError),
    ],
)
def test_what_can_not_be_used_is_refused_when_it_is_made(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()
