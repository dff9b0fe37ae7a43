"""What the client asks about banks, and what it makes of the answers."""

import inspect
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from pydantic import TypeAdapter

import vlm_ood as vo
from tests.client.transports import FakeClock, client_of, in_turn, parts_of
from vlm_ood.client import AsyncClient, BankInfo, Client, DetectorInfo, PreviewRow
from vlm_ood.client.files import File
from vlm_ood.errors import ClassNamesError, ImageError, InputError, ServerError, VectorError
from vlm_ood.io.vectors import load_bank, save_bank, save_features
from vlm_ood.tasks import MinedBank, NoTowerBank, StoredBank, StoredSupport, TemplateBank

SUMMARY: dict[str, Any] = {
    "id": "bnk_1",
    "kind": "text",
    "label": "",
    "encoder": "fake",
    "rows": 2,
    "dim": 3,
    "digest": "d1",
    "created_at": "2026-01-02T03:04:05Z",
}
VIEW: dict[str, Any] = SUMMARY | {"state": "ready", "error": None, "spec": None, "preview": None, "failed": []}


def answer(status: int = 201, **changes: Any) -> httpx.Response:
    return httpx.Response(status, json=VIEW | changes)


@pytest.fixture
def bank() -> vo.TextBank:
    return vo.TextBank(("sofa", "größe"), torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]]))


def test_a_bank_is_uploaded_as_the_file_that_save_bank_writes(
    clock: FakeClock, tmp_path: Path, bank: vo.TextBank
) -> None:
    save_bank(tmp_path / "bank.safetensors", bank)
    handle, seen = in_turn(answer(), answer())
    with client_of(handle, clock) as client:
        made = client.upload_bank(bank, encoder="other", label="words")
        client.upload_bank(tmp_path / "bank.safetensors")
    first, second = map(parts_of, seen)
    assert (made.id, made.kind, made.rows, made.created_at.year) == ("bnk_1", "text", 2, 2026)
    assert seen[0].url.path == "/v1/banks"
    assert (first["encoder"], first["label"]) == ([b"other"], [b"words"])
    assert second.keys() == {"file"}
    for (content,) in (first["file"], second["file"]):  # safetensors writes metadata in any order
        (tmp_path / "sent.safetensors").write_bytes(content)
        sent = load_bank(tmp_path / "sent.safetensors")
        assert (sent.names, sent.digest) == (bank.names, bank.digest)
        assert torch.equal(sent.embeddings, bank.embeddings)


@pytest.mark.parametrize(
    "obstacle", [httpx.Response(503, headers={"Retry-After": "3"}), httpx.ReadError("reset")], ids=["busy", "lost"]
)
def test_an_upload_is_repeated_for_the_same_content_has_the_same_id(
    clock: FakeClock, bank: vo.TextBank, obstacle: httpx.Response | Exception
) -> None:
    handle, seen = in_turn(obstacle, answer(200))
    with client_of(handle, clock) as client:
        assert client.upload_bank(bank).id == "bnk_1"
    assert parts_of(seen[0])["file"] == parts_of(seen[1])["file"]


def test_a_broken_bank_is_refused_before_anything_is_sent(clock: FakeClock, tmp_path: Path) -> None:
    handle, seen = in_turn()
    features = tmp_path / "features.safetensors"
    save_features(features, vo.ImageFeatures(torch.eye(2)))
    with client_of(handle, clock) as client:
        with pytest.raises(VectorError, match="embeddings"):
            client.upload_bank(features)
        with pytest.raises(FileNotFoundError):
            client.upload_bank(tmp_path / "none")
    assert not seen


