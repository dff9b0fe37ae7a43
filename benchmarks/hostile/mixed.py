"""Thousands of requests, some of them harmful in every way that one request can be."""

import asyncio
from collections import Counter
from itertools import islice
from random import Random

import httpx

from benchmarks.hostile.phases import Bounds, Outcome, phase
from benchmarks.hostile.runner import CROWD
from benchmarks.hostile.target import Target
from benchmarks.hostile.wire import Answer, ask, form, request
from benchmarks.server import below, resident_of
from tests.hostile_images import photograph
from tests.service.hostile import Hostile, requests

CLIENTS = 32
PHOTOGRAPHS = 100
HARMFUL = 500  # different requests; making one takes longer than answering it
STEADY_MIB = 100.0  # by which the second half may grow over the first


@phase("mixed", Bounds(served=0.9, victims_p99_s=10), limit_s=24 * 3600)
async def mixed(target: Target) -> Outcome:
    """Valid and harmful requests from 32 clients; memory must not grow in the second half, and nothing may be lost."""
    random = Random(0)
    pictures = [photograph(random, size=(640, 480)) for _ in range(PHOTOGRAPHS)]
    harmful = [as_bytes(one, target) for one in islice(requests(random), HARMFUL)]
    numbers = iter(range(target.requests))
    valid: Counter[str] = Counter()
    other: Counter[str] = Counter()
    sizes: list[float] = []

    async def client() -> None:
        for number in numbers:
            if number % max(1, target.requests // 20) == 0:
                pid = target.server.process.pid
                sizes.append(sum(map(resident_of, (pid, *below(pid)))))
            if random.random() < target.share:
                other[(await ask(target.address(), random.choice(harmful))).status] += 1
            else:
                answer = await send_valid(target, number, random.choice(pictures))
                valid[f"{answer.status} {answer.error()}".strip()] += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return judged(valid, other, sizes, target.requests)


def judged(valid: "Counter[str]", harmful: "Counter[str]", sizes: list[float], requests: int) -> Outcome:
    """What was answered, and what should have been.

    Args:
        valid: answers to valid requests.
        harmful: answers to the others.
        sizes: MiB of all processes, from the first request to the last.
        requests: that were to be sent.
    """
    half = len(sizes) // 2
    growth = max(sizes[half:]) - max(sizes[1 : half + 1], default=sizes[0])
    broken = []
    if growth > STEADY_MIB:
        broken.append(f"memory grew by {growth:.0f} MiB in the second half, more than {STEADY_MIB:g}")
    if (answered := sum(valid.values()) + sum(harmful.values())) != requests:
        broken.append(f"{requests - answered} of {requests} requests have no answer")
    if unserved := sum(valid.values()) - valid["200"]:
        broken.append(f"{unserved} of {sum(valid.values())} valid requests were not answered 200")
    answers = Counter({f"valid {status}": count for status, count in valid.items()}) + Counter(harmful)
    return Outcome(answers, tuple(broken), (f"second half {growth:+.0f} MiB",))


async def send_valid(target: Target, number: int, picture: bytes) -> Answer:
    """One photograph that no cache holds; one that found the server busy is sent again, as a client does."""
    comment = f"{number:012}".encode()
    marked = picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]
    content = request("POST", "/v1/score", target.tokens[CROWD], *form([(f"{number}.jpg", marked)]))
    for wait_s in (0.5, 1.0, 2.0, 4.0):
        answer = await ask(target.address(CROWD, "127.0.0.44"), content, 30)
        if answer.status not in ("429", "503"):
            break
        await asyncio.sleep(wait_s)
    return answer


def as_bytes(harmful: Hostile, target: Target) -> bytes:
    """The request as an HTTP client would send it."""
    try:
        built = httpx.Request(harmful.method, f"http://127.0.0.1{harmful.path}", **harmful.sent)
    except httpx.InvalidURL:
        built = httpx.Request(harmful.method, "http://127.0.0.1/v1/score", **harmful.sent)
    built.headers["Authorization"] = f"Bearer {target.tokens['attacker']}"
    built.headers["Connection"] = "close"
    lines = b"".join(b"%b: %b\r\n" % pair for pair in built.headers.raw)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (built.method.encode(), built.url.raw_path, lines) + built.read()
