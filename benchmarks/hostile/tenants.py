"""One tenant that asks for much, or listens for what another has sent."""

import asyncio
import json
import statistics
import time
from collections.abc import Mapping

from benchmarks.hostile.phases import Bounds, Needs, Outcome, phase
from benchmarks.hostile.target import VICTIMS, Target, answers_of, unseen
from benchmarks.hostile.wire import Answer

LASTS_S = 15.0
PICTURES = 30


@phase("tenants.greedy")
async def greedy(target: Target) -> Outcome:
    """Sixteen connections of one tenant send 64 images each, again and again."""
    ends_at, answers = time.perf_counter() + LASTS_S, list[Answer]()
    pictures = [unseen() for _ in range(64)]

    async def client(number: int) -> None:
        while time.perf_counter() < ends_at:
            new = [(name, content + f"{number} {len(answers)}".encode()) for name, content in pictures]
            answers.append(await target.send(new, timeout_s=30))
            await asyncio.sleep(0.1 if answers[-1].ok else 0.5)

    await asyncio.gather(*map(client, range(16)))
    return Outcome(answers_of(answers))


@phase("tenants.prompts", needs=Needs(fresh=True))
async def prompts(target: Target) -> Outcome:
    """Detectors of 200 000 prompts, four at once, and a fifth with as many negated prompts."""
    templates = [f"a photo {number} of a {{}}" for number in range(20)]
    lists = [names(10_000, number) for number in range(4)]
    bodies: list[Mapping[str, object]] = [{"classes": classes, "templates": templates} for classes in lists]
    bodies.append({"classes": names(10_000, 4), "no_templates": templates, "method": "mcm"})
    answers = await asyncio.gather(*(make(target, body, 30) for body in bodies))
    await asyncio.sleep(5)  # they are still being encoded
    return Outcome(answers_of(answers))


@phase("tenants.making", Bounds(victims_p99_s=10), Needs(fresh=True))
async def making(target: Target) -> Outcome:
    """One tenant makes 70 detectors of 2000 classes at once; another can still make its own."""
    asked = [asyncio.create_task(make(target, {"classes": names(2000, 100 + number)}, 30)) for number in range(70)]
    await asyncio.sleep(2)
    own = await target.ask(
        "POST", "/v1/detectors", json.dumps({"classes": ["sofa", "lamp"]}).encode(), tenant=VICTIMS[1], timeout_s=20
    )
    answers = await asyncio.gather(*asked)
    broken = () if own.ok else (f"the other tenant's detector was answered {own.status}",)
    return Outcome(answers_of(answers), broken, (f"the other tenant's detector: {own.status} in {own.seconds:.1f} s",))


@phase("tenants.timing")
async def timing(target: Target) -> Outcome:
    """Whether the time of an answer tells that another tenant has sent the same image."""
    seen, new = [unseen() for _ in range(PICTURES)], [unseen() for _ in range(PICTURES)]
    for picture in seen:
        await target.send([picture], tenant=VICTIMS[0])
    answers = []
    for row in range(PICTURES):
        answers += [await target.send([seen[row]]), await target.send([new[row]])]
    medians = [statistics.median(answer.seconds for answer in answers[side::2]) for side in (0, 1)]
    told = [sum("encode;dur=0.00" in answer.header("server-timing") for answer in answers[side::2]) for side in (0, 1)]
    note = f"median {1000 * medians[0]:.0f} ms for another tenant's images, {1000 * medians[1]:.0f} for new ones"
    broken = []
    if told[0] > told[1]:
        broken.append(f"Server-Timing tells {told[0]} of {PICTURES} images that another tenant has sent")
    if medians[0] < 0.6 * medians[1]:
        broken.append(note)
    return Outcome(answers_of(answers), tuple(broken), (note,))


async def make(target: Target, options: Mapping[str, object], timeout_s: float) -> Answer:
    """Create a detector."""
    return await target.ask("POST", "/v1/detectors", json.dumps(options).encode(), timeout_s=timeout_s)


def names(count: int, number: int) -> list[str]:
    """Class names that no other list has."""
    return [f"thing {row} of list {number}" for row in range(count)]