def test_labelled_images_go_in_one_request_with_a_label_each(clock: FakeClock, tmp_path: Path) -> None:
    failed = [{"index": 2, "image": "3", "error": {"code": "image", "message": "not a picture"}}]
    handle, seen = in_turn(answer(kind="support", images_per_class={"cat": 1, "dog, big": 1}, failed=failed))
    shots: dict[str, list[File]] = {"cat": [("c1", b"1"), tmp_path / "none"], "dog, big": [("d1", b"2"), ("d2", b"3")]}
    with client_of(handle, clock) as client:
        made = client.upload_support(shots, label="shots")
    sent = parts_of(seen[0])
    assert sent["images"] == [b"1", b"2", b"3"]
    assert json.loads(sent["labels"][0]) == ["cat", "dog, big", "dog, big"]
    assert made.images_per_class == {"cat": 1, "dog, big": 1}
    assert [(each.image, each.error) for each in made.failed][1] == ("d2", "not a picture")
    assert made.failed[0].image == str(tmp_path / "none")
    assert "no such file" in (made.failed[0].error or "")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"cat": [b"1"], "dog": ["none.png"]}, "no image of the class 'dog': no such file: none.png"),
        ({"cat": [b"1"], "dog": []}, "no image of the class 'dog': give at least one"),
        ({}, "give at least one"),
        ({"cat": [b"1"] * 513}, "512 images"),
        ({"cat": [bytes(20 * 2**20)] * 4}, "67,108,864 bytes"),
    ],
    ids=["unreadable", "empty", "nothing", "many", "large"],
)
def test_labelled_images_that_make_no_bank_are_not_sent(clock: FakeClock, images: dict[str, Any], message: str) -> None:
    handle, seen = in_turn()
    with client_of(handle, clock) as client, pytest.raises((ImageError, InputError), match=message):
        client.upload_support(images)
    assert not seen


def test_a_bank_of_names_is_made_by_the_server(clock: FakeClock) -> None:
    handle, seen = in_turn(answer(spec={"kind": "templates"}))
    with client_of(handle, clock) as client:
        client.make_bank(TemplateBank(("cat", "dog"), ("a {}", "the {}")), encoder="other", label="pets")
    assert json.loads(seen[0].content) == {
        "kind": "templates",
        "names": ["cat", "dog"],
        "templates": ["a {}", "the {}"],
        "encoder": "other",
        "label": "pets",
    }


def test_a_mined_bank_names_its_classes_and_whose_the_templates_are(clock: FakeClock) -> None:
    handle, seen = in_turn(answer(), answer())
    with client_of(handle, clock) as client:
        client.make_bank(MinedBank("csp", templates="single", classes=TemplateBank(("cat",), "clipn_yes"), seed=3))
        client.make_bank(MinedBank(words=("sofa",), keep=1.0, classes=StoredBank("bnk_7")))
    first, second = (json.loads(request.content) for request in seen)
    assert (first["kind"], first["recipe"], first["seed"], first["classes"]) == ("mined", "csp", 3, ["cat"])
    assert (first["templates"], first["negative_templates"]) == ("clipn_yes", "single")
    assert (second["classes"], second["words"], second["keep"]) == ({"bank": "bnk_7"}, ["sofa"], 1.0)
    assert not {"templates", "negative_templates"} & second.keys()


@pytest.mark.parametrize(
    ("spec", "message"),
    [(MinedBank(), "give MinedBank"), (MinedBank(classes=NoTowerBank("t", names=("a",))), "kind 'no-tower'")],
)
def test_a_bank_without_usable_classes_is_not_asked_for(clock: FakeClock, spec: MinedBank, message: str) -> None:
    handle, seen = in_turn()
    with client_of(handle, clock) as client, pytest.raises(InputError, match=message):
        client.make_bank(spec)
    assert not seen


MINED = MinedBank(classes=TemplateBank(("cat",)))


def test_the_client_waits_until_a_bank_is_made(clock: FakeClock) -> None:
    preparing = answer(202, state="preparing", rows=None)
    handle, seen = in_turn(preparing, answer(200, state="preparing", rows=None), answer(200, rows=9))
    with client_of(handle, clock) as client:
        made = client.make_bank(MINED)
    assert (made.state, made.rows) == ("ready", 9)
    assert [request.url.path for request in seen] == ["/v1/banks", "/v1/banks/bnk_1", "/v1/banks/bnk_1"]
    assert clock.pauses == [2.0, 2.0]


def test_the_client_waits_no_longer_than_asked(clock: FakeClock) -> None:
    preparing = answer(202, state="preparing", rows=None)
    handle, seen = in_turn(*[preparing] * 9)
    with client_of(handle, clock) as client:
        assert client.make_bank(MINED, wait_s=0.0).state == "preparing"
        assert len(seen) == 1
        assert client.make_bank(MINED, wait_s=3.0).state == "preparing"
    assert clock.pauses == [2.0, 1.0]


