"""What every encoder's text tower must do, on every encoder that can be built without a network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import vlm_ood as vo
from tests.encoders.tiny import (
    HF_ENCODERS,
    PROMPTS,
    TEXT,
    VIT,
    hf_text,
    openclip_folder,
    openclip_model,
    transformers_clip,
    transformers_siglip,
)
from tests.fakes import FakeEncoder
from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.text_tower import TextTower
from vlm_ood.errors import CapabilityError

LONG = " ".join(["cat"] * 300)
OPENCLIP: dict[str, dict[str, Any]] = {
    "clip": {},
    "clip_end_token": {"text_cfg": TEXT | {"pool_type": "eos", "eos_id": 49407}},
    "clipa": {"text_cfg": TEXT | {"pool_type": "last", "no_causal_mask": True}},
    "siglip": {
        "text_cfg": TEXT | {"pool_type": "last", "no_causal_mask": True, "proj_bias": True},
        "custom_text": True,
    },
    "mobileclip": {"text_cfg": TEXT | {"no_causal_mask": True}, "custom_text": True},
    "coca": {"text_cfg": TEXT | {"embed_cls": True}, "custom_text": True},
}
FAMILIES = ["embedded", *OPENCLIP, *HF_ENCODERS, "transformers_clip", "transformers_siglip"]
SHORTENED = {"embedded", "clip", "clip_end_token", *HF_ENCODERS, "transformers_clip"}


def build(family: str, folder: Path, **options: Any) -> Encoder:
    if family == "embedded":
        return vo.load_encoder("embedded", device="cpu", **options)
    if family == "transformers_clip":
        transformers_clip(folder)
    elif family == "transformers_siglip":
        transformers_siglip(folder)
    else:
        config = OPENCLIP.get(family) or {"text_cfg": TEXT}
        if family in HF_ENCODERS:
            config = {"text_cfg": hf_text(folder / "text", family), "custom_text": True}
        openclip_folder(folder, openclip_model(VIT, **config), VIT, **config)
    return vo.load_encoder(str(folder), device="cpu", **options)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def encoder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return build(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def tower(encoder: Encoder) -> TextTower:
    return encoder.text_tower()


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(
        functional.normalize(ours, dim=-1), functional.normalize(theirs, dim=-1), rtol=0, atol=atol
    )


def test_the_encoder_says_that_it_gives_gradients(encoder: Encoder) -> None:
    assert "text_gradients" in encoder.capabilities


def test_sizes_are_those_of_tokens_embeddings_and_vectors(encoder: Encoder, tower: TextTower) -> None:
    tokens = tower.tokenise(["a cat", LONG])
    assert tokens.shape == (2, tower.context)
    embeddings = tower.embed(tokens)
    assert embeddings.shape == (2, tower.context, tower.width)
    assert tower.encode_embeddings(embeddings, tokens).shape == (2, tower.dim)
    assert tower.dim == encoder.dim


def test_embeddings_give_what_encode_text_gives(encoder: Encoder, tower: TextTower) -> None:
    prompts = [*PROMPTS, LONG]
    tokens = tower.tokenise(prompts)
    vectors = tower.encode_embeddings(tower.embed(tokens), tokens)
    assert vectors.dtype == torch.float32
    close(vectors, encoder.encode_text(prompts))
    raw = encoder.encode_text(prompts, normalise=False)
    torch.testing.assert_close(vectors, raw, rtol=1e-5, atol=1e-6 * float(raw.norm(dim=-1).max()))


def test_what_is_cut_off_decides_nothing(family: str, encoder: Encoder, tower: TextTower) -> None:
    prompts = ["a cat", "a very small red dog"]
    tokens = tower.cut(tower.tokenise(prompts))
    assert (tokens.shape[1] < tower.context) == (family in SHORTENED)
    assert tokens.shape[1] == int(tower.lengths(tokens).max())
    close(tower.encode_embeddings(tower.embed(tokens), tokens), encoder.encode_text(prompts))


def test_batches_of_given_embeddings_come_back_in_order(encoder: Encoder, tower: TextTower) -> None:
    tokens = tower.tokenise(PROMPTS)
    done: list[int] = []
    vectors = tower.encode(tokens, tower.embed(tokens), batch_size=2, progress=done.append)
    close(vectors, encoder.encode_text(PROMPTS))
    assert done == [2, 2, 1]


def test_gradients_reach_the_embeddings_and_nothing_else(tower: TextTower) -> None:
    tokens = tower.cut(tower.tokenise(["a photo of a cat", "a dog"]))
    embeddings = tower.embed(tokens)
    assert not embeddings.requires_grad
    embeddings.requires_grad_()
    tower.encode_embeddings(embeddings, tokens)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert embeddings.grad is not None
    assert embeddings.grad[:, :3].abs().amax(dim=-1).gt(0).all()
    lengths = tower.lengths(tokens).tolist()
    assert all(not embeddings.grad[row, length:].any() for row, length in enumerate(lengths))
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in tower.parameters())


def test_a_context_in_the_place_of_words_is_tuned_towards_a_target(tower: TextTower) -> None:
    """CoOp: two shared vectors replace two placeholder tokens of every prompt."""
    tokens = tower.cut(tower.tokenise(["of of cat", "of of dog", "of of red fire truck"]))
    words = tower.embed(tokens)
    target = functional.normalize(tower.encode(tower.tokenise(["very small truck"])), dim=-1)
    context = words[0, 1:3].clone().requires_grad_()
    optimiser = torch.optim.Adam([context], lr=0.01)
    cosines = []
    for _ in range(6):
        embeddings = torch.cat([words[:, :1], context.expand(len(tokens), -1, -1), words[:, 3:]], dim=1)
        vectors = functional.normalize(tower.encode(tokens, embeddings, batch_size=2), dim=-1)
        cosine = (vectors @ target.T).mean()
        optimiser.zero_grad()
        (-cosine).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cosines.append(cosine.item())
    assert cosines[-1] > cosines[0]


def test_a_trainable_copy_starts_as_the_tower_and_leaves_it_as_it_is(encoder: Encoder, tower: TextTower) -> None:
    before = encoder.encode_text(PROMPTS)
    copy = tower.trainable_copy()
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    tokens = copy.tokenise(PROMPTS)
    vectors = copy.encode(tokens)
    close(vectors, before)
    vectors[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert sum(parameter.grad is not None for parameter in trained) > len(trained) // 2
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(1)
    assert torch.equal(encoder.encode_text(PROMPTS), before)


@pytest.mark.parametrize("family", ["clip", "transformers_clip", "xlm-roberta", "embedded"])
def test_half_precision_takes_and_gives_fp32(family: str, tmp_path: Path) -> None:
    encoder = build(family, tmp_path, dtype="bf16")
    tower = encoder.text_tower()
    tokens = tower.cut(tower.tokenise(["a cat", "a red dog"]))
    vectors = tower.encode_embeddings(tower.embed(tokens).float(), tokens)
    assert vectors.dtype == torch.float32
    close(vectors, encoder.encode_text(["a cat", "a red dog"]), atol=2e-2)
    assert {parameter.dtype for parameter in tower.trainable_copy().parameters()} == {torch.float32}


def test_an_encoder_without_an_open_text_tower_says_so() -> None:
    with pytest.raises(CapabilityError, match="fake gives no text_gradients"):
        FakeEncoder().text_tower()
