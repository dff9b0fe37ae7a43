"""Measures whether the server's memory grows, with minutes of mixed traffic or with many long class lists.

    python -m benchmarks.soak --minutes 10
    python -m benchmarks.soak --class-lists 200 --names 1000

The server is a separate process on loopback. Mixed traffic is: single images and small batches, each image with other
bytes, a few class lists, two methods, and one request in twenty with a file that is not an image.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.engine import jpegs
from benchmarks.http import endless
from benchmarks.server import ready, resident_mib, server
from vlm_ood.client import AsyncClient, Retries

WORDS = ("red", "green", "small", "old", "wooden", "metal", "striped", "wet", "round", "broken")
THINGS = ("cat", "dog", "car", "ship", "bird", "chair", "cup", "tree", "shoe", "clock", "bottle", "bridge")
METHODS = ("mcm", "max_cosine")
BATCHES = (1, 1, 1, 2, 8)
FULL_SOON = 4 * 2**20  # bytes: a cache that fills looks like a leak until it is full
PATIENT = Retries(attempts=100, total_s=1200)  # a list of a thousand names takes a while to encode

Row = tuple[str, int, float, float]  # when, images or lists so far, MiB of the server, MiB of its workers


def main(
    minutes: Annotated[float, typer.Option(help="Of mixed traffic.")] = 10.0,
    clients: int = 8,
    encoder: str = "embedded",
    class_lists: Annotated[int, typer.Option(help="Send so many class lists in place of mixed traffic.")] = 0,
    names: Annotated[int, typer.Option(help="In each of these lists.")] = 1000,
    every_s: Annotated[float, typer.Option(help="Between two lines of the table.")] = 60.0,
) -> None:
    """Print resident sizes while the traffic lasts."""
    with server(encoder, VLM_OOD_IMAGE_CACHE_BYTES=str(FULL_SOON)) as (url, process):
        asyncio.run(ready(url))
        if class_lists:
            rows = asyncio.run(many_lists(url, process.pid, class_lists, names))
        else:
            rows = asyncio.run(mixed(url, process.pid, 60 * minutes, clients, every_s))
    show(rows, f"{class_lists} lists of {names} names" if class_lists else f"{clients} clients, {encoder}")


async def mixed(url: str, pid: int, seconds: float, clients: int, every_s: float) -> list[Row]:
    """Traffic for so long; a row now, one at each interval, and one at the end."""
    done: Counter[str] = Counter()
    end = time.perf_counter() + seconds
    pictures = endless(jpegs(32, 640, 480, None))

    async def client(number: int) -> None:
        random = Random(number)
        async with AsyncClient(url) as http:
            while time.perf_counter() < end:
                await one_request(http, random, pictures, done)

    async def watch() -> list[Row]:
        started = time.perf_counter()
        rows = [row(pid, "0 s", 0)]
        while (left := end - time.perf_counter()) > 0:
            await asyncio.sleep(min(every_s, left))
            rows.append(row(pid, f"{time.perf_counter() - started:.0f} s", done["scored"]))
        return rows

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        for number in range(clients):
            group.create_task(client(number))
    Console().print(
        f"{done['requests']} requests, {done['scored']} images scored, {done['refused']} refused as no picture"
    )
    return watching.result()


async def one_request(http: AsyncClient, random: Random, pictures: Iterator[bytes], done: "Counter[str]") -> None:
    """A few pictures, or now and then something that is none; each must have its own answer."""
    files = [next(pictures) for _ in range(random.choice(BATCHES))]
    broken = random.random() < 0.05
    if broken:
        files[-1] = files[-1][: random.randrange(1, 2000)]
    classes = THINGS[: random.choice((3, 6, 9))]
    answer = await http.score(files, classes=classes, method=random.choice(METHODS))
    assert [result.error is not None for result in answer.results] == [False] * (len(files) - broken) + [True] * broken
    done.update(requests=1, scored=len(files) - broken, refused=int(broken))


async def many_lists(url: str, pid: int, lists: int, names: int) -> list[Row]:
    """Class lists that share no name, one picture each; a row after each tenth of them."""
    pictures = endless(jpegs(8, 640, 480, None))
    rows = [row(pid, "0", 0)]
    async with AsyncClient(url, timeout=600, retries=PATIENT) as http:
        for number in range(1, lists + 1):
            answer = await http.score([next(pictures)], classes=class_list(number, names))
            assert answer.results[0].error is None, answer.results[0].error
            if number % max(1, lists // 10) == 0:
                rows.append(row(pid, f"list {number}", number))
    return rows


def class_list(number: int, names: int) -> list[str]:
    """Names that no other list has."""
    return [f"{WORDS[each % 10]} {THINGS[each % 12]} number {number}-{each}" for each in range(names)]


def row(pid: int, when: str, done: int) -> Row:
    """The sizes now."""
    return when, done, *resident_mib(pid)


def show(rows: list[Row], title: str) -> None:
    """A table, and by how much the second half grew: the first fills caches."""
    table = Table("when", "done", "server MiB", "workers MiB", title=title)
    for when, done, own, below in rows:
        table.add_row(when, str(done), f"{own:.0f}", f"{below:.0f}")
    middle, last = rows[len(rows) // 2], rows[-1]
    console = Console()
    console.print(table)
    console.print(f"second half: server {last[2] - middle[2]:+.0f} MiB, workers {last[3] - middle[3]:+.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
