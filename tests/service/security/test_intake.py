"""Bytes that are costly to parse are parsed in turns, and bytes that are not at once."""

import asyncio

from service.security.intake import PART_BYTES, Intake, Turns


class FakeTransport(asyncio.Transport):
    """Whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False


class Fed:
    """An intake, and the bytes that its parser was fed, which are costly or not."""

    def __init__(self, costly: bool, turns: Turns | None = None) -> None:
        self.costly, self.data = costly, b""
        self.transport = FakeTransport()
        self.intake = Intake(self.transport, self._feed, turns or Turns())

    def _feed(self, part: memoryview) -> bool:
        assert len(part) <= PART_BYTES
        self.data += part
        return self.costly


SENT = bytes(range(256)) * 41  # ten parts and a rest


async def test_cheap_bytes_are_fed_at_once() -> None:
    fed = Fed(costly=False)
    fed.intake.received(SENT)
    assert fed.data == SENT
    assert fed.transport.reads


async def test_costly_bytes_are_fed_one_part_a_turn_and_nothing_is_read_meanwhile() -> None:
    fed = Fed(costly=True)
    fed.intake.received(SENT)
    for parts in range(1, 11):
        assert fed.data == SENT[: parts * PART_BYTES]
        assert not fed.transport.reads
        await asyncio.sleep(0)
    assert fed.data == SENT
    assert fed.transport.reads


async def test_one_connection_has_its_turn_at_a_time() -> None:
    turns = Turns()
    several = [Fed(costly=True, turns=turns) for _ in range(3)]
    for fed in several:
        fed.intake.received(SENT)
    assert [len(fed.data) // PART_BYTES for fed in several] == [1, 1, 1]
    await asyncio.sleep(0)
    assert [len(fed.data) // PART_BYTES for fed in several] == [2, 1, 1]
    await asyncio.sleep(0)
    assert [len(fed.data) // PART_BYTES for fed in several] == [2, 2, 1]
    for _ in range(30):
        await asyncio.sleep(0)
    assert [fed.data for fed in several] == [SENT] * 3


async def test_what_comes_in_between_is_fed_in_order() -> None:
    fed = Fed(costly=True)
    fed.intake.received(SENT)
    fed.intake.received(b"the end")
    for _ in range(11):
        await asyncio.sleep(0)
    assert fed.data == SENT + b"the end"


async def test_a_pause_of_the_owner_outlasts_the_turns() -> None:
    fed = Fed(costly=True)
    fed.intake.received(SENT)
    fed.intake.pause()
    for _ in range(11):
        await asyncio.sleep(0)
    assert fed.data == SENT
    assert not fed.transport.reads
    fed.intake.resume()
    assert fed.transport.reads


async def test_the_owner_reads_on_only_when_all_is_fed() -> None:
    fed = Fed(costly=True)
    fed.intake.received(SENT)
    fed.intake.pause()
    fed.intake.resume()
    assert not fed.transport.reads
