"""Contracts of every registered detector: its digest, and results after save, load and slicing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.calibration import Calibration
from vlm_ood.detectors import FittedDetector, describe
from vlm_ood.io.vectors import load_bank, load_features, save_bank, save_features

pytestmark = pytest.mark.parametrize("name", vo.detector_names())


def fitted(name: str, task: vo.Task, **parameters: object) -> FittedDetector[Any]:
    return vo.create_detector(name, **parameters).fit(task)


def reloaded(task: vo.Task, folder: Path) -> vo.Task:
    """The task from files, its parts named otherwise than here."""
    negatives, no, support = parts_of(task)
    for file, bank in (("a", task.classes), ("b", negatives), ("c", no)):
        save_bank(folder / f"{file}.safetensors", bank)
    save_features(folder / "d.safetensors", support.features, labels=support.labels)
    stored = load_features(folder / "d.safetensors")
    assert stored.labels is not None
    classes, negatives, no = (load_bank(folder / f"{file}.safetensors") for file in "abc")
    return vo.Task(classes, negatives, no, vo.Support(stored.features, stored.labels), task.background)


def changed(values: torch.Tensor) -> torch.Tensor:
    """The vectors with the first two numbers of the last row exchanged."""
    other = values.clone()
    other[-1, ..., [0, 1]] = values[-1, ..., [1, 0]]
    return other


def other_bank(bank: vo.TextBank) -> vo.TextBank:
    return vo.TextBank(bank.names, changed(bank.embeddings))


def renamed(bank: vo.TextBank) -> vo.TextBank:
    return vo.TextBank((*bank.names[:-1], "another name"), bank.embeddings)


def other_value(schema: dict[str, Any]) -> Any:
    """A value that the parameter may have and doesn't by default."""
    default = schema["default"]
    options = schema.get("anyOf", [schema])
    choices = [value for option in options for value in option.get("enum", [])]
    if choices:
        return next(value for value in choices if value != default)
    if isinstance(default, bool):
        return not default
    if default is None:
        return 1
    return max(default / 2, (default + schema.get("minimum", 0)) / 2) if isinstance(default, float) else default + 1


def test_state_survives_save_and_load_to_the_last_bit(name: str, world: World, tmp_path: Path) -> None:
    before, after = fitted(name, world.task), fitted(name, reloaded(world.task, tmp_path))
    save_features(tmp_path / "images.safetensors", world.id_images)
    images = load_features(tmp_path / "images.safetensors").features
    calibration = Calibration.of(before.score(world.id_images), digest=before.digest)
    calibration.save(tmp_path / "calibration.json")

    assert after.digest == before.digest
    assert torch.equal(after.score(images), before.score(world.id_images))
    assert after.pulled_out_by(images) == before.pulled_out_by(world.id_images)
    own, own_before = after.decide(images), before.decide(world.id_images)
    assert (own is None) == (own_before is None)
    assert own is None or own_before is None or torch.equal(own, own_before)
    loaded = Calibration.load(tmp_path / "calibration.json")
    loaded.check(after.digest)
    assert loaded.p_values(after.score(images)).tolist() == calibration.p_values(before.score(world.id_images)).tolist()


def test_slicing_joining_and_copying_change_no_bit_of_a_score(name: str, world: World, tmp_path: Path) -> None:
    detector, images = fitted(name, world.task), world.id_images
    scores = detector.score(images)

    everything = list(range(len(images)))
    for same in (
        images[:],
        images[everything],
        images[torch.tensor(everything)],
        images[list(reversed(everything))][list(reversed(everything))],
        vo.ImageFeatures.concatenate([images[:5], images[5:]]),
        vo.ImageFeatures(images.pooled, images.patches, images.grid),
        images.to("cpu"),
    ):
        assert torch.equal(detector.score(same), scores)
    for part in (images[3:20], images[[3]]):
        save_features(tmp_path / "part.safetensors", part)
        again = load_features(tmp_path / "part.safetensors").features
        assert torch.equal(detector.score(again), detector.score(part))


def test_digest_changes_with_every_parameter(name: str, world: World) -> None:
    properties: dict[str, dict[str, Any]] = describe(name)["parameters"].get("properties", {})
    digests = [fitted(name, world.task).digest]

    digests += [
        fitted(name, world.task, **{parameter: other_value(schema)}).digest for parameter, schema in properties.items()
    ]

    assert len(set(digests)) == 1 + len(properties)


def test_digest_changes_with_every_part_of_the_task(name: str, world: World) -> None:
    task = world.task
    negatives, no, support = parts_of(task)
    patches = support.features.patches
    assert patches is not None
    assert task.ordinary is not None
    labels = support.labels.clone()
    labels[0] = (labels[0] + 1) % len(task.classes)
    other_pooled = vo.ImageFeatures(changed(support.features.pooled), patches, support.features.grid)
    other_patches = vo.ImageFeatures(support.features.pooled, changed(patches), support.features.grid)
    tasks = [
        task,
        *(replace(task, classes=each) for each in (other_bank(task.classes), renamed(task.classes))),
        *(replace(task, negatives=each) for each in (other_bank(negatives), renamed(negatives))),
        *(replace(task, no=each) for each in (other_bank(no), renamed(no))),
        *(replace(task, support=replace(support, features=each)) for each in (other_pooled, other_patches)),
        replace(task, support=replace(support, labels=labels)),
        replace(task, classes=task.classes.take([1, 0, *range(2, len(task.classes))])),
        replace(task, background=None),
        replace(task, background=changed(task.ordinary.images[None])[0]),
        replace(task, background=vo.Background(task.ordinary.images, words=task.ordinary.images)),
    ]

    assert len({fitted(name, each).digest for each in tasks}) == len(tasks)


def test_digest_changes_with_nothing_else(name: str, world: World) -> None:
    task = world.task
    negatives, no, support = parts_of(task)
    detector = fitted(name, task)
    before = detector.digest
    defaults = {key: schema["default"] for key, schema in describe(name)["parameters"].get("properties", {}).items()}
    copies: list[Callable[[torch.Tensor], torch.Tensor]] = [
        torch.clone,
        lambda rows: rows.T.contiguous().T,  # the same numbers in another order of memory
        lambda rows: rows.double(),
    ]

    assert fitted(name, task, **dict(reversed(defaults.items()))).digest == before
    whole = {key: int(value) for key, value in defaults.items() if isinstance(value, float) and value.is_integer()}
    assert fitted(name, task, **whole).digest == before
    for copy in copies:
        banks = (vo.TextBank(bank.names, copy(bank.embeddings)) for bank in (task.classes, negatives, no))
        classes, other_negatives, other_no = banks
        labels = support.labels.to(torch.int32)
        same = vo.Task(classes, other_negatives, other_no, vo.Support(support.features[:], labels), task.background)
        assert fitted(name, same).digest == before
    detector.score(world.id_images)
    assert fitted(name, task).digest == detector.digest == before
