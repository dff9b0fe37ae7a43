"""Contracts of every registered detector; none is named here, so a new method is tested without a change."""

import pickle
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import vlm_ood as vo
from tests.detectors.world import CLASSES, DIM, World, make_world
from vlm_ood.detectors import Evidence, FittedDetector, describe, registry
from vlm_ood.errors import CapabilityError, ClassNamesError, ParameterError, TaskError, VectorError

pytestmark = pytest.mark.parametrize("name", vo.detector_names())

BOUNDS = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "enum", "const"}


def fitted(name: str, world: World) -> FittedDetector[Any]:
    return vo.create_detector(name).fit(world.task)


def mixed(world: World) -> vo.ImageFeatures:
    """ID images first, OOD images after."""
    return vo.ImageFeatures.concatenate([world.id_images[:32], world.ood_images[:32]])


def assert_close(scores: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """To a share of the spread of the expected scores."""
    spread = (expected.max() - expected.min()).item()
    assert (scores - expected).abs().max().item() <= tolerance * spread


def tensors(task: vo.Task, images: vo.ImageFeatures) -> list[Tensor]:
    assert task.negatives is not None
    assert task.no is not None
    assert task.support is not None
    features = [images, task.support.features]
    banks = [task.classes, task.negatives, task.no]
    seen = [part for item in features for part in (item.pooled, item.patches) if part is not None]
    return [*seen, *(bank.embeddings for bank in banks), task.support.labels]


def properties(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = describe(name)["parameters"].get("properties", {})
    return found


def test_ood_images_score_above_id_images(name: str, world: World) -> None:
    detector = fitted(name, world)
    id_scores, ood_scores = detector.score(world.id_images), detector.score(world.ood_images)

    above = (ood_scores[:, None] > id_scores[None, :]).float().mean().item()

    assert above > 0.95


@pytest.mark.parametrize("n", [1, 2, 64])
def test_gives_one_finite_fp32_score_an_image(name: str, n: int, world: World) -> None:
    scores = fitted(name, world).score(mixed(world)[:n])

    assert scores.shape == (n,)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


def test_scores_are_finite_at_the_ends_of_what_an_image_can_be(name: str, world: World) -> None:
    classes = world.task.classes.embeddings
    nowhere = torch.linalg.qr(torch.cat([classes, torch.eye(DIM)]).T)[0].T[CLASSES]  # orthogonal to every class
    extreme = torch.stack([classes[0], -classes[0], classes.sum(0), -classes.sum(0), nowhere])
    images = vo.ImageFeatures(extreme, extreme.unsqueeze(1), (1, 1))

    assert fitted(name, world).score(images).isfinite().all()


def test_score_does_not_depend_on_the_rest_of_the_batch(name: str, world: World) -> None:
    detector, images = fitted(name, world), mixed(world)
    together = detector.score(images)

    alone = torch.cat([detector.score(images[row : row + 1]) for row in range(len(images))])
    backwards = detector.score(images[list(range(len(images)))[::-1]]).flip(0)

    assert_close(alone, together)
    assert_close(backwards, together)


def test_inputs_stay_as_they_are(name: str, world: World) -> None:
    images, task = mixed(world), world.task
    before = [tensor.clone() for tensor in tensors(task, images)]

    detector = vo.create_detector(name).fit(task)
    detector.score(images)
    detector.decide(images)
    detector.pulled_out_by(images)

    assert all(map(torch.equal, tensors(task, images), before))


def test_global_random_state_stays_as_it_is(name: str, world: World) -> None:
    torch_before, numpy_before = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002

    detector = fitted(name, world)
    detector.score(world.id_images)
    detector.decide(world.id_images)

    assert torch.equal(torch_before, torch.get_rng_state())
    assert numpy_before == repr(np.random.get_state())  # noqa: NPY002


def test_fitting_twice_gives_the_same_detector(name: str, world: World) -> None:
    first, second = fitted(name, world), fitted(name, world)

    assert torch.equal(first.score(world.id_images), second.score(world.id_images))
    assert first.digest == second.digest


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(CLASSES)))
def test_order_of_the_classes_does_not_matter(name: str, order: list[int], world: World) -> None:
    task = world.task
    assert task.no is not None
    assert task.support is not None
    place = torch.tensor(order).argsort()
    shuffled = replace(
        task,
        classes=task.classes.take(order),
        no=task.no.take(order),
        support=replace(task.support, labels=place[task.support.labels]),
    )
    images = mixed(world)

    assert_close(vo.create_detector(name).fit(shuffled).score(images), fitted(name, world).score(images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_vectors_of_other_precision_are_scored_in_fp32(name: str, dtype: torch.dtype, world: World) -> None:
    images = mixed(world)
    assert images.patches is not None
    rounded = vo.ImageFeatures(images.pooled.to(dtype), images.patches.to(dtype), images.grid)
    widened = vo.ImageFeatures(images.pooled.to(dtype).float(), images.patches.to(dtype).float(), images.grid)
    detector = fitted(name, world)

    scores = detector.score(rounded)

    assert scores.dtype == torch.float32
    assert_close(scores, detector.score(widened))


def test_decision_is_none_or_one_bool_an_image(name: str, world: World) -> None:
    decision = fitted(name, world).decide(mixed(world))

    assert decision is None or (decision.dtype == torch.bool and decision.shape == (64,))


def test_names_that_pull_an_image_out_come_from_a_bank_with_probabilities(name: str, world: World) -> None:
    assert world.task.negatives is not None
    assert world.task.no is not None
    known = {*world.task.negatives.names, *world.task.no.names}

    pulled = fitted(name, world).pulled_out_by(mixed(world), top=3)

    assert len(pulled) == 64
    for entry in pulled:
        assert {word.removeprefix("no ") for word, _ in entry} <= known
        assert [value for _, value in entry] == sorted((value for _, value in entry), reverse=True)
        assert all(0 <= value <= 1 for _, value in entry)


def test_evidence_is_what_score_rule_and_names_say_and_its_rows_can_be_cut_and_joined(name: str, world: World) -> None:
    detector, images = fitted(name, world), mixed(world)

    evidence = detector.examine(images, top=2)

    decision = detector.decide(images)
    joined = Evidence.concatenate([evidence[:5], evidence[5:]])
    for each in (evidence, joined):
        assert each.scores.dtype == np.float32
        assert each.scores.tolist() == detector.score(images).tolist()
        assert (each.own_rule is None) == (decision is None)
        assert decision is None or (each.own_rule is not None and each.own_rule.tolist() == decision.tolist())
        assert [list(named) for named in each.negatives] == detector.pulled_out_by(images, top=2)
    assert detector.examine(images, top=0).negatives == ((),) * 64
    assert 64 * 4 < evidence.nbytes < 64 * 1000
    assert pickle.loads(pickle.dumps(evidence[:1])).negatives == evidence.negatives[:1]  # noqa: S301 (our own)


def test_says_what_it_is(name: str) -> None:
    known = describe(name)
    cls = registry.get(name)

    assert known["summary"].endswith(".")
    assert len(known["summary"]) <= 90  # a cell of the README's table
    assert re.search(r"\b(19|20)\d\d\b", known["paper"])
    assert cls.__module__.rsplit(".", 1)[1] == name


def test_every_parameter_has_bounds_and_a_description(name: str) -> None:
    text = registry.get(name).__doc__ or ""

    for parameter, schema in properties(name).items():
        options = schema.get("anyOf", [schema])
        bounded = [
            option for option in options if option.get("type") in {"boolean", "null", "string"} or BOUNDS & set(option)
        ]
        assert bounded == options, f"{parameter} has no bounds"
        assert f"{parameter}: " in text, f"{parameter} is missing from Args"


def test_unknown_and_impossible_parameters_are_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="no_such_parameter"):
        vo.create_detector(name, no_such_parameter=1)
    for parameter, schema in properties(name).items():
        wrong: list[Any] = ["a word", float("nan")]
        wrong += [schema[key] - 1 for key in ("minimum", "exclusiveMinimum") if key in schema]
        wrong += [schema[key] + 1 for key in ("maximum", "exclusiveMaximum") if key in schema]
        for value in wrong:
            with pytest.raises(ParameterError, match=parameter):
                vo.create_detector(name, **{parameter: value})


def test_too_few_classes_are_refused(name: str, world: World) -> None:
    task = world.task
    assert task.no is not None
    assert task.support is not None
    own = (task.support.labels == 0).nonzero().flatten()
    support = vo.Support(task.support.features[own], task.support.labels[own])
    single = replace(task, classes=task.classes.take([0]), no=task.no.take([0]), support=support)
    detector = vo.create_detector(name)

    if detector.min_classes == 1:
        assert detector.fit(single).score(world.id_images).isfinite().all()
    else:
        with pytest.raises(ClassNamesError, match="max_cosine"):
            detector.fit(single)


def test_a_task_without_what_it_needs_is_refused_by_name(name: str, world: World) -> None:
    detector = vo.create_detector(name)
    bare = vo.Task(classes=world.task.classes)

    if not detector.needs:
        assert detector.fit(bare).score(world.id_images).shape == (64,)
    for need in detector.needs:
        without: dict[str, Any] = {need: None}
        with pytest.raises(TaskError, match=need):
            detector.fit(replace(world.task, **without))


def test_vectors_of_another_dimension_are_refused(name: str, world: World) -> None:
    images = vo.ImageFeatures(torch.ones(1, DIM + 1), torch.ones(1, 1, DIM + 1), (1, 1))

    with pytest.raises(VectorError, match=f"dimension {DIM + 1}, classes {DIM}"):
        fitted(name, world).score(images)


def test_images_without_patches_are_refused_where_patches_are_read(name: str, world: World) -> None:
    detector = fitted(name, world)
    pooled_only = vo.ImageFeatures(world.id_images.pooled)

    if detector.detector.outputs.patches:
        with pytest.raises(CapabilityError, match="patches=True"):
            detector.score(pooled_only)
    else:
        assert_close(detector.score(pooled_only), detector.score(world.id_images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_scores_of_the_cpu(name: str, world: World) -> None:
    task, images = world.task, mixed(world)
    moved = fitted(name, World(on_gpu(task), world.id_images, world.ood_images))

    scores = moved.score(images.to("cuda"))

    assert scores.device.type == "cuda"
    assert_close(scores.cpu(), fitted(name, world).score(images), tolerance=1e-4)


def on_gpu(task: vo.Task) -> vo.Task:
    assert task.negatives is not None
    assert task.no is not None
    assert task.support is not None
    support = vo.Support(task.support.features.to("cuda"), task.support.labels.to("cuda"))
    return vo.Task(task.classes.to("cuda"), task.negatives.to("cuda"), task.no.to("cuda"), support)


def test_another_seed_of_the_world_ranks_them_alike(name: str) -> None:
    other = make_world(seed=1)
    detector = fitted(name, other)

    assert detector.score(other.ood_images).median() > detector.score(other.id_images).median()
