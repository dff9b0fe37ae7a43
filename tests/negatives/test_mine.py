"""Mining: what is left out, what is kept on disk, and that nothing but the words decides."""

from pathlib import Path

import pytest
import torch

import vlm_ood as vo
from tests.fakes import FakeEncoder
from vlm_ood.errors import LexiconError, ParameterError, TemplateError, UnknownNameError, VectorError
from vlm_ood.io.cache import DiskCache
from vlm_ood.lexicons import Lexicon
from vlm_ood.negatives import MiningPlan, candidates, mine, mine_negatives, recipe_named, report, select_negatives
from vlm_ood.negatives.select import most_similar
from vlm_ood.text.templates import templates_named

NOUNS = tuple(f"noun{row:03}" for row in range(60))
ADJECTIVES = tuple(f"adjective{row:03}" for row in range(30))
LEXICON = Lexicon(
    "toy",
    {
        "noun.artifact": NOUNS[:30],
        "noun.person": (*NOUNS[30:], "reds", "cherry red", "blue"),
        "adj.all": (*ADJECTIVES, "red", "noun000"),
    },
)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder(dim=32)


@pytest.fixture
def classes(encoder: FakeEncoder, tmp_path: Path) -> vo.TextBank:
    return vo.text_bank(encoder, ["red", "green"], cache=DiskCache(tmp_path / "banks"))


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "candidates")


def test_shares_of_nouns_and_adjectives_by_their_templates(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache
) -> None:
    """Of 63 nouns "reds" names a class, of 31 adjectives "red": 15 % of 62 and of 30."""
    plan = MiningPlan(recipe_named("neglabel"), LEXICON, synonyms=False)

    mining = mine(encoder, classes, plan, cache=cache)

    assert mining.candidates == {"noun.artifact": 30, "noun.person": 32, "adj.all": 30}
    assert mining.named == ("reds", "red")
    assert [file.partition(".")[0] for file in mining.files] == ["noun"] * 9 + ["adj"] * 4
    assert plan.prompts == len(encoder.prompts_seen) - 2
    assert "the nice cherry red" in encoder.prompts_seen
    assert "This is a adjective000 photo" in encoder.prompts_seen


def test_is_the_rule_on_vectors_for_each_part_of_speech(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache
) -> None:
    negatives = mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache)

    nouns = vo.text_bank(encoder, [*NOUNS, "blue", "cherry red"], templates="the nice {}")
    adjectives = vo.text_bank(encoder, ADJECTIVES, templates="This is a {} photo")
    parts = [select_negatives(classes, part) for part in (nouns, adjectives)]
    assert negatives.names == tuple(name for part in parts for name in part.names)
    assert torch.allclose(negatives.embeddings, torch.cat([part.embeddings for part in parts]), atol=1e-6)


def test_synonyms_stay_when_switched_off(encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache) -> None:
    lexicon = Lexicon("reds", {"noun.all": ("redness", "greens", "crimson", "x")})

    with_synonyms = mine(encoder, classes, MiningPlan(recipe_named("neglabel"), lexicon, keep=1.0), cache=cache)
    without = mine(
        encoder, classes, MiningPlan(recipe_named("neglabel"), lexicon, keep=1.0, synonyms=False), cache=cache
    )

    assert "redness" not in with_synonyms.negatives.names
    assert "redness" in without.negatives.names
    assert "greens" not in without.negatives.names


def test_csp_leaves_files_out_and_gives_each_adjective_a_superclass(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache
) -> None:
    recipe = recipe_named("csp")

    mining = mine(encoder, classes, MiningPlan(recipe, LEXICON, keep=0.5), cache=cache)

    assert "noun.person" not in mining.candidates
    adjectives = [name for name in mining.negatives.names if name.startswith("adjective")]
    assert all(name.split()[1] in recipe.superclasses for name in adjectives)
    assert len({name.split()[1] for name in adjectives}) > 3
    assert len(encoder.prompts_seen) - 2 == 8 * 30 + 4 * 31


def test_csps_superclass_depends_on_word_and_seed_alone() -> None:
    recipe = recipe_named("csp")
    drawn = recipe.phrases(ADJECTIVES, "adj", seed=0)

    assert drawn == recipe.phrases(ADJECTIVES[::-1], "adj", seed=0)[::-1]
    assert drawn != recipe.phrases(ADJECTIVES, "adj", seed=1)
    assert recipe.phrases(["dog"], "noun", seed=0) == ["dog"]


def test_superclasses_can_be_drawn_in_turn_as_the_authors_do() -> None:
    """Python's generator at seed 0 gives the places 13, 6 and 12 of fourteen."""
    recipe = recipe_named("csp")

    assert recipe.phrases(["red", "old", "wet"], "adj", seed=0, draw="in_turn") == [
        "red creature",
        "old area",
        "wet vista",
    ]
    assert recipe.phrases(["dog"], "noun", seed=0, draw="in_turn") == ["dog"]
    with pytest.raises(UnknownNameError, match="did you mean 'in_turn'"):
        recipe.phrases(["red"], "adj", seed=0, draw="in turn")


