import torch

import vlm_ood as vo
from tests.fakes import FakeEncoder
from vlm_ood.clipn.banks import NoEncoder, no_bank, no_bank_from_templates
from vlm_ood.clipn.no_tower import copy_text_tower
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.text.templates import templates_named

NAMES = ["cat", "sailing boat"]


def test_the_bank_of_an_untrained_no_tower_is_the_bank_of_the_classes(encoder: ClipEncoder) -> None:
    templates = ["a photo of a {}.", "one {}"]
    classes = vo.text_bank(encoder, NAMES, templates=templates)
    no = no_bank(encoder, copy_text_tower(encoder), NAMES, templates=templates)
    assert no.names == classes.names
    torch.testing.assert_close(no.embeddings, classes.embeddings)


def test_a_changed_no_tower_gives_another_bank_though_banks_are_cached(encoder: ClipEncoder) -> None:
    tower = copy_text_tower(encoder)
    before = no_bank(encoder, tower, NAMES)
    with torch.no_grad():
        tower.prompt_no.normal_(generator=torch.Generator().manual_seed(0))
    after = no_bank(encoder, tower, NAMES)
    assert before.digest != after.digest
    assert (before.embeddings - after.embeddings).abs().max() > 1e-3


def test_the_order_of_prompts_is_kept_whatever_their_length(encoder: ClipEncoder) -> None:
    through = NoEncoder(encoder, copy_text_tower(encoder))
    prompts = ["a long sentence about a boat on a lake", "a", "a boat"]
    done: list[int] = []
    vectors = through.encode_text(prompts, batch_size=2, progress=done.append)
    torch.testing.assert_close(vectors, encoder.encode_text(prompts))
    raw = through.encode_text(prompts, normalise=False)
    torch.testing.assert_close(raw, encoder.encode_text(prompts, normalise=False))
    assert done == [2, 1]


def test_the_training_free_bank_comes_from_sentences_that_negate() -> None:
    encoder = FakeEncoder()
    bank = no_bank_from_templates(encoder, NAMES)
    assert bank.names == tuple(NAMES)
    assert "there is no sailing boat in the photo." in encoder.prompts_seen


def test_every_negation_has_its_affirmation() -> None:
    yes, no = templates_named("clipn_yes"), templates_named("clipn_no_training_free")
    assert len(yes) == len(no)
    negations = {"no", "not", "without", "doesn't", "lacks", "but", "can't", "other", "never"}
    assert all(set(sentence.split()) & negations for sentence in no.templates)
    assert not any(set(sentence.split()) & negations for sentence in yes.templates)