def test_a_bank_that_cannot_be_made_is_an_error_with_its_reason(clock: FakeClock) -> None:
    failed = answer(200, state="failed", error="the lexicon is empty: widen it")
    handle, _ = in_turn(answer(202, state="preparing"), failed)
    with client_of(handle, clock) as client, pytest.raises(ServerError, match="the lexicon is empty"):
        client.make_bank(MINED)


def test_banks_are_listed_shown_and_deleted(clock: FakeClock) -> None:
    pages = [{"banks": [SUMMARY], "next": "bnk_1"}, {"banks": [SUMMARY | {"id": "bnk_0", "rows": None}], "next": None}]
    shown = [{"name": "sofa", "nearest": [{"name": "chair", "cosine": 0.9}]}]
    handle, seen = in_turn(
        *(httpx.Response(200, json=page) for page in pages), answer(200, preview=shown), httpx.Response(204)
    )
    with client_of(handle, clock) as client:
        assert [(each.id, each.rows) for each in client.banks()] == [("bnk_1", 2), ("bnk_0", None)]
        preview = client.get_bank("../detectors", limit=5, against="bnk_2").preview
        client.delete_bank("bnk_1")
    assert isinstance(preview, tuple)
    assert isinstance(preview[0], PreviewRow)
    assert (preview[0].nearest[0].name, preview[0].nearest[0].cosine) == ("chair", 0.9)
    assert seen[1].url.params["after"] == "bnk_1"
    assert seen[2].url.raw_path == b"/v1/banks/..%2Fdetectors?limit=5&against=bnk_2"
    assert (seen[3].method, seen[3].url.path) == ("DELETE", "/v1/banks/bnk_1")


def test_a_bank_takes_the_place_of_every_part(clock: FakeClock) -> None:
    made = TypeAdapter(BankInfo).validate_python(VIEW)
    view = {
        "id": "det_1",
        "method": "neglabel",
        "encoder": "fake",
        "class_count": 2,
        "calibrated": False,
        "created_at": "2026-01-02T03:04:05Z",
        "classes": {"bank": "bnk_1"},
        "negatives": {"bank": "bnk_2"},
        "no": None,
        "support": {"bank": "bnk_4"},
    }
    handle, seen = in_turn(httpx.Response(201, json=view))
    parts: dict[str, Any] = {"negatives": StoredBank("bnk_2"), "no": StoredBank("bnk_3"), "support": StoredSupport("s")}
    with client_of(handle, clock) as client:
        detector = client.create_detector(made, method="neglabel", **parts)
        client.score([b"x"], classes=made, **parts)
        client.score([b"x"], classes=["a", "b"], negatives={"words": ["c"]})
    asked = {
        name: {"bank": bank} for name, bank in zip(("negatives", "no", "support"), ("bnk_2", "bnk_3", "s"), strict=True)
    }
    assert json.loads(seen[0].content) == {"classes": {"bank": "bnk_1"}, "method": "neglabel", **asked}
    form = parts_of(seen[1])
    assert json.loads(form["classes"][0]) == {"bank": "bnk_1"}
    assert {name: json.loads(form[name][0]) for name in asked} == asked
    assert json.loads(parts_of(seen[2])["negatives"][0]) == {"words": ["c"]}
    assert isinstance(detector, DetectorInfo)
    assert (detector.classes, detector.negatives, detector.no) == (StoredBank("bnk_1"), StoredBank("bnk_2"), None)
    assert detector.support == StoredBank("bnk_4")


def test_one_string_is_no_list_of_class_names_here_either(clock: FakeClock) -> None:
    with client_of(in_turn()[0], clock) as client, pytest.raises(ClassNamesError, match="give a list"):
        client.create_detector("cat")


@pytest.mark.parametrize("name", [name for name in vars(Client) if not name.startswith("_")])
def test_both_clients_offer_the_same_calls(name: str) -> None:
    blocking, awaiting = (inspect.signature(getattr(each, name)) for each in (Client, AsyncClient))
    assert blocking == awaiting
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name))
