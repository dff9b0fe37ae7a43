"""Detectors and calibrations that were acknowledged, and whether they are there."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from benchmarks.hostile.target import Target, unseen
from benchmarks.hostile.wire import Answer

NUMBERS = count()


@dataclass
class Acknowledged:
    """What the server has confirmed.

    Args:
        detectors: their ids.
        thresholds: of the last confirmed calibration, by detector.
        unsure: detectors that have a later calibration that was not confirmed.
        answers: to all writes.
    """

    detectors: set[str] = field(default_factory=set)
    thresholds: dict[str, float] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    answers: "Counter[str]" = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many were confirmed."""
        return sum(number for status, number in self.answers.items() if status.startswith("2"))


async def make_detector(target: Target) -> Answer:
    """Create a detector that none equals."""
    names = [f"thing {next(NUMBERS)} of {time.time_ns()}", "cat", "rocket"]
    return await target.ask("POST", "/v1/detectors", json.dumps({"classes": names}).encode())


async def calibrate(target: Target, detector: str, images: int = 3) -> Answer:
    """Calibrate a detector with images that it has not seen."""
    return await target.send([unseen() for _ in range(images)], f"/v1/detectors/{detector}/calibration", "PUT")


async def write_for(target: Target, written: Acknowledged, seconds: float) -> None:
    """Four writers create detectors and calibrate them, twice each, until the time is over or the server is gone."""
    ends_at = time.perf_counter() + seconds

    async def writer() -> None:
        while time.perf_counter() < ends_at:
            made = await make_detector(target)
            written.answers[made.status] += 1
            if made.status == "cut":
                return
            if made.ok:
                await calibrated_twice(made.json()["id"])

    async def calibrated_twice(detector: str) -> None:
        written.detectors.add(detector)
        for _ in range(2):
            written.unsure.add(detector)
            answer = await calibrate(target, detector)
            written.answers[answer.status] += 1
            if answer.ok:
                written.thresholds[detector] = answer.json()["threshold"]
                written.unsure.discard(detector)

    await asyncio.gather(*(writer() for _ in range(4)))


async def lost(target: Target, written: Acknowledged) -> int:
    """How many confirmed writes can't be read, or read otherwise."""
    missing = 0
    for detector in written.detectors:
        found = await target.ask("GET", f"/v1/detectors/{detector}")
        missing += not found.ok
        threshold = written.thresholds.get(detector)
        if threshold is not None:
            answer = await target.ask("GET", f"/v1/detectors/{detector}/calibration")
            same = answer.ok and (detector in written.unsure or answer.json()["threshold"] == threshold)
            missing += not same
    return missing
