"""Contracts of every registered detector: what it reads, and that a result does not depend on other images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vlm_ood as vo
from tests.detectors.world import World, make_world, parts_of
from vlm_ood.calibration import tolerance_of
from vlm_ood.detectors import FittedDetector, describe, registry
from vlm_ood.errors import VectorError
from vlm_ood.io.files import write_tensors
from vlm_ood.io.vectors import load_features, pack_features

pytestmark = pytest.mark.parametrize("name", vo.detector_names())

SOFT = {"temperature": 0.5, "scale": 3.0}  # probabilities that stay away from 0 and 1


def softened(name: str) -> dict[str, Any]:
    known = describe(name)["parameters"].get("properties", {})
    return {key: value for key, value in SOFT.items() if key in known}


def fitted(name: str, task: vo.Task, **parameters: object) -> FittedDetector[Any]:
    return vo.create_detector(name, **parameters).fit(task)


def scores_of(name: str, task: vo.Task, images: vo.ImageFeatures) -> Tensor:
    return fitted(name, task).score(images)


def mixed(world: World) -> vo.ImageFeatures:
    return vo.ImageFeatures.concatenate([world.id_images[:8], world.ood_images[:8]])


def mirrored(rows: Tensor) -> Tensor:
    """Other vectors of the same kind: every row with its numbers in reverse."""
    return rows.flip(-1)


def other_bank(bank: vo.TextBank) -> vo.TextBank:
    return vo.TextBank(bank.names, mirrored(bank.embeddings))


def other_support(task: vo.Task, **changes: Any) -> vo.Task:
    return replace(task, support=replace(parts_of(task)[2], **changes))


def test_every_part_that_it_reads_counts_and_no_other(name: str, world: World) -> None:
    task, images = world.task, mixed(world)
    negatives, no, support = parts_of(task)
    assert task.ordinary is not None
    before = scores_of(name, task, images)
    labels = (support.labels + 1) % len(task.classes)
    others = {
        "negatives": [replace(task, negatives=other_bank(negatives))],
        "no": [replace(task, no=other_bank(no))],
        "support": [
            other_support(task, features=vo.ImageFeatures(mirrored(support.features.pooled))),
            other_support(task, labels=labels),
        ],
        "background": [replace(task, background=mirrored(task.ordinary.images))],
    }
    cls = registry.get(name)
    if "background" in cls.reads():  # labelled images may be read in its place
        others["background"] = [replace(each, support=None) for each in (task, *others["background"])]

    other_classes = scores_of(name, replace(task, classes=other_bank(task.classes)), images)
    assert torch.equal(other_classes, before) is not cls.reads_classes
    assert cls.reads() <= others.keys()
    for part, tasks in others.items():
        scores = [scores_of(name, each, images) for each in tasks]
        first = scores[0] if part == "background" and len(tasks) == 2 else before
        assert any(not torch.equal(each, first) for each in scores) == (part in cls.reads()), part
    for part in others.keys() - cls.needs:
        without: dict[str, Any] = {part: None}
        assert scores_of(name, replace(task, **without), images).isfinite().all()


def test_every_output_that_it_asks_for_is_read_and_no_other(name: str, world: World) -> None:
    images = mixed(world)
    assert images.patches is not None
    detector = fitted(name, world.task)
    before = detector.score(images)
    other_patches = vo.ImageFeatures(images.pooled, mirrored(images.patches), images.grid)
    other_pooled = vo.ImageFeatures(mirrored(images.pooled), images.patches, images.grid)

    assert torch.equal(detector.score(other_patches), before) is not detector.detector.outputs.patches
    if not detector.detector.outputs.patches:
        assert not torch.equal(detector.score(other_pooled), before)


@pytest.mark.parametrize("scale", [3.0, 100.0])
def test_names_and_probabilities_are_those_of_the_image_alone(name: str, scale: float, world: World) -> None:
    detector, images = fitted(name, world.task, **softened(name)), mixed(world)
    classes = len(world.task.classes)

    together = detector.nearest(images, top=classes, scale=scale)
    pulled = detector.pulled_out_by(images, top=5)

    cosine = images.pooled.double() @ world.task.classes.embeddings.double().T
    expected = (scale * cosine).softmax(dim=1)
    for row in range(len(images)):
        alone = images[[row]]
        assert_same_names(detector.nearest(alone, top=classes, scale=scale)[0], together[row])
        assert_same_names(detector.pulled_out_by(alone, top=5)[0], pulled[row])
        assert sum(share for _, share in together[row]) == pytest.approx(1)
        by_name = dict(together[row])
        assert [by_name[each] for each in world.task.classes.names] == pytest.approx(expected[row].tolist(), abs=1e-5)
        assert 0 <= sum(share for _, share in pulled[row]) <= 1 + 1e-6


def assert_same_names(named: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [word for word, _ in named] == [word for word, _ in expected]
    assert [share for _, share in named] == pytest.approx([share for _, share in expected], rel=1e-4, abs=1e-7)


def test_scores_and_decisions_do_not_depend_on_the_size_of_the_batch(name: str) -> None:
    """Within the tolerance that calibrations take from the scores."""
    world = make_world(64, dim=512)
    detector = fitted(name, world.task)
    together, own = detector.score(world.id_images), detector.decide(world.id_images)

    for size in (1, 3, 16, 48):
        batches = [world.id_images[start : start + size] for start in range(0, 64, size)]
        scores = torch.cat([detector.score(batch) for batch in batches])
        assert (scores - together).abs().max().item() <= tolerance_of(together)
        for batch, start in zip(batches, range(0, 64, size), strict=True):
            decided = detector.decide(batch)
            assert (decided is None) == (own is None)
            assert decided is None or own is None or torch.equal(decided, own[start : start + size])


@pytest.mark.parametrize("where", ["features", "patches"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_an_unusable_image_is_an_error_of_its_own(
    name: str, where: str, value: float, world: World, tmp_path: Path
) -> None:
    packed = {key: tensor.clone() for key, tensor in pack_features(world.id_images[:6]).items()}
    packed[where][2] = value
    write_tensors(tmp_path / "images.safetensors", packed)
    detector = fitted(name, world.task)

    stored = load_features(tmp_path / "images.safetensors")

    assert stored.rows == (0, 1, 3, 4, 5)
    assert list(stored.errors) == [2]
    assert torch.equal(detector.score(stored.features), detector.score(world.id_images[[0, 1, 3, 4, 5]]))
    with pytest.raises(VectorError, match=r"1 of 6 rows .* \(rows 2\)"):
        vo.ImageFeatures(packed["features"], packed["patches"], world.id_images.grid)