def test_a_draw_in_turn_reaches_the_prompts(encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache) -> None:
    mined = mine_negatives(encoder, classes, "csp", lexicon=LEXICON, keep=1.0, draw="in_turn", cache=cache)

    words = [word for word, _ in LEXICON.without(["noun.person"]).entries("adj")]
    everything = recipe_named("csp").phrases(words, "adj", 0, "in_turn")
    assert set(mined.names) - set(NOUNS) <= set(everything)
    assert {"adjective000 creature", "adjective001 area"} <= set(everything)


def test_a_noun_that_is_an_adjective_counts_as_asked(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache
) -> None:
    """Of 63 nouns one is an adjective too: noun000."""
    as_noun = mine_negatives(encoder, classes, lexicon=LEXICON, keep=1.0, cache=cache)
    as_adjective = mine_negatives(encoder, classes, lexicon=LEXICON, keep=1.0, overlap="adj", cache=cache)

    assert "the nice noun000" in encoder.prompts_seen
    assert "This is a noun000 photo" in encoder.prompts_seen
    assert sorted(as_noun.names) == sorted(as_adjective.names)
    assert as_noun.names.index("noun000") < 62 <= as_adjective.names.index("noun000") + 1
    with pytest.raises(UnknownNameError, match="part of speech"):
        mine_negatives(encoder, classes, lexicon=LEXICON, overlap="verb", cache=cache)


def test_the_words_nearest_to_a_class_can_count_as_classes() -> None:
    """Two classes and four words by hand: "a" and "b" are nearest to one class each, "c" lies beside "b"."""
    vectors = torch.tensor([[1.0, 0.1, 0.0], [0.1, 1.0, 0.0], [0.1, 0.9, 0.3], [0.0, 0.0, 1.0]])
    classes = torch.eye(3)[:2]

    rows, kept = most_similar([vectors[:1], vectors[1:]], classes, 1)
    both, _ = most_similar([vectors], classes, 2)

    assert rows == [0, 1]
    assert torch.equal(kept, vectors[:2])
    assert both == [0, 1, 2]
    assert most_similar([vectors], classes, 9)[0] == [0, 1, 2, 3]


def test_neighbours_of_the_classes_change_affinities_and_are_handed_out(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache
) -> None:
    done: list[int] = []
    plan = MiningPlan(recipe_named("neglabel"), LEXICON, keep=1.0, synonyms=False, class_neighbours=2)

    mining = mine(encoder, classes, plan, cache=cache, progress=done.append)

    assert sum(done) == plan.prompts
    assert mining.classes.names[:2] == classes.names
    assert 2 <= len(mining.classes) - 2 <= 4
    cosine = mining.negatives.embeddings @ classes.embeddings.T
    nearest = {mining.negatives.names[row] for row in cosine.topk(2, dim=0).indices.flatten().tolist()}
    assert set(mining.classes.names[2:]) == nearest
    expected = torch.quantile(mining.negatives.embeddings @ mining.classes.embeddings.T, 0.95, dim=1)
    assert torch.allclose(mining.affinity, expected, atol=1e-6)
    short = mine_negatives(encoder, classes, lexicon=LEXICON, keep=1.0, synonyms=False, class_neighbours=2, cache=cache)
    assert short.digest == mining.negatives.digest
    plain = mine(encoder, classes, MiningPlan(recipe_named("neglabel"), LEXICON, synonyms=False), cache=cache)
    assert plain.classes.names == classes.names
    with pytest.raises(ParameterError, match="class_neighbours=-1"):
        MiningPlan(recipe_named("neglabel"), LEXICON, class_neighbours=-1)


def test_csp_has_templates_for_sketches(encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache) -> None:
    mine_negatives(encoder, classes, "csp", lexicon=LEXICON, templates="csp_sketch", cache=cache)

    prompts = [prompt for prompt in encoder.prompts_seen if prompt.endswith("noun001") or "noun001." in prompt]
    assert prompts[:2] == ["a sketch of a noun001", "a sketch of the noun001"]
    assert set(templates_named("csp").templates) < set(templates_named("csp_sketch").templates)
    assert len(prompts) == 10


def test_another_class_list_encodes_nothing_again(encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache) -> None:
    first = mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache)
    seen = len(encoder.prompts_seen)

    again = mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache)
    other = mine_negatives(encoder, classes.take([0]), lexicon=LEXICON, cache=cache)

    assert len(encoder.prompts_seen) == seen
    assert again.digest == first.digest
    assert other.digest != first.digest


