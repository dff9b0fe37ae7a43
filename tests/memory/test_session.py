"""A session: what its scores depend on, how much it holds, and what a snapshot restores."""

from typing import Any

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, make_world
from vlm_ood.errors import StorageError, TaskError, VectorError
from vlm_ood.io.files import tensors_from_bytes, tensors_to_bytes
from vlm_ood.memory import Session, registry

METHODS = registry.names()


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def session_of(world: World, method: str, **parameters: Any) -> Session:
    return vo.adapting(vo.create_detector("neglabel").fit(world.task), method, **parameters)


@pytest.mark.parametrize("method", METHODS)
def test_images_of_one_call_do_not_depend_on_each_other(world: World, method: str) -> None:
    together, alone = session_of(world, method), session_of(world, method)
    for session in (together, alone):
        session.score(world.ood_images)
    start = alone.snapshot()

    scores = together.score(world.id_images)

    for row in range(0, 64, 9):
        alone.restore(start)
        assert torch.allclose(alone.score(world.id_images[row : row + 1]), scores[row : row + 1], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_scores_depend_on_the_calls_before(world: World, method: str) -> None:
    first, second = session_of(world, method), session_of(world, method)

    fresh = first.score(world.id_images)
    second.score(world.ood_images)

    assert not torch.allclose(second.score(world.id_images), fresh, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_calls_give_the_same_bits(world: World, method: str) -> None:
    def run() -> list[float]:
        session = session_of(world, method)
        parts = [world.id_images[:20], world.ood_images, world.id_images[20:]]
        return torch.cat([session.score(part) for part in parts]).tolist()

    assert run() == run()


@pytest.mark.parametrize("method", METHODS)
def test_the_memory_is_bounded(world: World, method: str) -> None:
    session = session_of(world, method, capacity=7)
    for seed in range(4):
        session.score(make_world(seed=seed).ood_images)
        session.score(world.ood_images)

    assert len(session) == 7


def test_a_label_of_adaneg_is_bounded(world: World) -> None:
    session = session_of(world, "adaneg", per_label=2)
    for part in (world.id_images, world.ood_images):
        session.score(part)

    assert len(session) > 2
    assert tensors_from_bytes(session.snapshot())[0]["labels"].bincount().max() == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_snapshot_restores_every_bit(world: World, method: str) -> None:
    session, other = session_of(world, method), session_of(world, method)
    session.score(world.ood_images)

    snapshot = session.snapshot()
    other.restore(snapshot)

    assert other.snapshot() == snapshot
    assert other.score(world.id_images).tolist() == session.score(world.id_images).tolist()
    assert other.snapshot() == session.snapshot()


@pytest.mark.parametrize("method", METHODS)
def test_reset_and_the_end_of_the_block_forget_all(world: World, method: str) -> None:
    with session_of(world, method) as session:
        empty = session.snapshot()
        fresh = session.score(world.ood_images).tolist()
        session.reset()
        assert session.score(world.ood_images).tolist() == fresh
        assert len(session) > 0

    assert len(session) == 0
    session.restore(empty)
    assert session.snapshot() == empty


def test_the_detector_stays_as_it_is(world: World) -> None:
    fitted = vo.create_detector("neglabel").fit(world.task)
    before = fitted.score(world.id_images).tolist()

    vo.adapting(fitted, "adaneg").score(world.ood_images)

    assert fitted.score(world.id_images).tolist() == before


@pytest.mark.parametrize("method", METHODS)
def test_no_images_change_nothing(world: World, method: str) -> None:
    session = session_of(world, method)
    session.score(world.ood_images)
    before = session.snapshot()

    assert session.score(world.id_images[:0]).shape == (0,)
    assert session.snapshot() == before


@pytest.mark.parametrize("method", METHODS)
def test_images_of_another_encoder_are_refused_and_change_nothing(world: World, method: str) -> None:
    session = session_of(world, method)

    with pytest.raises(VectorError, match="images have dimension 3, classes 64"):
        session.score(vo.ImageFeatures(torch.eye(3)))
    assert len(session) == 0


def test_a_snapshot_of_another_session_is_refused(world: World) -> None:
    snapshot = session_of(world, "oodd").snapshot()
    for other in (session_of(world, "oodd", k=3), session_of(world, "adaneg")):
        with pytest.raises(TaskError, match="another method or other parameters"):
            other.restore(snapshot)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.full((5,), 1)}, VectorError, "labels from 0 to 0"),
        ({"labels": torch.full((5,), -1)}, VectorError, "labels from 0 to 0"),
        ({"costs": torch.full((5,), torch.nan)}, VectorError, "finite costs"),
        ({"costs": torch.zeros(4)}, VectorError, "a snapshot holds vectors"),
        ({"costs": torch.zeros(5, dtype=torch.float64)}, VectorError, "a snapshot holds vectors"),
        ({"vectors": torch.ones(5, 3)}, VectorError, "a snapshot holds vectors"),
        ({"vectors": torch.zeros(5, 64)}, VectorError, "length zero"),
        ({"more": torch.zeros(5)}, VectorError, "a snapshot holds vectors"),
        ({"costs": torch.tensor(1.0)}, VectorError, "a snapshot holds vectors"),
        (
            {"vectors": torch.eye(64)[:9], "costs": torch.zeros(9), "labels": torch.zeros(9, dtype=torch.long)},
            VectorError,
            "holds 9 images, the memory at most 5",
        ),
    ],
)
def test_hostile_snapshots_are_refused(
    world: World, change: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    session = session_of(world, "oodd", capacity=5)
    session.score(world.ood_images)
    before = session.snapshot()
    tensors, metadata = tensors_from_bytes(before)

    with pytest.raises(error, match=message):
        session.restore(tensors_to_bytes(tensors | change, metadata))
    assert session.snapshot() == before


def test_bytes_that_are_no_snapshot_are_refused(world: World) -> None:
    session = session_of(world, "oodd", capacity=5)
    with pytest.raises(StorageError, match="not a readable safetensors file"):
        session.restore(b"hostile")
    with pytest.raises(VectorError, match="bytes, one of 5 images at most"):
        session.restore(bytes(10**6))
