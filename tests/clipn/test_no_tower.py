import pytest
import torch
from torch.nn import functional

from tests.fakes import FakeEncoder
from vlm_ood.clipn.losses import clipn_loss
from vlm_ood.clipn.no_tower import CHOICES, CONTEXTS, NoTower, copy_text_tower
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.factory import load_encoder
from vlm_ood.errors import CapabilityError

PROMPT_LIST = ["a photo of a cat.", "a", "a dog that runs after a ball on a wide green lawn"]


@pytest.fixture
def tower(encoder: ClipEncoder) -> NoTower:
    return copy_text_tower(encoder)


def test_an_untrained_no_tower_gives_the_vectors_of_the_text_tower(encoder: ClipEncoder, tower: NoTower) -> None:
    with torch.no_grad():
        torch.testing.assert_close(tower(PROMPT_LIST), encoder.encode_text(PROMPT_LIST))


@pytest.mark.slow
def test_an_untrained_copy_of_minilm_gives_the_vectors_of_the_embedded_encoder() -> None:
    encoder = load_encoder("embedded", device="cpu")
    tower = copy_text_tower(encoder)
    with torch.no_grad():
        torch.testing.assert_close(tower(PROMPT_LIST), encoder.encode_text(PROMPT_LIST), rtol=0, atol=1e-5)
    tower(PROMPT_LIST).sum().backward()
    untrained = [name for name, parameter in tower.named_parameters() if parameter.grad is None]
    assert {name.partition(".")[0] for name in tower.state_dict()} == {"prompt_no", "bert_no"}
    assert untrained == [f"bert_no.encoder.layer.5.output.LayerNorm.{name}" for name in ("weight", "bias")]


def test_every_part_has_the_name_of_the_released_layout(encoder: ClipEncoder, tower: NoTower) -> None:
    heads = {name.partition(".")[0] for name in tower.state_dict()}
    assert heads == {
        "prompt_no",
        "transformer_no",
        "token_embedding_no",
        "positional_embedding_no",
        "ln_final_no",
        "text_projection_no",
    }
    assert tower.prompt_no.shape == (CONTEXTS, 77, 16)
    assert not tower.prompt_no.any()
    parts = {name.removesuffix("_no") for name in heads - {"prompt_no"}}
    assert parts == {name.partition(".")[0] for name in encoder.text_tower().state_dict()}


def test_learned_contexts_are_added_at_every_position(tower: NoTower) -> None:
    """A context that is the same everywhere moves the output as a shift of all token embeddings does."""
    shift = torch.randn(16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = tower(PROMPT_LIST)
        tower.prompt_no.add_(shift)
        added = tower(PROMPT_LIST)
        tower.prompt_no.zero_()
        tower.get_parameter("positional_embedding_no").add_(shift)
        moved = tower(PROMPT_LIST)
    torch.testing.assert_close(added, moved)
    assert (added - before).abs().max() > 1e-3


def test_the_last_choice_is_the_mean_and_so_is_no_choice(tower: NoTower) -> None:
    with torch.no_grad():
        tower.prompt_no.normal_(generator=torch.Generator().manual_seed(0))
        mean = tower(PROMPT_LIST, torch.full((3,), CHOICES - 1))
        torch.testing.assert_close(tower(PROMPT_LIST), mean)
        first, second = tower(PROMPT_LIST, torch.tensor([0, 1, 2])), tower(PROMPT_LIST, torch.tensor([0, 5, 2]))
    torch.testing.assert_close(first[[0, 2]], second[[0, 2]])
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_a_choice_trains_its_own_context_and_the_mean_trains_all(tower: NoTower) -> None:
    tower(PROMPT_LIST, torch.tensor([3, 3, 3]))[:, 0].sum().backward()
    assert tower.prompt_no.grad is not None
    assert tower.prompt_no.grad.abs().amax(dim=(1, 2)).nonzero().flatten().tolist() == [3]
    tower.prompt_no.grad.zero_()
    tower(PROMPT_LIST, torch.tensor([16, 16, 16]))[:, 0].sum().backward()
    assert tower.prompt_no.grad.abs().amax(dim=(1, 2)).gt(0).all()


def test_gradients_reach_the_no_tower_and_nothing_else(encoder: ClipEncoder, tower: NoTower) -> None:
    images = functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    yes = encoder.encode_text(PROMPT_LIST).clone()
    loss = clipn_loss(images, yes, tower(PROMPT_LIST, torch.tensor([0, 8, 16])), encoder.scale)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in tower.parameters())
    own = encoder.text_tower().parameters()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in own)


def test_changing_the_copy_leaves_the_encoder_as_it_was(encoder: ClipEncoder, tower: NoTower) -> None:
    before = encoder.encode_text(PROMPT_LIST)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(1)
    torch.testing.assert_close(encoder.encode_text(PROMPT_LIST), before, rtol=0, atol=0)


def test_an_encoder_without_a_text_tower_to_copy_is_refused() -> None:
    with pytest.raises(CapabilityError, match="fake"):
        copy_text_tower(FakeEncoder())
