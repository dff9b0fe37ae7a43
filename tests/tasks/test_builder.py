"""The builder makes what the library's own functions make, from specs, for anything that encodes text."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import vlm_ood as vo
from tests.fakes import FakeEncoder
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.errors import CapabilityError, ClassNamesError, InputError
from vlm_ood.io.cache import DiskCache
from vlm_ood.tasks import (
    Builder,
    DetectorSpec,
    MinedBank,
    NoTowerBank,
    StoredBank,
    StoredSupport,
    TaskSpec,
    TemplateBank,
)
from vlm_ood.types import Support, TextBank

COLOURS = TemplateBank(("red", "blue"))
WORDS = ("lime", "white", "black", "pink")


class TextOnly(TextEncoder):
    """A port as the server has it: the text half of an encoder and nothing else."""

    def __init__(self, encoder: FakeEncoder) -> None:
        self.name, self.digest, self.dim, self.scale = encoder.name, encoder.digest, encoder.dim, encoder.scale
        self.device, self.dtype = encoder.device, encoder.dtype
        self._encoder = encoder

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        return self._encoder.encode_text(prompts, normalise=normalise, batch_size=batch_size, progress=progress)


class StoredParts:
    """Stored parts by source."""

    def __init__(self, **banks: TextBank) -> None:
        self.banks = banks

    def bank(self, stored: StoredBank) -> TextBank:
        return self.banks[stored.source]

    def support(self, stored: StoredSupport, classes: TextBank) -> Support:
        return Support(vo.ImageFeatures(torch.eye(classes.dim)[:2]), torch.tensor([0, len(classes) - 1]))


@pytest.fixture
def banks(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path)


def test_a_detector_scores_as_one_made_by_hand(banks: DiskCache) -> None:
    encoder = FakeEncoder()
    spec = DetectorSpec("neglabel", TaskSpec(COLOURS, "fake", MinedBank(words=WORDS, keep=1.0)))
    fitted = Builder(encoder, banks=banks).fit(spec)
    classes = vo.text_bank(encoder, ["red", "blue"], cache=banks)
    negatives = vo.mine_negatives(encoder, classes, lexicon=list(WORDS), keep=1.0)
    by_hand = vo.create_detector("neglabel").fit(vo.Task(classes=classes, negatives=negatives))
    assert fitted.digest == by_hand.digest
    images = vo.ImageFeatures(torch.randn(5, encoder.dim, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(fitted.score(images), by_hand.score(images))


def test_the_text_half_is_enough(banks: DiskCache) -> None:
    port = TextOnly(FakeEncoder())
    spec = TaskSpec(COLOURS, "fake", MinedBank(words=WORDS, keep=1.0), TemplateBank(("red", "blue"), ("not {}",)))
    made = Builder(port, banks=banks).task(spec)
    assert made.negatives is not None
    assert made.no is not None
    assert set(made.negatives.names) == set(WORDS)
    assert made.no.names == ("red", "blue")


def test_stored_parts_come_from_their_source() -> None:
    stored = StoredParts(classes=TextBank(("a", "b"), torch.eye(4)[:2]), words=TextBank(("c",), torch.eye(4)[2:3]))
    spec = TaskSpec(StoredBank("classes"), negatives=StoredBank("words"), support=StoredSupport("x"))
    task = Builder(None, stored).task(spec)
    assert task.classes is stored.banks["classes"]
    assert task.negatives is stored.banks["words"]
    assert task.support is not None
    assert task.support.labels.tolist() == [0, 1]


def test_words_are_mined_against_the_classes_of_their_own_spec(banks: DiskCache) -> None:
    words = ("crimson", "navy")
    against_red, against_blue = (
        Builder(FakeEncoder(), banks=banks).bank(
            MinedBank(words=words, keep=0.5, synonyms=False, classes=TemplateBank((name,)))
        )
        for name in ("red", "blue")
    )
    assert against_red.names == ("navy",)
    assert against_blue.names == ("crimson",)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(InputError, match="names need an encoder"):
        Builder(None).task(TaskSpec(COLOURS))
    with pytest.raises(InputError, match="stored part"):
        Builder(None).task(TaskSpec(StoredBank("x")))
    with pytest.raises(ClassNamesError, match="mined against classes"):
        Builder(FakeEncoder()).bank(MinedBank(words=("a",)))
    with pytest.raises(CapabilityError, match="clipn-bank"):
        Builder(TextOnly(FakeEncoder())).bank(NoTowerBank("x", names=("cat",)))


def test_progress_counts_every_prompt(banks: DiskCache) -> None:
    done: list[int] = []
    spec = TaskSpec(COLOURS, "fake", MinedBank(words=WORDS, keep=1.0))
    Builder(FakeEncoder(), banks=banks, progress=done.append).task(spec)
    assert sum(done) == 2 + len(WORDS)
