"""Request bodies that are wrong, endless, or cost more to read than to send."""

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from benchmarks.hostile.phases import Outcome, phase
from benchmarks.hostile.target import Target, answers_of, unseen
from benchmarks.hostile.wire import BOUNDARY, HANG_S, ask, head

MIB = 2**20
LASTS_S = 12.0  # longer than the ten seconds that a request head may take
CHUNK = 64 * 1024
JSON = "Content-Type: application/json"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


async def repeated(target: Target, body: bytes, kind: str = "application/json", times: int = 4) -> Outcome:
    """One body several times at once."""
    sent = [target.ask("POST", "/v1/score", body, kind) for _ in range(times)]
    return Outcome(answers_of(await asyncio.gather(*sent)))


@phase("bodies.empty_images_4")
async def empty_images(target: Target) -> Outcome:
    """Four JSON bodies of 4 MiB with a million empty images."""
    return await repeated(target, b'{"images":[' + b"{}," * (4 * MIB // 3) + b'{}],"classes":["a"]}')


@phase("bodies.empty_images_32")
async def many_empty_images(target: Target) -> Outcome:
    """Four JSON bodies of almost 32 MiB with ten million empty images."""
    return await repeated(target, b'{"images":[' + b"{}," * (31 * MIB // 3) + b'{}],"classes":["a"]}')


@phase("bodies.numbers")
async def numbers(target: Target) -> Outcome:
    """Four JSON bodies of 4 MiB whose class names are two million numbers."""
    image = base64.b64encode(unseen()[1])
    return await repeated(target, b'{"images":[{"content":"%b"}],"classes":[%b1]}' % (image, b"1," * (2 * MIB)))


@phase("bodies.deep")
async def deep(target: Target) -> Outcome:
    """JSON bodies of lists and of objects, 16 MiB deep."""
    lists = await repeated(target, b"[" * 16 * MIB, times=2)
    objects = await repeated(target, b'{"a":' * (16 * MIB // 5), times=2)
    return Outcome(lists.answers + objects.answers)


@phase("bodies.fields")
async def fields(target: Target) -> Outcome:
    """Four forms of 19 000 fields, of one name and of as many names."""
    same = await repeated(target, form_of(("classes", "x") for _ in range(19_000)), FORM, times=2)
    other = await repeated(target, form_of((f"field{number}", "x") for number in range(19_000)), FORM, times=2)
    return Outcome(same.answers + other.answers)


@phase("bodies.huge_fields")
async def huge_fields(target: Target) -> Outcome:
    """Forms whose fields are 7 MiB of JSON of every kind, and one field of 90 MiB."""
    values = ["[" * 7 * MIB, json.dumps([1] * (2 * MIB)), "[" + '"a",' * (7 * MIB // 4) + '"a"]', "x" * 90 * MIB]
    names = ("classes", "parameters", "templates", "negatives", "support", "threshold")
    bodies = [form_of([(names[row % len(names)], value)]) for row, value in enumerate(values * 2)]
    return Outcome(answers_of([await target.ask("POST", "/v1/score", body, FORM) for body in bodies]))


@phase("bodies.lengths")
async def lengths(target: Target) -> Outcome:
    """Bodies whose declared length is too long, negative, no number, enormous, given twice, or given with chunks."""
    wrong = [
        ("Content-Length: -1",),
        ("Content-Length: 1_0",),
        ("Content-Length: " + "9" * 40,),
        ("Content-Length: 5", "Content-Length: 7"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, gzip",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ]
    contents = [head("POST", "/v1/score", target.tokens["attacker"], JSON, *lines) + b"5\r\n{}{}{" for lines in wrong]
    answers = await asyncio.gather(*(ask(target.address(), content, 5) for content in contents * 5))
    told = Counter("left open" if answer.status == "hang" else answer.status for answer in answers)
    return Outcome(told)


@phase("bodies.trickled_livez")
async def trickled_to_livez(target: Target) -> Outcome:
    """Three hundred connections send a body to /livez, one byte a second."""
    return await trickled(target, "/livez", 300)


@phase("bodies.trickled_score")
async def trickled_to_score(target: Target) -> Outcome:
    """Three hundred connections send a body to /v1/score, one byte a second."""
    return await trickled(target, "/v1/score", 300)


@phase("bodies.unread")
async def unread(target: Target) -> Outcome:
    """Three hundred requests for what isn't there, whose endless bodies go on after the answer."""
    return await trickled(target, "/nothing", 300)


async def trickled(target: Target, path: str, count: int) -> Outcome:
    """Connections that send bodies a byte a second, and how many of them the server has closed."""

    async def one() -> str:
        start = head("POST", path, target.tokens["attacker"], JSON, "Content-Length: 100000")
        return await fed(target, start, iter(lambda: b"x", b""), every_s=1.0)

    return Outcome(Counter(await asyncio.gather(*(one() for _ in range(count)))))


@phase("bodies.trailers")
async def trailers(target: Target) -> Outcome:
    """Four chunked bodies with trailers of 60 MiB."""
    start = head("POST", "/v1/score", target.tokens["attacker"], JSON, "Transfer-Encoding: chunked") + b"0\r\n"
    line = b"X-Trailer: " + b"x" * 1000 + b"\r\n"
    return await flooded(target, start, lambda: (line * 64 for _ in range(60 * MIB // (64 * len(line)))))


@phase("bodies.long_trailer")
async def long_trailer(target: Target) -> Outcome:
    """Four chunked bodies with one trailer of 60 MiB."""
    start = head("POST", "/livez", "", "Transfer-Encoding: chunked") + b"0\r\nX-Trailer: "
    return await flooded(target, start, lambda: (b"x" * CHUNK for _ in range(60 * MIB // CHUNK)))


@phase("bodies.extensions")
async def extensions(target: Target) -> Outcome:
    """Four chunked bodies whose chunks have extensions of 60 MiB."""
    start = head("POST", "/v1/score", target.tokens["attacker"], JSON, "Transfer-Encoding: chunked") + b"1;"
    return await flooded(target, start, lambda: (b"a" * CHUNK for _ in range(60 * MIB // CHUNK)))


@phase("bodies.tiny_chunks")
async def tiny_chunks(target: Target) -> Outcome:
    """Four bodies of a million chunks of one byte."""
    start = head("POST", "/v1/score", target.tokens["attacker"], JSON, "Transfer-Encoding: chunked")
    return await flooded(target, start, lambda: (b"1\r\n[\r\n" * 10_000 for _ in range(100)))


async def flooded(target: Target, start: bytes, parts: Callable[[], Iterator[bytes]]) -> Outcome:
    """Four connections send as fast as the server reads."""
    return Outcome(Counter(await asyncio.gather(*(fed(target, start, parts()) for _ in range(4)))))


async def fed(target: Target, start: bytes, parts: Iterator[bytes], every_s: float = 0.0) -> str:
    """Send the parts for a while; the status of the answer, and whether the connection was closed."""
    ends_at = time.perf_counter() + LASTS_S
    answered = b""
    try:
        reader, writer = await asyncio.wait_for(target.address().open(), HANG_S)
    except (OSError, TimeoutError):
        return "not connected"
    reading = asyncio.create_task(reader.read(2**16))
    closed = False
    try:
        writer.write(start)
        while (left := ends_at - time.perf_counter()) > 0 and not closed:
            part = next(parts, b"")
            if part:
                writer.write(part)
                await asyncio.wait_for(writer.drain(), left)
            if reading.done():
                answered, closed = answered or reading.result(), not reading.result()
                reading = asyncio.create_task(reader.read(2**16))
            await asyncio.wait({reading}, timeout=min(left, every_s if part else left))
    except TimeoutError:
        pass
    except OSError:
        closed = True
    finally:
        reading.cancel()
        writer.transport.abort()
    status = answered.split(b" ", 2)[1].decode() if answered.startswith(b"HTTP/1.1 ") else "no answer"
    return f"{status}, {'closed' if closed else 'left open'}"


def form_of(items: "Iterator[tuple[str, str]] | Sequence[tuple[str, str]]") -> bytes:
    """A form of text fields."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return "".join(part % item for item in items).encode() + f"--{BOUNDARY}--\r\n".encode()
