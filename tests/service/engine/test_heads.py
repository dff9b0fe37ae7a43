"""Heads end to end: what reads patches runs in the worker, for each image as if it were alone."""

import asyncio
from collections.abc import Sequence

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from service.engine import EncodedImage, Head, LocalEngine
from tests.fakes import FakeEncoder
from tests.service.engine.conftest import Start
from tests.service.engine.stand_ins import (
    PATIENCE_S,
    EchoHead,
    Gate,
    GatedEncoder,
    Rows,
    picture,
    settings_with,
    shades,
)
from vlm_ood.encoders.outputs import POOLED
from vlm_ood.errors import CapabilityError, EncoderError, InputError, TaskError, VlmOodError
from vlm_ood.images import load_image
from vlm_ood.types import ImageFeatures

Answer = EncodedImage | VlmOodError


def seen(content: bytes) -> ImageFeatures:
    """The features of the bare encoder."""
    return FakeEncoder().encode_images([load_image(content)], patches=True)


def echo(answer: Answer) -> Float[Tensor, "1 p d"]:
    assert isinstance(answer, EncodedImage)
    assert isinstance(answer.answer, Rows)
    return torch.from_numpy(answer.answer.values)


async def in_one_batch(
    engine: LocalEngine, gate: Gate, *requests: tuple[Sequence[bytes], Head | None]
) -> list[list[Answer]]:
    """The answers to requests that wait until the worker is free, so that they share a batch if they may."""
    gate.close()
    running = []
    for colour in ("black", "white"):
        running.append(asyncio.create_task(engine.encode_images("fake", [picture(colour)])))
        async with asyncio.timeout(PATIENCE_S):
            while len(engine._fleet._supervisors[0]._outstanding) != len(running):
                await asyncio.sleep(0)
    asked = [asyncio.create_task(engine.encode_images("fake", contents, head=head)) for contents, head in requests]
    async with asyncio.timeout(PATIENCE_S):
        while len(engine._queue) != sum(len(contents) for contents, _ in requests):
            await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(*running)
    return list(await asyncio.gather(*asked))


async def test_a_head_reads_the_patches_of_its_image_and_only_its_answer_comes_back(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    contents = [picture(colour) for colour in ("red", "green", "blue")]
    answers = await engine.encode_images("fake", [*contents, b"no picture"], head=EchoHead())
    for content, answer in zip(contents, answers, strict=False):
        torch.testing.assert_close(echo(answer), seen(content).patches)
        assert isinstance(answer, EncodedImage)
        torch.testing.assert_close(answer.features.pooled, seen(content).pooled)
        assert answer.features.patches is None
    assert isinstance(answers[3], InputError)


async def test_heads_of_several_callers_share_a_forward_pass(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    contents = shades(4)
    heads = [EchoHead("a"), EchoHead("b")]
    answers = await in_one_batch(engine, gate, (contents[:2], heads[0]), (contents[2:], heads[1]))
    assert gate.batches == [1, 1, 4]
    for content, answer in zip(contents, [*answers[0], *answers[1]], strict=True):
        torch.testing.assert_close(echo(answer), seen(content).patches)
    assert [head.installs for head in heads] == [["a"], ["b"]]


async def test_a_head_is_installed_once_until_others_need_its_room(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, head_bytes=250))
    installs: list[str] = []
    a, b, c = (EchoHead(digest, nbytes=100, installs=installs) for digest in "abc")
    for head in (a, b, a, b):
        await engine.encode_images("fake", shades(2), head=head)
    assert installs == ["a", "b"]
    for head in (a, c, a, b, c):  # b was used least recently, then c
        await engine.encode_images("fake", shades(2), head=head)
    assert installs == ["a", "b", "c", "b", "c"]


async def test_a_batch_needs_no_more_heads_than_there_is_room_for(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, head_bytes=250))
    contents = shades(4)
    heads = [EchoHead(str(row), nbytes=100) for row in range(4)]
    requests = [([content], head) for content, head in zip(contents, heads, strict=True)]
    answers = await in_one_batch(engine, gate, *requests)
    assert gate.batches == [1, 1, 2, 2]
    for content, (answer,) in zip(contents, answers, strict=True):
        torch.testing.assert_close(echo(answer), seen(content).patches)


async def test_a_head_that_is_too_large_is_refused_at_once(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, head_bytes=250))
    with pytest.raises(InputError, match="251 bytes are more than the 250"):
        await engine.encode_images("fake", shades(1), head=EchoHead(nbytes=251))
    assert engine.queue_state().items == 0


async def test_an_image_at_which_a_head_fails_fails_alone(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    head = EchoHead("a", fails_on=seen(picture("red")).pooled[0].numpy())
    mine, other = await in_one_batch(
        engine, gate, ([picture("red"), picture("green")], head), (shades(2), EchoHead("b"))
    )
    assert type(mine[0]) is EncoderError
    assert "the head fails" in str(mine[0])
    torch.testing.assert_close(echo(mine[1]), seen(picture("green")).patches)
    assert all(isinstance(answer, EncodedImage) for answer in other)
    assert gate.batches == [1, 1, 4, 1, 1], "the other head's images are not encoded again"
    assert head.installs == ["a"]


async def test_a_head_that_can_not_be_installed_is_the_error_of_its_own_images(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    broken = EchoHead("broken", broken=[TaskError("no such state")])
    mine, other, plain = await in_one_batch(
        engine, gate, (shades(1), broken), (shades(2), EchoHead("b")), (shades(1), EchoHead("c"))
    )
    assert [(type(answer), str(answer)) for answer in mine] == [(TaskError, "no such state")]
    assert all(isinstance(answer, EncodedImage) for answer in (*other, *plain))
    assert gate.batches == [1, 1, 4]
    broken.broken.clear()
    (answer,) = await engine.encode_images("fake", shades(1), head=broken)
    assert isinstance(answer, EncodedImage)
    assert broken.installs == ["broken", "broken"]


async def test_the_same_file_is_read_once_by_each_head(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, image_cache_bytes=2**20))
    gate.batches.clear()
    heads: list[Head | None] = [EchoHead("a"), EchoHead("b"), EchoHead("pooled", POOLED), None]
    first = [await engine.encode_images("fake", [picture("red")], head=head) for head in heads]
    assert gate.batches == [1, 1, 1], "pooled features without a head were found with one"
    again = [await engine.encode_images("fake", [picture("red")], head=head) for head in heads]
    assert gate.batches == [1, 1, 1]
    for (before,), (after,), head in zip(first, again, heads, strict=True):
        assert isinstance(before, EncodedImage)
        assert isinstance(after, EncodedImage)
        assert torch.equal(before.features.pooled, after.features.pooled)
        assert head is None or torch.equal(echo(before), echo(after))


async def test_a_head_that_reads_what_the_encoder_lacks_is_refused(
    gate: Gate, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GatedEncoder, "capabilities", frozenset())
    engine = await start(settings_with(gate))
    with pytest.raises(CapabilityError, match="patches"):
        await engine.encode_images("fake", shades(1), head=EchoHead())
