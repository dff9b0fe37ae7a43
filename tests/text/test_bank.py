"""From names to a bank: the order of averaging, the cache, and names that can't be used."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import vlm_ood as vo
from tests.fakes import FakeEncoder
from vlm_ood.errors import ClassNamesError, TemplateError, UnknownNameError
from vlm_ood.io.cache import DiskCache
from vlm_ood.text.bank import average_prompts, clean_names
from vlm_ood.text.templates import Templates

SENTENCES = ("a photo of a {}.", "the {}", "a drawing of one {}.")


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "banks")


def raw(encoder: FakeEncoder, *prompts: str) -> Tensor:
    return encoder.encode_text(prompts, normalise=False)


def unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=-1)


def test_normalise_first_averages_unit_vectors(encoder: FakeEncoder, cache: DiskCache) -> None:
    bank = vo.text_bank(encoder, ["red", "dog"], templates=SENTENCES, cache=cache)

    for row, name in enumerate(["red", "dog"]):
        vectors = raw(encoder, f"a photo of a {name}.", f"the {name}", f"a drawing of one {name}.")
        assert torch.allclose(bank.embeddings[row], unit(unit(vectors).mean(dim=0)), atol=1e-6)


def test_mean_first_averages_the_outputs_as_they_are(encoder: FakeEncoder, cache: DiskCache) -> None:
    templates = Templates(SENTENCES, average="mean_first")

    bank = vo.text_bank(encoder, ["red", "dog"], templates=templates, cache=cache)

    for row, name in enumerate(["red", "dog"]):
        vectors = raw(encoder, f"a photo of a {name}.", f"the {name}", f"a drawing of one {name}.")
        assert vectors.norm(dim=-1).max() > 1.5 * vectors.norm(dim=-1).min()
        assert torch.allclose(bank.embeddings[row], unit(vectors.mean(dim=0)), atol=1e-6)


def test_the_order_of_averaging_matters_and_is_kept_apart_in_the_cache(encoder: FakeEncoder, cache: DiskCache) -> None:
    first = vo.text_bank(encoder, ["dog"], templates=Templates(SENTENCES), cache=cache)
    second = vo.text_bank(encoder, ["dog"], templates=Templates(SENTENCES, average="mean_first"), cache=cache)

    assert first.digest != second.digest
    assert not torch.allclose(first.embeddings, second.embeddings, atol=1e-3)


def test_rows_follow_the_names(encoder: FakeEncoder, cache: DiskCache) -> None:
    bank = vo.text_bank(encoder, ["red", "blue", "dog"], cache=cache)
    again = vo.text_bank(encoder, ["dog", "red", "blue"], cache=cache)

    assert bank.names == ("red", "blue", "dog")
    assert torch.allclose(again.embeddings, bank.embeddings[[2, 0, 1]], atol=1e-6)


def test_more_names_than_a_chunk_holds_give_the_same_rows(encoder: FakeEncoder) -> None:
    templates = Templates(tuple(f"{number} {{}}" for number in range(3000)))
    names = ["red", "green", "blue", "dog", "cat"]  # two names a chunk

    together = average_prompts(encoder, names, templates)

    alone = torch.cat([average_prompts(encoder, [name], templates) for name in names])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_second_bank_of_the_same_content_runs_no_network(encoder: FakeEncoder, cache: DiskCache) -> None:
    first = vo.text_bank(encoder, ["red", "dog"], templates=SENTENCES, cache=cache)
    seen = len(encoder.prompts_seen)

    second = vo.text_bank(encoder, ["red", "dog"], templates=list(SENTENCES), cache=cache)

    assert seen == 6
    assert len(encoder.prompts_seen) == seen
    assert torch.equal(first.embeddings, second.embeddings)
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("names", "templates", "encoder_name"),
    [
        (["red", "cat"], SENTENCES, "fake"),
        (["dog", "red"], SENTENCES, "fake"),
        (["red", "dog"], SENTENCES[:2], "fake"),
        (["red", "dog"], SENTENCES[::-1], "fake"),
        (["red", "dog"], SENTENCES, "another"),
    ],
)
def test_other_content_is_another_bank(
    names: list[str], templates: tuple[str, ...], encoder_name: str, cache: DiskCache
) -> None:
    first = vo.text_bank(FakeEncoder(), ["red", "dog"], templates=SENTENCES, cache=cache)
    other = FakeEncoder(name=encoder_name)

    bank = vo.text_bank(other, names, templates=templates, cache=cache)

    assert bank.digest != first.digest
    assert other.prompts_seen


def test_a_damaged_entry_is_made_again(encoder: FakeEncoder, cache: DiskCache) -> None:
    first = vo.text_bank(encoder, ["red"], cache=cache)
    (entry,) = cache.folder.glob("*.safetensors")
    entry.write_bytes(b"not a tensor")

    second = vo.text_bank(encoder, ["red"], cache=cache)

    assert torch.equal(first.embeddings, second.embeddings)
    assert len(encoder.prompts_seen) == 2


def test_an_entry_of_another_shape_is_made_again(encoder: FakeEncoder, cache: DiskCache) -> None:
    first = vo.text_bank(encoder, ["red"], cache=cache)
    cache.put(first.digest, {"embeddings": torch.ones(2, 2)})

    assert torch.equal(vo.text_bank(encoder, ["red"], cache=cache).embeddings, first.embeddings)


def test_a_cache_that_cannot_be_written_costs_no_bank(encoder: FakeEncoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    bank = vo.text_bank(encoder, ["red"], cache=DiskCache(tmp_path / "file" / "banks"))

    assert bank.names == ("red",)


def test_progress_counts_every_prompt(encoder: FakeEncoder, cache: DiskCache) -> None:
    steps: list[int] = []

    vo.text_bank(encoder, ["a", "b", "c"], templates=SENTENCES, cache=cache, batch_size=4, progress=steps.append)

    assert steps == [4, 4, 1]


def test_names_lose_the_white_space_around_them(encoder: FakeEncoder, cache: DiskCache) -> None:
    assert vo.text_bank(encoder, [" red", "hot dog\n"], cache=cache).names == ("red", "hot dog")


def test_names_with_braces_are_encoded_as_they_are(encoder: FakeEncoder, cache: DiskCache) -> None:
    vo.text_bank(encoder, ["{}", "{0}", "set {x}"], templates=["a {}."], cache=cache)

    assert encoder.prompts_seen == ["a {}.", "a {0}.", "a set {x}."]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one"),
        (["cat", "  "], "class name 2 of 2 is empty"),
        (["cat", "dog", "cat "], "given twice: 'cat'"),
        ("cat", r"write \['cat'\]"),
    ],
)
def test_names_that_cannot_be_used_are_refused_before_any_work(
    names: list[str], message: str, encoder: FakeEncoder, cache: DiskCache
) -> None:
    with pytest.raises(ClassNamesError, match=message):
        vo.text_bank(encoder, names, cache=cache)
    assert encoder.prompts_seen == []
    assert not cache.folder.exists()


def test_templates_that_cannot_be_used_are_refused_before_any_work(encoder: FakeEncoder, cache: DiskCache) -> None:
    with pytest.raises(TemplateError):
        vo.text_bank(encoder, ["cat"], templates=["no placeholder"], cache=cache)
    with pytest.raises(UnknownNameError, match="single"):
        vo.text_bank(encoder, ["cat"], templates="singel", cache=cache)
    assert encoder.prompts_seen == []


def test_case_tells_names_apart() -> None:
    assert clean_names(["Crane", "crane"]) == ("Crane", "crane")
