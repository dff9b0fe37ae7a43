"""Sends thousands of requests to a server, some of them harmful; reports statuses, times and memory.

.venv/bin/python -m benchmarks.hostile --requests 10000 --share 0.05
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx

from tests.service.hostile import CLASSES, Hostile, photograph, requests

PHOTOGRAPHS = 200
PARTS = 5


def main() -> None:
    """Run, print, and fail on a server error or a hang."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.05, help="of harmful requests")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--encoder", default="embedded")
    asked = parser.parse_args()
    with server(asked.encoder) as (url, process):
        asyncio.run(ready(url))
        resident = [resident_mib(process.pid)]
        answers = []
        started = time.perf_counter()
        for part in range(PARTS):
            answers += asyncio.run(attack(url, asked.requests // PARTS, asked.share, asked.clients, seed=part))
            resident.append(resident_mib(process.pid))
        seconds = time.perf_counter() - started
        asyncio.run(ready(url))
    report(answers, seconds, resident)


def report(answers: list[tuple[str, str, float]], seconds: float, resident: list[tuple[float, float]]) -> None:
    """Figures on standard output."""
    valid = Counter(status for name, status, _ in answers if name == "valid")
    harmful = Counter(status for name, status, _ in answers if name != "valid")
    cut = Counter(name for name, status, _ in answers if not status.isdigit())
    slowest = max((took for name, _, took in answers if name != "valid"), default=0.0)
    times = sorted(1000 * took for name, _, took in answers if name == "valid")
    print(f"{len(answers)} requests in {seconds:.0f} s ({len(answers) / seconds:.0f}/s)")
    print(f"valid   {dict(valid)}; p50 {times[len(times) // 2]:.0f} ms, p99 {times[99 * len(times) // 100]:.0f} ms")
    print(f"harmful {dict(harmful)}; slowest {slowest:.1f} s")
    print(f"cut off while sending: {dict(cut)}")
    print(f"resident MiB of the server, before and after each fifth:  {[round(own) for own, _ in resident]}")
    print(f"resident MiB of its workers, before and after each fifth: {[round(below) for _, below in resident]}")
    wrong = Counter((name, status) for name, status, _ in answers if status in {"500", "hang"})
    sys.exit(f"server errors or hangs: {wrong}" if wrong else 0)


async def attack(url: str, count: int, share: float, clients: int, seed: int) -> list[tuple[str, str, float]]:
    """What each request was, its status, and the seconds it took."""
    random = Random(seed)
    pictures = [photograph(random, size=(640, 480)) for _ in range(PHOTOGRAPHS)]
    harmful = requests(random)
    gate = asyncio.Semaphore(clients)

    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=clients)) as client:

        async def send(request: Hostile) -> tuple[str, str, float]:
            started = time.perf_counter()
            try:
                answer = await client.request(request.method, request.path, **request.sent)
                status = str(answer.status_code)
            except httpx.TimeoutException:
                status = "hang"
            except (httpx.TransportError, httpx.InvalidURL) as error:
                status = type(error).__name__
            return request.name, status, time.perf_counter() - started

        async def one(number: int) -> tuple[str, str, float]:
            async with gate:
                if random.random() < share:
                    return await send(next(harmful))
                files = [("images", (f"{number}.jpg", random.choice(pictures)))]
                return await send(Hostile("valid", sent={"files": files, "data": {"classes": CLASSES}}))

        return list(await asyncio.gather(*map(one, range(count))))


async def ready(url: str) -> None:
    """Return when the server proves that it is."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for _ in range(600):
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)
    raise TimeoutError("the server is not ready")


@contextmanager
def server(encoder: str, **variables: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A server of its own on a free port, stopped by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        environment = os.environ | {
            "VLM_OOD_DATA": data,
            "VLM_OOD_PORT": str(port),
            "VLM_OOD_ENCODERS": encoder,
            "VLM_OOD_DEADLINE_S": "60",
            "VLM_OOD_LOG_LEVEL": "error",
            **variables,
        }
        process = subprocess.Popen([sys.executable, "-m", "service"], env=environment)
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()
            process.wait(timeout=60)


def resident_mib(pid: int) -> tuple[float, float]:
    """Of the process, and of all below it (Linux)."""
    own = Path(f"/proc/{pid}/status").read_text()
    kib = int(own.partition("VmRSS:")[2].split()[0])
    children = [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return kib / 1024, sum(sum(resident_mib(int(child))) for child in children)


if __name__ == "__main__":
    main()