def test_another_encoder_or_template_has_its_own_vectors(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache
) -> None:
    mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache)
    other = FakeEncoder(dim=32, name="other")

    mine_negatives(other, classes, lexicon=LEXICON, cache=cache)
    seen = len(encoder.prompts_seen)
    mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache, templates="a drawing of {}")

    assert len(other.prompts_seen) == 63 + 31
    assert encoder.prompts_seen[seen:] == [f"a drawing of {word}" for word, _ in LEXICON.entries("noun")]


def test_an_interrupted_run_goes_on_where_it_stopped(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "PHRASES_PER_ENTRY", 20)
    done: list[int] = []

    def interrupt(count: int) -> None:
        done.append(count)
        if sum(done) >= 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache, batch_size=10, progress=interrupt)
    seen = len(encoder.prompts_seen)
    done.clear()
    negatives = mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache, progress=done.append)

    assert len(encoder.prompts_seen) - seen == 63 + 31 - 40  # two chunks of 20 were finished
    assert sum(done) == 63 + 31
    assert negatives.digest == mine_negatives(encoder, classes, lexicon=LEXICON, cache=cache).digest


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_size_of_the_chunks_decides_nothing(
    size: int, encoder: FakeEncoder, classes: vo.TextBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mine_negatives(encoder, classes, lexicon=LEXICON, cache=DiskCache(tmp_path / "whole"))

    monkeypatch.setattr(candidates, "PHRASES_PER_ENTRY", size)
    chunked = mine_negatives(encoder, classes, lexicon=LEXICON, cache=DiskCache(tmp_path / "chunked"))

    assert chunked.digest == whole.digest


def test_works_when_nothing_can_be_kept(encoder: FakeEncoder, classes: vo.TextBank, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")

    negatives = mine_negatives(encoder, classes, lexicon=LEXICON, cache=DiskCache(blocked / "below"))

    assert len(negatives) == 13


def test_a_lexicon_may_be_words_or_a_file(
    encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache, tmp_path: Path
) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(NOUNS))

    from_file = mine_negatives(encoder, classes, lexicon=path, cache=cache)

    assert mine_negatives(encoder, classes, lexicon=list(NOUNS), cache=cache).digest == from_file.digest
    assert mine_negatives(encoder, classes, lexicon=str(path), cache=cache).digest == from_file.digest


def test_what_is_wrong_is_said(encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'neglabel'"):
        mine_negatives(encoder, classes, "neglabels", lexicon=LEXICON, cache=cache)
    with pytest.raises(LexiconError, match=r"keep=0\.15 of 1 candidates is none"):
        mine_negatives(encoder, classes, lexicon=["one"], cache=cache)
    with pytest.raises(LexiconError, match="no word list at absent"):
        mine_negatives(encoder, classes, lexicon="absent", cache=cache)
    with pytest.raises(LexiconError, match="brace"):
        mine_negatives(encoder, classes, lexicon=["{}"], cache=cache)
    with pytest.raises(TemplateError):
        mine_negatives(encoder, classes, lexicon=LEXICON, templates=["no place"], cache=cache)
    with pytest.raises(VectorError, match="the bank has dimension 8, fake 32"):
        mine_negatives(encoder, vo.TextBank(("a",), torch.ones(1, 8)), lexicon=LEXICON, cache=cache)


def test_report_says_what_was_mined(encoder: FakeEncoder, classes: vo.TextBank, cache: DiskCache) -> None:
    plan = MiningPlan(recipe_named("neglabel"), LEXICON, keep=1.0, synonyms=False)
    mining = mine(encoder, classes, plan, cache=cache)

    summary = report(mining, classes, top=5)

    assert (summary.negatives, summary.candidates) == (92, 92)
    assert [(share.file, share.kept) for share in summary.files] == [
        ("noun.person", 32),
        ("adj.all", 30),
        ("noun.artifact", 30),
    ]
    assert (summary.nearest[0].negative, summary.nearest[0].nearest_class) == ("cherry red", "red")
    cosine = mining.negatives.embeddings[mining.negatives.names.index("cherry red")] @ classes.embeddings[0]
    assert summary.nearest[0].cosine == pytest.approx(cosine.item(), abs=1e-6)
    assert len(summary.samples) == 5
    assert summary.samples[0] == mining.negatives.names[int(mining.affinity.argmin())]
    assert summary.classes_passed_over == 0


@pytest.mark.slow
def test_real_text_tower_gives_the_same_selection_on_any_batch_size(tmp_path: Path) -> None:
    encoder = vo.load_encoder("embedded")
    classes = vo.text_bank(encoder, ["cat", "dog", "car", "tree", "boat"])
    words = Lexicon("motives", {"noun.all": _words()})

    names = {
        mine_negatives(
            encoder, classes, lexicon=words, batch_size=size, cache=DiskCache(tmp_path / str(size)), keep=0.3
        ).names
        for size in (1, 16, 256)
    }

    assert len(names) == 1


def _words() -> tuple[str, ...]:
    from vlm_ood.lexicons import wordnet

    return wordnet("full").files["noun.shape"][:60]
