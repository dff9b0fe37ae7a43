"""The background of an encoder: what it is made of, what it depends on, and that it is made once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vlm_ood as vo
from tests.fakes import FakeEncoder
from vlm_ood.background import background_of, photographs
from vlm_ood.encoders.base import TextEncoder
from vlm_ood.errors import CapabilityError, VectorError
from vlm_ood.io.cache import DiskCache
from vlm_ood.lexicons import everyday_words
from vlm_ood.pipeline import encode_files
from vlm_ood.tasks import Builder, DetectorSpec, StoredBank, TaskSpec, TemplateBank


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path)


def test_it_is_the_mean_of_photographs_and_of_words(cache: DiskCache) -> None:
    encoder = FakeEncoder()

    background = background_of(encoder, cache=cache)

    images = encode_files(encoder, photographs()).features.pooled
    words = vo.text_bank(encoder, everyday_words(), cache=cache).embeddings
    assert background.words is not None
    assert torch.allclose(background.images, images.mean(dim=0), atol=1e-6)
    assert torch.allclose(background.words, words.mean(dim=0), atol=1e-6)


def test_there_are_several_different_photographs_and_many_words() -> None:
    assert len(set(photographs())) == 7
    assert len(set(everyday_words())) == len(everyday_words()) > 200


def test_photographs_are_encoded_once(cache: DiskCache) -> None:
    encoder, asked = FakeEncoder(), []

    def encode(files: Sequence[bytes]) -> torch.Tensor:
        asked.append(len(files))
        return torch.eye(7, encoder.dim)

    first, second = (background_of(encoder, encode, cache=cache) for _ in range(2))

    assert asked == [7]
    assert torch.equal(first.images, second.images)
    assert first.digest == second.digest


def test_its_identity_is_that_of_the_encoder(cache: DiskCache) -> None:
    one, other = FakeEncoder(), FakeEncoder()
    other.digest = "other weights"

    assert background_of(one, cache=cache).digest != background_of(other, cache=cache).digest


def test_an_encoder_of_text_alone_needs_something_that_encodes_images(cache: DiskCache) -> None:
    class TextAlone(TextEncoder):
        name, digest, dim, device = "text", "text", 4, torch.device("cpu")

        def encode_text(self, prompts: Sequence[str], **options: object) -> torch.Tensor:
            raise AssertionError(prompts)

    with pytest.raises(CapabilityError, match="text encodes text alone: give `encode`"):
        background_of(TextAlone(), cache=cache)


def test_a_builder_gives_it_to_the_methods_that_read_it(cache: DiskCache) -> None:
    task = TaskSpec(TemplateBank(("red", "blue")), "fake")
    builder = Builder(FakeEncoder(), banks=cache)

    with_background = builder.fit(DetectorSpec("adjusted_energy", task)).task
    assert with_background.ordinary is not None
    assert builder.fit(DetectorSpec("mcm", task)).task.ordinary is None
    assert with_background.digest != replace(with_background, background=None).digest


def test_vectors_alone_have_none(tmp_path: Path) -> None:
    bank = vo.TextBank(("a", "b"), torch.eye(2, 4))

    class Sources:
        def bank(self, stored: StoredBank) -> vo.TextBank:
            return bank

        def support(self, stored: object, classes: vo.TextBank) -> vo.Support:
            raise AssertionError

    fitted = Builder(None, Sources()).fit(DetectorSpec("adjusted_energy", TaskSpec(StoredBank("x"))))
    assert fitted.task.ordinary is None


@pytest.mark.parametrize("vector", [torch.tensor([1.0, float("nan"), 0, 0]), torch.ones(3)])
def test_a_vector_that_can_t_be_one_is_refused(vector: torch.Tensor) -> None:
    with pytest.raises(VectorError, match="background"):
        vo.Task(vo.TextBank(("a", "b"), torch.eye(2, 4)), background=vector)
