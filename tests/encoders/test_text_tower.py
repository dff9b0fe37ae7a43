"""A text tower that stops at the longest end-of-text gives what the full context gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor
from torch.nn import functional

from tests.encoders.tiny import HF_ENCODERS, PROMPTS, TEXT, VIT, hf_text, openclip_folder, openclip_model
from vlm_ood.encoders import Encoder, load_encoder
from vlm_ood.encoders.text_tower import TextTower


class Counting(TextTower):
    """The sum of the tokens up to a zero; remembers the batches it was given."""

    context, width, dim = 9, 1, 1

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        raise NotImplementedError

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        return (tokens > 0).sum(dim=-1)

    def embed(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        return tokens[:, :, None].float()

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        self.seen.append(tuple(tokens.shape))
        return embeddings.sum(dim=1)


def test_batches_are_sorted_by_length_and_cut_at_their_longest() -> None:
    tokens = torch.tensor([[5, 5, 5, 5, 0, 0], [1, 0, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0]])
    tower, done = Counting(), list[int]()
    result = tower.encode(tokens, batch_size=2, progress=done.append)
    assert result.tolist() == [[20.0], [1.0], [4.0], [9.0]]
    assert tower.seen == [(2, 2), (2, 4)]
    assert done == [2, 2]
    assert torch.equal(tower.cut(tokens), tokens[:, :4])


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20), batch_size=st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_rows_come_back_in_the_order_given(lengths: list[int], batch_size: int) -> None:
    tokens = torch.zeros(len(lengths), 9, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens[row, :length] = row + 1
    result = Counting().encode(tokens, batch_size=batch_size)
    assert result.flatten().tolist() == [(row + 1) * length for row, length in enumerate(lengths)]
    doubled = Counting().encode(tokens, 2 * tokens[:, :, None].float(), batch_size=batch_size)
    assert torch.equal(doubled, 2 * result)


def tiny(tmp_path: Path, **text: Any) -> tuple[Encoder, Any]:
    config = {"text_cfg": TEXT | text}
    own = {"custom_text": True} if text.keys() & {"pool_type", "no_causal_mask", "embed_cls"} else {}
    model = openclip_model(VIT, **config, **own)
    return load_encoder(str(openclip_folder(tmp_path, model, VIT, **config, **own)), device="cpu"), model


@pytest.mark.parametrize(
    "text",
    [
        {},
        {"pool_type": "eos", "eos_id": 49407},
        {"pool_type": "first", "proj_type": "none", "width": 24},
        {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        {"no_causal_mask": True, "pool_type": "argmax"},
        {"embed_cls": True},
        {"embed_cls": True, "no_causal_mask": True},
    ],
    ids=["argmax", "eos", "first", "last", "not_causal", "cls", "cls_not_causal"],
)
@pytest.mark.parametrize("normalise", [True, False])
def test_vectors_equal_those_of_the_full_context(tmp_path: Path, text: dict[str, Any], normalise: bool) -> None:
    encoder, model = tiny(tmp_path, **text)
    with torch.no_grad():
        tokens = SimpleTokenizer(context_length=TEXT["context_length"])(PROMPTS)
        expected = model.encode_text(tokens)
    expected = functional.normalize(expected, dim=-1) if normalise else expected
    vectors = encoder.encode_text(PROMPTS, normalise=normalise, batch_size=2)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", HF_ENCODERS)
def test_vectors_of_other_libraries_towers_are_those_of_open_clip(tmp_path: Path, family: str) -> None:
    config = {"text_cfg": hf_text(tmp_path / "text", family), "custom_text": True}
    model = openclip_model(VIT, **config)
    encoder = load_encoder(str(openclip_folder(tmp_path / "tiny", model, VIT, **config)), device="cpu")
    with torch.no_grad():
        expected = model.encode_text(HFTokenizer(str(tmp_path / "text"), context_length=12)(PROMPTS), normalize=True)
    torch.testing.assert_close(encoder.encode_text(PROMPTS, batch_size=2), expected, rtol=0, atol=1e-6)


def widest(model: Any, encoder: Encoder, prompts: list[str]) -> int:
    """How many places the first block saw."""
    places: list[int] = []
    handle = model.transformer.resblocks[0].register_forward_pre_hook(lambda _, args: places.append(args[0].shape[1]))
    encoder.encode_text(prompts)
    handle.remove()
    return max(places)


def test_a_short_prompt_costs_its_own_length(tmp_path: Path) -> None:
    encoder, _ = tiny(tmp_path)
    model = encoder.text_tower()
    assert widest(model, encoder, ["a cat"]) == 4
    assert widest(model, encoder, PROMPTS) == TEXT["context_length"]


def test_a_prompt_longer_than_the_context_keeps_its_end_of_text(tmp_path: Path) -> None:
    encoder, _ = tiny(tmp_path)
    context = TEXT["context_length"]
    long = " ".join(["cat"] * 100)
    tokens = encoder.text_tower().tokenise([long])
    assert tokens.shape == (1, context)
    assert tokens[0, -1] == 49407
    fits = " ".join(["cat"] * (context - 2))
    torch.testing.assert_close(encoder.encode_text([long]), encoder.encode_text([fits]))


def test_a_prompt_is_encoded_the_same_in_any_company(tmp_path: Path) -> None:
    encoder, _ = tiny(tmp_path)
    together = encoder.encode_text(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(encoder.encode_text([prompt])[0], together[row], rtol=0, atol=1e-5)


def test_no_prompts_give_no_rows(tmp_path: Path) -> None:
    encoder, _ = tiny(tmp_path)
    assert encoder.encode_text([]).shape == (0, encoder.dim)


def test_progress_counts_every_prompt(tmp_path: Path) -> None:
    encoder, _ = tiny(tmp_path)
    done: list[int] = []
    encoder.encode_text(PROMPTS, batch_size=2, progress=done.append)
    assert done == [2, 2, 1]
