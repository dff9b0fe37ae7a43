"""The client's calls about banks against the real application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

import vlm_ood as vo
from service.app import create_app
from service.banks.records import BankJson
from service.settings import Settings
from tests.client.transports import URL
from tests.fakes import FakeEncoder
from tests.service.fakes import FakeEngine, png
from vlm_ood.client import AsyncClient
from vlm_ood.client.banks import bank_fields
from vlm_ood.errors import ServerError
from vlm_ood.io.vectors import save_bank
from vlm_ood.tasks import MinedBank, StoredBank, TemplateBank

COLOURS = ("red", "blue")
WORDS = ("sofa", "lamp", "chair")


@asynccontextmanager
async def connected(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """A client of a real application, without a socket."""
    engine = FakeEngine()
    app = create_app(Settings(data=tmp_path / "data", encoders=engine.encoder_names()), engine)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(URL, transport=httpx.ASGITransport(app)) as client,
    ):
        yield client


@pytest.fixture
def classes() -> vo.TextBank:
    return vo.text_bank(FakeEncoder(name="fake"), COLOURS)


@pytest.fixture
def negatives() -> vo.TextBank:
    return vo.text_bank(FakeEncoder(name="fake"), WORDS)


async def test_uploaded_banks_score_as_the_library_does(
    tmp_path: Path, classes: vo.TextBank, negatives: vo.TextBank
) -> None:
    save_bank(tmp_path / "words.safetensors", negatives)
    pictures = [png("red"), png("lime")]
    async with connected(tmp_path) as client:
        ids = await client.upload_bank(classes, label="classes")
        words = await client.upload_bank(tmp_path / "words.safetensors")
        again = await client.upload_bank(negatives, label="again")
        answer = await client.score(pictures, classes=ids, method="neglabel", negatives=words)
        by_name = await client.score(pictures, classes=COLOURS, method="neglabel", negatives=StoredBank(words.id))
    fitted = vo.create_detector("neglabel").fit(vo.Task(classes=classes, negatives=negatives))
    expected = fitted.score(
        FakeEncoder(name="fake").encode_images([Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")])
    )
    assert [result.score for result in answer.results] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [result.score for result in by_name.results] == pytest.approx(expected.tolist(), abs=1e-5)
    assert (again.id, again.label, words.rows) == (words.id, "", 3)


async def test_a_bank_is_shown_used_and_deleted_when_nothing_uses_it(
    tmp_path: Path, classes: vo.TextBank, negatives: vo.TextBank
) -> None:
    async with connected(tmp_path) as client:
        ids, words = await client.upload_bank(classes), await client.upload_bank(negatives)
        shown = await client.get_bank(words.id, limit=2, against=ids.id)
        detector = await client.create_detector(ids, method="neglabel", negatives=words)
        kept = await client.get(detector.id)
        with pytest.raises(ServerError, match=detector.id) as used:
            await client.delete_bank(words.id)
        await client.delete(detector.id)
        await client.delete_bank(words.id)
        left = await client.banks()
    assert shown.preview is not None
    assert [row.name for row in shown.preview] == ["sofa", "lamp"]
    assert {near.name for near in shown.preview[0].nearest} == set(COLOURS)
    assert (kept.classes, kept.negatives) == (StoredBank(ids.id), StoredBank(words.id))
    assert used.value.status == 409
    assert [bank.id for bank in left] == [ids.id]


async def test_labelled_images_are_counted_per_class_and_failures_keep_their_names(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        made = await client.upload_support(
            {"red": [png("red"), ("broken", b"none")], "blue": [("b", png("blue"))]}, encoder="other", label="few"
        )
    assert (made.kind, made.encoder, made.label, made.rows) == ("support", "other", "few", 2)
    assert made.images_per_class == {"red": 1, "blue": 1}
    assert [failure.image for failure in made.failed] == ["broken"]
    assert made.failed[0].error


async def test_banks_are_made_from_names_and_from_words(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        names = await client.make_bank(TemplateBank(COLOURS, ("a {}", "the {}")))
        mined = await client.make_bank(MinedBank(words=WORDS, keep=1.0, quantile=1.0, classes=StoredBank(names.id)))
        shown = await client.get_bank(mined.id)
    assert (names.state, names.rows) == ("ready", 2)
    assert names.spec is not None
    assert names.spec["templates"] == ["a {}", "the {}"]
    assert shown.preview is not None
    assert {row.name for row in shown.preview} <= set(WORDS)
    assert shown.preview


@pytest.mark.parametrize(
    "spec",
    [
        TemplateBank(COLOURS, "clipn_yes"),
        MinedBank("csp", templates="single", classes=TemplateBank(COLOURS), words=WORDS, draw="in_turn"),
        MinedBank(only=("noun.animal",), under=("animal.n.01",), not_under=("dog.n.01",), classes=StoredBank("bnk_1")),
    ],
)
def test_every_field_of_a_spec_is_one_that_the_server_reads(spec: TemplateBank | MinedBank) -> None:
    fields = bank_fields(spec)
    asked = BankJson.model_validate(fields).root.model_dump(exclude={"label", "encoder"})
    assert {name: asked[name] for name in fields} == fields
