"""A detector as a head: packed here, fitted again where the network runs."""

import pickle
from dataclasses import dataclass, fields

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import vlm_ood as vo
from service.engine.worker.heads import detector_head, packed, unpacked
from tests.detectors.world import World, make_world
from vlm_ood.detectors import Evidence, detector_names
from vlm_ood.detectors.base import CosineDetector
from vlm_ood.types import Background, ImageFeatures, Support, Task

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def mixed(world: World) -> ImageFeatures:
    return ImageFeatures.concatenate([world.id_images[:5], world.ood_images[:5]])


@pytest.mark.parametrize("name", detector_names())
def test_the_evidence_of_a_head_is_that_of_its_detector(name: str, world: World) -> None:
    fitted, images = vo.create_detector(name).fit(world.task), mixed(world)
    head = pickle.loads(pickle.dumps(detector_head(fitted)))  # noqa: S301 (our own)
    evidence = head.on(CPU)(images)
    assert isinstance(evidence, Evidence)
    assert evidence.scores.tolist() == fitted.score(images).tolist()
    assert evidence.negatives == fitted.examine(images, top=100).negatives
    assert (head.digest, head.outputs) == (fitted.digest, fitted.detector.outputs)


def test_parameters_go_with_it(world: World) -> None:
    warm, cold = (vo.create_detector("gl_mcm", temperature=t).fit(world.task) for t in (1.0, 0.1))
    heads = detector_head(warm), detector_head(cold)
    assert heads[0].digest != heads[1].digest
    scores = [head.on(CPU)(mixed(world)) for head in heads]
    assert [each.scores.tolist() for each in scores if isinstance(each, Evidence)] == [
        fitted.score(mixed(world)).tolist() for fitted in (warm, cold)
    ]


def test_every_part_of_a_task_comes_out_as_it_went_in(world: World) -> None:
    stages, grids = {3: torch.randn(2, 4, 5), 7: torch.randn(2, 1, 5)}, {3: (2, 2), 7: (1, 1)}
    windows = {2: torch.randn(2, 1, world.task.classes.dim)}
    pooled, patches = torch.randn(2, world.task.classes.dim), torch.randn(2, 4, world.task.classes.dim)
    features = ImageFeatures(pooled, patches, (2, 2), stages, windows, grids)
    support = Support(features, torch.tensor([0, 1]))
    background = Background(torch.randn(world.task.classes.dim), words=torch.randn(world.task.classes.dim))
    task = Task(world.task.classes, world.task.negatives, world.task.no, support, background)
    assert all(getattr(task, each.name) is not None for each in fields(task)), "a new part must be tried here"
    again = unpacked(pickle.loads(pickle.dumps(packed(task))), CPU)  # noqa: S301 (our own)
    assert again.digest == task.digest
    assert again.support.features.stage_grids == grids


@dataclass(frozen=True)
class Repeating(CosineDetector):
    """A method whose state is four times as large as the class embeddings."""

    name = "repeating"

    def learn(self, task: Task) -> Float[Tensor, "c d"]:
        return task.classes.embeddings.repeat(4, 1)

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return -cosine.amax(dim=1)


def test_what_a_method_learns_counts_as_well(world: World) -> None:
    task = Task(world.task.classes)
    plain, repeating = vo.create_detector("gl_mcm").fit(task), Repeating().fit(task)
    more = detector_head(repeating).nbytes - detector_head(plain).nbytes
    assert more == pytest.approx(4 * task.classes.embeddings.nbytes, abs=16)


def test_no_tensor_is_pickled_and_the_size_is_that_of_the_vectors(world: World) -> None:
    head = detector_head(vo.create_detector("gl_mcm").fit(world.task))
    content = pickle.dumps(head)
    assert b"torch" not in content
    assert 0.5 < head.nbytes / len(content) < 2
