"""Banks as files: stored by content, shown with neighbours, bounded; whatever else a file holds is a clear error."""

import json

import pytest
import torch
from safetensors.torch import save
from starlette.testclient import TestClient

from service.banks import uploads
from tests.service.banks.files import DIM, bank_file, colours, raw_file, tensor, upload, uploaded, vectors
from tests.service.conftest import Start
from tests.service.fakes import FakeEngine, files, png
from vlm_ood.types import TextBank


def test_an_uploaded_bank_is_stored_and_shown(client: TestClient) -> None:
    answer = upload(client, colours("red", "blue", "lime"), label="colours")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/banks/{made['id']}"
    assert (made["kind"], made["label"], made["encoder"]) == ("text", "colours", "fake")
    assert (made["rows"], made["dim"], made["state"], made["spec"]) == (3, DIM, "ready", None)
    shown = client.get(f"/v1/banks/{made['id']}").json()
    assert [row["name"] for row in shown["preview"]] == ["red", "blue", "lime"]
    (listed,) = client.get("/v1/banks").json()["banks"]
    assert listed == {name: made[name] for name in listed}


def test_the_same_content_has_the_same_id_whatever_its_label_and_claimed_digest(client: TestClient) -> None:
    bank = colours("red", "blue")
    first = upload(client, bank, label="a")
    again = upload(client, TextBank(bank.names, bank.embeddings, digest="another"), label="b")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert upload(client, colours("blue", "red")).json()["id"] != first.json()["id"]
    assert upload(client, bank, encoder="other").json()["id"] != first.json()["id"]


def test_the_nearest_rows_of_the_bank_or_of_another_are_shown(client: TestClient) -> None:
    bank = TextBank(("a", "b", "c", "d"), torch.eye(DIM)[:4] + torch.eye(DIM)[[1, 0, 3, 2]] * 0.5)
    other = TextBank(("x", "y"), torch.eye(DIM)[[0, 3]])
    mine, theirs = uploaded(client, bank), uploaded(client, other)
    shown = client.get(f"/v1/banks/{mine}", params={"limit": 3}).json()["preview"]
    assert [(row["name"], row["nearest"][0]["name"]) for row in shown] == [("a", "b"), ("b", "a"), ("c", "d")]
    assert shown[0]["nearest"][0]["cosine"] == pytest.approx(0.8)
    assert len(shown[0]["nearest"]) == 3
    against = client.get(f"/v1/banks/{mine}", params={"against": theirs}).json()["preview"]
    assert [row["nearest"][0]["name"] for row in against] == ["x", "x", "y", "y"]
    assert [len(row["nearest"]) for row in against] == [2, 2, 2, 2]
    itself = client.get(f"/v1/banks/{mine}", params={"against": mine, "limit": 1}).json()["preview"]
    assert itself[0]["nearest"][0] == {"name": "a", "cosine": pytest.approx(1.0)}


def test_a_preview_in_chunks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.banks import preview

    bank = TextBank(tuple(map(str, range(50))), torch.randn(50, DIM, generator=torch.Generator().manual_seed(0)))
    whole = preview.preview(bank, 20)
    monkeypatch.setattr(preview, "CHUNK", 7)
    for row, same in zip(preview.preview(bank, 20), whole, strict=True):
        assert [near.name for near in row.nearest] == [near.name for near in same.nearest]
        assert [near.cosine for near in row.nearest] == pytest.approx([near.cosine for near in same.nearest])
    cosine = bank.embeddings @ bank.embeddings.T
    cosine.fill_diagonal_(-2)
    assert [int(row.nearest[0].name) for row in whole] == cosine[:20].argmax(dim=1).tolist()


def test_a_bank_of_one_row_has_no_neighbours(client: TestClient) -> None:
    shown = client.get(f"/v1/banks/{uploaded(client, colours('red'))}").json()
    assert shown["preview"] == [{"name": "red", "nearest": []}]


def test_banks_are_compared_with_banks_of_names_and_the_same_encoder_alone(client: TestClient) -> None:
    mine, theirs = uploaded(client, colours("red")), uploaded(client, colours("red"), encoder="other")
    images = client.post("/v1/banks", files=files(png()), data={"labels": "red"}).json()["id"]
    assert client.get(f"/v1/banks/{mine}", params={"against": theirs}).status_code == 422
    assert client.get(f"/v1/banks/{mine}", params={"against": images}).status_code == 422
    assert client.get(f"/v1/banks/{mine}", params={"against": "bnk_0"}).status_code == 404


