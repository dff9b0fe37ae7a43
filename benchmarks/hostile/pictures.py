"""Images whose decoding takes much time or memory."""

import asyncio
from collections.abc import Sequence
from random import Random

from benchmarks.hostile.phases import Bounds, Outcome, phase
from benchmarks.hostile.target import Target, answers_of, unseen
from benchmarks.hostile.wire import Answer
from tests.hostile_images import Picture, bombs, floating, one_tile, other_formats, pages, plain, scans, truncated

SCANS = 300_000  # 17 MB, half an hour of one core
PAGES = 160_000  # 16 MB


async def send_all(target: Target, pictures: Sequence[Picture], at_once: int = 4) -> Outcome:
    """Each picture in a request of its own."""
    gate = asyncio.Semaphore(at_once)

    async def send(picture: Picture) -> Answer:
        async with gate:
            return await target.send([picture])

    return Outcome(answers_of(await asyncio.gather(*map(send, pictures))))


@phase("pictures.scans")
async def progressive(target: Target) -> Outcome:
    """Eight progressive JPEGs of 17 MB with 300 000 scans, four at once."""
    return await send_all(target, distinct(await asyncio.to_thread(scans, SCANS), 8, "jpg"))


@phase("pictures.pages")
async def pages_of_tiff(target: Target) -> Outcome:
    """Eight TIFFs of 16 MB with 160 000 pages, four at once."""
    return await send_all(target, distinct(await asyncio.to_thread(pages, PAGES), 8, "tiff"))


@phase("pictures.tile")
async def tile(target: Target) -> Outcome:
    """Eight TIFFs of 64 x 64 pixels in one tile of 32768 x 32768, four at once."""
    return await send_all(target, distinct(await asyncio.to_thread(one_tile), 8, "tiff"))


@phase("pictures.float")
async def floats(target: Target) -> Outcome:
    """Sixteen TIFFs of 40 million floating-point pixels, eight at once."""
    return await send_all(target, distinct(await asyncio.to_thread(floating), 16, "tiff"), at_once=8)


@phase("pictures.rgba")
async def transparent(target: Target) -> Outcome:
    """Sixteen PNGs of 40 million pixels with transparency, eight at once."""
    content = await asyncio.to_thread(plain, "RGBA", "PNG", compress_level=1)
    return await send_all(target, distinct(content, 16, "png"), at_once=8)


@phase("pictures.many", Bounds(victims_p99_s=10))
async def sixty_four(target: Target) -> Outcome:
    """One request of 64 JPEGs of 40 million pixels."""
    content = await asyncio.to_thread(plain, "RGB", "JPEG")
    return Outcome(answers_of([await target.send(distinct(content, 64, "jpg"))]))


@phase("pictures.bombs")
async def declared(target: Target) -> Outcome:
    """Sixty PNGs that declare billions of pixels, or whose data and comments inflate to 50 MB."""
    return await send_all(target, bombs() * 20)


@phase("pictures.truncated")
async def cut_short(target: Target) -> Outcome:
    """Four hundred photographs of six formats that end at a random offset."""
    return await send_all(target, truncated(Random(9), 400))


@phase("pictures.formats")
async def formats(target: Target) -> Outcome:
    """Files of sixteen formats beyond JPEG, PNG, WebP, GIF, BMP and TIFF; all must be refused."""
    names = [name for name, _ in other_formats()]
    answer = await target.send(other_formats())
    scored = [result["image"] for result in answer.json()["results"] if result["error"] is None] if answer.ok else []
    broken = (f"decoded although nobody asked for the format: {', '.join(scored)}",) if scored else ()
    return Outcome(answers_of([answer]), broken, (f"{len(names) - len(scored)} of {len(names)} refused",))


@phase("pictures.neighbours")
async def neighbours(target: Target) -> Outcome:
    """Twenty requests with a bomb, a truncated file and two photographs each; the photographs must be scored."""
    spoilt = [*bombs()[:1], *truncated(Random(3), 1)]
    answers = [await target.send([*spoilt, unseen(), unseen()]) for _ in range(20)]
    scored = [
        [result["error"] is None for result in answer.json()["results"]][-2:] == [True, True] if answer.ok else False
        for answer in answers
    ]
    missing = scored.count(False)
    broken = (f"{missing} of 20 requests lost a valid image for its neighbours",) if missing else ()
    return Outcome(answers_of(answers), broken)


def distinct(content: bytes, count: int, suffix: str) -> list[Picture]:
    """The file so many times, each with other bytes at its end, which no decoder reads."""
    return [(f"{number}.{suffix}", content + number.to_bytes(4, "big")) for number in range(count)]
