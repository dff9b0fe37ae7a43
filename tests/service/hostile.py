"""Harmful and malformed requests."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.hostile_images import Picture, animation, bomb, inflating, photograph


@dataclass(frozen=True)
class Hostile:
    """One request for httpx, and what it is."""

    name: str
    method: str = "POST"
    path: str = "/v1/score"
    sent: dict[str, Any] = field(default_factory=dict)


CLASSES: Final = ["cat", "coffee", "rocket"]


def requests(random: Random) -> Iterator[Hostile]:
    """Without end, each kind about as often as any other."""
    kinds: list[Callable[[Random], Hostile]] = [
        _pictures,
        _damaged,
        _json,
        _fields,
        _raw,
        _paths,
        _many,
        _large,
        _banks,
    ]
    while True:
        yield random.choice(kinds)(random)


def _form(name: str, *pictures: Picture, **fields: Any) -> Hostile:
    files = [("images", (file, content, "image/jpeg")) for file, content in pictures]
    return Hostile(name, sent={"files": files, "data": {"classes": CLASSES} | fields})


def _pictures(random: Random) -> Hostile:
    name, content = random.choice(
        [
            ("bomb", bomb()),
            ("wide bomb", bomb(39_999_999)),
            ("inflating", inflating()),
            ("animation", animation()),
            ("text", b"not a picture at all"),
            ("empty", b""),
            ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
            ("pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."),
            ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run"),
            ("zip", b"PK\x03\x04" + random.randbytes(200)),
        ]
    )
    return _form(f"picture: {name}", ("../../etc/passwd\x00.png", content), ("good.jpg", photograph(random)))


def _damaged(random: Random) -> Hostile:
    kind = random.choice(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
    content = bytearray(photograph(random, kind))
    if random.random() < 0.5:
        del content[random.randrange(len(content)) :]
    for _ in range(random.randrange(1, 30)):
        if content:
            content[random.randrange(len(content))] = random.randrange(256)
    return _form(f"damaged {kind}", (f"a.{kind}", bytes(content)), ("good.jpg", photograph(random)))


def _json(random: Random) -> Hostile:
    good = {"content": base64.b64encode(photograph(random)).decode()}
    odd: list[Any] = [None, 1, -1, 1e308, "", "x" * 10_000, [], {}, [[]], [None], True, "\x00", [1, 2], {"a": {}}]
    body: dict[str, Any] = {"images": [good], "classes": CLASSES}
    body[random.choice(["images", "classes", "method", "parameters", "templates", "encoder", "top", "threshold"])] = (
        random.choice(odd)
    )
    return Hostile("wrong types", sent={"json": body})


def _fields(random: Random) -> Hostile:
    name, value = random.choice(
        [
            ("encoder", "/etc/passwd"),
            ("encoder", "hf-hub:evil/model"),
            ("encoder", "random:ViT-B-32"),
            ("method", "os.system"),
            ("method", "__class__"),
            ("templates", "{0.__class__}"),
            ("templates", json.dumps(["{}" * 50])),
            ("parameters", "[" * 50_000),
            ("parameters", '{"temperature": 1e-400}'),
            ("parameters", '{"temperature": NaN}'),
            ("parameters", json.dumps({"temperature": 10**400})),
            ("parameters", '{"__class__": 1}'),
            ("classes", ["\ud7ff", "\u202e", "a" * 201]),
            ("classes", "\x00"),
            ("classes", json.dumps(["cat"] * 50_000)),
            ("top", "99999999999999999999"),
            ("threshold", "inf"),
            ("urls", "http://169.254.169.254/latest/meta-data"),
            ("negatives", '{"lexicon": "../../etc/passwd"}'),
            ("negatives", '{"words": []}'),
            ("negatives", '{"bank": "../../etc/passwd"}'),
            ("classes", '{"bank": "bnk_%00"}'),
            ("support", "[" * 50_000),
        ]
    )
    return _form(f"field {name}", ("a.jpg", photograph(random)), **{name: value})


def _raw(random: Random) -> Hostile:
    kind = random.choice(
        [
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "multipart/form-data; boundary=" + "x" * 5000,
            "application/json; charset=utf-7",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/octet-stream",
        ]
    )
    content = random.choice(
        [
            random.randbytes(500),
            b"[" * 100_000,
            b'{"a":' * 20_000,
            b"--x\r\n" * 1000,
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nx',
            b'--x\r\nContent-Disposition: form-data; name="images"\r\n' + b"A: b\r\n" * 5000 + b"\r\n\r\n--x--\r\n",
            b"",
            b"\xff\xfe{}",
        ]
    )
    path = random.choice(["/v1/score", "/v1/detectors", "/v1/detectors/det_0/score", "/v1/banks"])
    return Hostile("raw bytes", path=path, sent={"content": content, "headers": {"content-type": kind}})


def _paths(random: Random) -> Hostile:
    path = random.choice(
        [
            "/v1/detectors/..%2f..%2fetc%2fpasswd",
            "/v1/detectors/%00",
            "/v1/detectors/" + "a" * 5000,
            "/v1/methods/%ff%fe",
            "/v1/banks/..%2f..%2fetc%2fpasswd",
            "/v1/banks?after=%00",
            "/v1/detectors?limit=-1",
            "/v1/detectors?limit=1e9&after=';drop table detectors;--",
            "/page/../../settings.py",
            "//evil.example/",
            "/v1/score/../../../etc/passwd",
        ]
    )
    method = random.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    return Hostile("path", method, path)


def _many(random: Random) -> Hostile:
    count = random.choice([65, 200, 1500])
    return _form("too many", *[("a.jpg", b"x")] * count)


def _large(random: Random) -> Hostile:
    content = photograph(random) + bytes(21 * 2**20)
    return _form("oversized file", ("a.jpg", content), ("good.jpg", photograph(random)))


def _banks(random: Random) -> Hostile:
    """Files that are none, or whose header lies, and labels that don't fit."""
    rows = struct.pack("<32f", *([random.random()] * 32))
    entry = {"dtype": "F32", "shape": [2, 16], "data_offsets": [0, 128]}
    headers: list[Any] = [
        {},
        {"embeddings": entry | {"shape": [2**62, 2**62]}},
        {"embeddings": entry | {"dtype": "F8_E4M3"}},
        {"embeddings": entry | {"data_offsets": [0, 2**63]}},
        {"embeddings": entry, "again": entry},
        {"embeddings": entry, "__metadata__": {"names": "[" * 50_000}},
        {"embeddings": entry, "__metadata__": {"names": json.dumps(["a\x00", "b" * 10_000])}},
        {f"tensor {row}": entry | {"shape": [0, 16], "data_offsets": [0, 0]} for row in range(20_000)},
    ]
    header = json.dumps(random.choice(headers)).encode()
    length = random.choice([len(header), len(header), 2**63, 0, 10**7])
    content = random.choice([struct.pack("<Q", length) + header + rows, random.randbytes(500), b""])
    if random.random() < 0.2:
        images = [("images", ("a.jpg", photograph(random), "image/jpeg"))]
        return Hostile("labels", path="/v1/banks", sent={"files": images, "data": {"labels": ["\x00"] * 1000}})
    sent = {"files": {"file": ("../../etc/passwd", content, "application/octet-stream")}, "data": {"label": "x" * 300}}
    if random.random() < 0.7:
        del sent["data"]
    return Hostile("bank", path="/v1/banks", sent=sent)