def test_pages_follow_each_other_and_end(client: TestClient) -> None:
    made = {uploaded(client, colours(f"name {row}")) for row in range(5)}
    seen: list[str] = []
    after = None
    for _ in range(3):
        page = client.get("/v1/banks", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [bank["id"] for bank in page["banks"]]
        after = page["next"]
    assert after is None
    assert (len(seen), set(seen)) == (5, made)


def test_a_deleted_bank_is_gone(client: TestClient) -> None:
    bank = uploaded(client, colours("red"))
    assert client.delete(f"/v1/banks/{bank}").status_code == 204
    assert client.get(f"/v1/banks/{bank}").status_code == 404
    assert client.delete(f"/v1/banks/{bank}").status_code == 404
    assert uploaded(client, colours("red")) != bank, "a name is never used again"


def test_names_are_those_of_the_file_without_surrounding_space_or_numbers(client: TestClient) -> None:
    named = save({"embeddings": torch.eye(DIM)[:2]}, {"names": '[" red ", "blå"]'})
    unnamed = save({"embeddings": torch.eye(DIM)[:2]})
    for content, names in ((named, ["red", "blå"]), (unnamed, ["class 0", "class 1"])):
        shown = client.get(f"/v1/banks/{uploaded(client, content)}").json()
        assert [row["name"] for row in shown["preview"]] == names


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_vectors_of_any_float_type_and_length_are_read(client: TestClient, dtype: torch.dtype) -> None:
    content = save({"embeddings": (torch.eye(DIM)[:2] * 3).to(dtype)}, {"names": '["a", "b"]'})
    shown = client.get(f"/v1/banks/{uploaded(client, content)}").json()
    assert shown["preview"][0]["nearest"][0]["cosine"] == 0


BROKEN = vectors(2)[:-4] + b"\x00\x00\xc0\x7f"  # the last value is not a number
GOOD = {"embeddings": tensor([2, DIM])}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a readable safetensors file"),
        (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "send a safetensors file"),
        (raw_file(GOOD, vectors(2), length=2**60), "header is 1,152,921,504,606,846,976 bytes long"),
        (raw_file(GOOD, vectors(2), length=uploads.MAX_HEADER_BYTES), "not a readable safetensors file"),
        (raw_file(b"{" * 100), "not a readable safetensors file"),
        (raw_file(b'{"a":' * 100_000), "not a readable safetensors file"),
        (raw_file(GOOD, vectors(2)[:-1]), "not a readable safetensors file"),
        (raw_file(GOOD, vectors(3)), "not a readable safetensors file"),
        (raw_file(GOOD | {"b": tensor([2, DIM], start=64, end=192)}, vectors(3)), "offset"),
        (raw_file(GOOD | {"b": tensor([2, DIM], start=128, end=256)}, vectors(4)), "no other tensor"),
        (raw_file({"vectors": tensor([2, DIM])}, vectors(2)), "the tensor 'embeddings'"),
        (raw_file({"embeddings": tensor([2**62, 2**62], end=128)}, vectors(2)), "overflow"),
        (raw_file({"embeddings": tensor([0, DIM])}), "empty"),
        (raw_file({"embeddings": tensor([32] + [1] * 60, end=128)}, vectors(2)), "axes"),
        (raw_file({"embeddings": tensor([32], end=128)}, vectors(2)), "(c, d)"),
        (raw_file({"embeddings": tensor([2, DIM], dtype="F8_E4M3", end=32)}, bytes(32)), "F8_E4M3"),
        (raw_file({"embeddings": tensor([4, DIM], dtype="BOOL", end=64)}, bytes(64)), "BOOL"),
        (raw_file({"embeddings": tensor([1, DIM], dtype="I64", end=128)}, vectors(2)), "floating type"),
        (raw_file({"embeddings": tensor([2, DIM], dtype="C64", end=256)}, bytes(256)), "C64"),
        (raw_file({"embeddings": tensor([2, DIM - 1])}, vectors(2, DIM - 1)), "dimension 15, the encoder's 16"),
        (raw_file({"embeddings": tensor([1, 2 * DIM])}, vectors(2)), "dimension 32"),
        (raw_file(GOOD, BROKEN), "rows 1"),
        (raw_file(GOOD, bytes(128)), "length zero"),
        (raw_file(GOOD | {"__metadata__": {"names": 3}}, vectors(2)), "not a readable safetensors file"),
        (raw_file(GOOD | {"__metadata__": {"names": "a, b"}}, vectors(2)), "names"),
        (raw_file(GOOD | {"__metadata__": {"names": "[" * 50_000}}, vectors(2)), "names"),
        (raw_file(GOOD | {"__metadata__": {"names": '["a"]'}}, vectors(2)), "1 names for 2"),
        (raw_file(GOOD | {"__metadata__": {"names": '["a", 1]'}}, vectors(2)), "names"),
        (raw_file(GOOD | {"__metadata__": {"names": '["a", " "]'}}, vectors(2)), "row 1 is empty"),
        (raw_file(GOOD | {"__metadata__": {"names": json.dumps(["a", "b\x00"])}}, vectors(2)), "names"),
        (raw_file(GOOD | {"__metadata__": {"names": json.dumps(["a", "b" * 201])}}, vectors(2)), "200 characters"),
        (raw_file(GOOD | {"__metadata__": {"names": '["a", "\\ud800"]'}}, vectors(2)), "names"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_bank_is_a_clear_error(client: TestClient, content: bytes, told: str) -> None:
    answer = upload(client, content)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].rpartition(":")[2] in {"vectors", "class-names"}
    assert told in answer.json()["detail"]
    assert client.get("/v1/banks").json()["banks"] == []


def test_what_the_form_holds_is_checked(client: TestClient) -> None:
    bank = bank_file(colours("red"))
    file = ("file", ("a", bank, "application/octet-stream"))
    assert client.post("/v1/banks", files=[file, file]).status_code == 400
    assert client.post("/v1/banks", files=[file, *files(png())]).status_code == 400
    assert client.post("/v1/banks", files=[("unknown", ("a", bank, "text/plain"))]).status_code == 400
    assert client.post("/v1/banks", files={"file": ("", b"")}).status_code in {400, 422}
    assert client.post("/v1/banks", data={"label": "x"}).status_code == 415
    assert (
        client.post("/v1/banks", content=bank, headers={"content-type": "application/octet-stream"}).status_code == 415
    )
    assert upload(client, bank, labels="red").status_code == 422
    assert upload(client, bank, encoder="/etc/passwd").json()["type"].endswith(":unknown-name")
    assert upload(client, bank, label="x" * 201).status_code == 422


@pytest.mark.parametrize("label", ["[1]", '["a"]', '{"a": 1}'])
def test_a_label_that_looks_like_json_is_a_label(client: TestClient, label: str) -> None:
    answer = upload(client, colours("red"), label=label)
    assert answer.status_code == 201, answer.text
    assert answer.json()["label"] == label


def test_the_document_has_all_three_forms(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"]["/v1/banks"]["post"]["requestBody"]["content"]
    file, images = content["multipart/form-data"]["schema"]["oneOf"]
    assert (set(file["required"]), set(images["required"])) == ({"file"}, {"images", "labels"})
    spec = document["components"]["schemas"]["BankJson"]
    assert set(spec["discriminator"]["mapping"]) == {"templates", "mined"}
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/BankJson"}
    made = client.post("/v1/banks", json=content["application/json"]["example"])
    assert made.status_code == 201, made.text


def test_every_limit_is_told(start: Start) -> None:
    client = start(max_bank_bytes=1000, max_bank_rows=4, max_banks=2)
    assert upload(client, colours(*map(str, range(20)))).status_code == 413
    assert "limit is 4" in upload(client, colours(*map(str, range(5)))).json()["detail"]
    first = uploaded(client, colours("a"))
    uploaded(client, colours("b"))
    refused = upload(client, colours("c"))
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vlm-ood:problem:conflict")
    assert "limit is 2" in refused.json()["detail"]
    assert upload(client, colours("a")).status_code == 200, "it exists already"
    client.delete(f"/v1/banks/{first}")
    assert upload(client, colours("c")).status_code == 201


def test_the_bytes_of_a_tenant_are_bounded(start: Start) -> None:
    client = start(max_banks_bytes=400)
    uploaded(client, colours("a", "b"))
    refused = upload(client, colours("c", "d"))
    assert refused.status_code == 409
    assert "limit of 400" in refused.json()["detail"]


def test_banks_survive_a_restart(start: Start) -> None:
    bank = uploaded(start(), colours("red", "blue"))
    before = start().get(f"/v1/banks/{bank}").json()
    assert start().get(f"/v1/banks/{bank}").json() == before
    assert before["preview"]


def test_vectors_of_other_weights_are_refused_where_they_would_be_used(start: Start, engine: FakeEngine) -> None:
    bank, other = uploaded(start(), colours("red", "blue")), uploaded(start(), colours("lime", "white"))
    engine.encoders["fake"] = type(engine.encoders["fake"])(name="retrained")
    client = start()
    used = client.post("/v1/detectors", json={"classes": {"bank": bank}})
    assert (used.status_code, used.json()["type"]) == (422, "urn:vlm-ood:problem:vectors")
    assert "upload it again" in used.json()["detail"]
    assert client.get(f"/v1/banks/{bank}", params={"against": other}).status_code == 422
    again = uploaded(client, colours("red", "blue"))
    assert again != bank
    assert client.post("/v1/detectors", json={"classes": {"bank": again}}).status_code == 201
