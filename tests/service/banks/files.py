"""Files of banks, good and bad, and how they are sent."""

import json
import struct
from math import prod
from typing import Any

import torch
from safetensors.torch import save
from starlette.testclient import TestClient

from tests.fakes import FakeEncoder
from vlm_ood.text import text_bank
from vlm_ood.types import TextBank

DIM = 16  # of `FakeEncoder`


def colours(*names: str, encoder: str = "fake") -> TextBank:
    """The bank of these names that the library makes."""
    return text_bank(FakeEncoder(name=encoder), names)


def bank_file(bank: TextBank) -> bytes:
    """What `save_bank` writes."""
    return save({"embeddings": bank.embeddings}, {"names": json.dumps(bank.names), "digest": bank.digest})


def raw_file(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, which may claim to have another length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape: list[int], *, dtype: str = "F32", start: int = 0, end: int | None = None) -> dict[str, Any]:
    """An entry of a header; by default of 4 bytes a value."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, 4 * prod(shape) if end is None else end]}


def vectors(rows: int, dim: int = DIM) -> bytes:
    """Random ones, 4 bytes a value."""
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)).numpy().tobytes()


def upload(client: TestClient, content: bytes | TextBank, *, key: dict[str, str] | None = None, **fields: Any) -> Any:
    """The answer to a bank as a file, sent with the headers of a key."""
    sent = bank_file(content) if isinstance(content, TextBank) else content
    file = {"file": ("bank.safetensors", sent, "application/octet-stream")}
    return client.post("/v1/banks", files=file, data=fields, headers=key)


def uploaded(client: TestClient, content: bytes | TextBank, **fields: Any) -> str:
    """The id of a bank that was accepted."""
    answer = upload(client, content, **fields)
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["id"])
