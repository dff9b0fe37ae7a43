"""The engine end to end, on an encoder whose batches can be held open."""

import asyncio
import io
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest
import torch
from PIL import Image
from prometheus_client import CollectorRegistry

from service.engine import DeadlineExceeded, Draining, EncodedImage, LocalEngine, NotReady, QueueFull, Timings
from service.engine.decoding.pool import Decoded, DecodePool
from service.engine.errors import WorkerLost
from tests.fakes import FakeEncoder
from tests.service.engine.conftest import Start
from tests.service.engine.stand_ins import (
    PATIENCE_S,
    POISON,
    EchoHead,
    Gate,
    GatedEncoder,
    picture,
    settings_with,
    shades,
)
from vlm_ood.encoders.device import Precision
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import CheckpointError, EncoderError, ImageError, InputError, UnknownNameError, VlmOodError
from vlm_ood.images import load_image

Answer = EncodedImage | VlmOodError
Answers = asyncio.Task[list[Answer]]


def ask(engine: LocalEngine, contents: Sequence[bytes], deadline_s: float | None = None) -> Answers:
    return asyncio.create_task(engine.encode_images("fake", contents, deadline_s=deadline_s))


def kinds(answers: Sequence[Answer]) -> list[str]:
    return [type(answer).__name__ for answer in answers]


def pooled(answer: Answer) -> torch.Tensor:
    assert isinstance(answer, EncodedImage)
    return answer.features.pooled


async def waiting(engine: LocalEngine, n: int) -> None:
    """Until n images are decoded and wait for a worker."""
    async with asyncio.timeout(PATIENCE_S):
        while len(engine._queue) != n:
            await asyncio.sleep(0)


async def hold(engine: LocalEngine, gate: Gate) -> tuple[Answers, Answers]:
    """Two requests that occupy the worker: one inside the network, one behind it."""
    gate.close()
    running = ask(engine, [picture("black")])
    await gate.entered()
    ahead = ask(engine, [picture("white")])
    async with asyncio.timeout(PATIENCE_S):
        while len(engine._fleet._supervisors[0]._outstanding) != 2:
            await asyncio.sleep(0)
    return running, ahead


async def test_features_are_those_of_the_bare_encoder(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    contents = [picture(colour) for colour in ("red", "green", "blue")]
    answers = await engine.encode_images("fake", contents)
    expected = FakeEncoder().encode_images([load_image(content) for content in contents])
    for row, answer in enumerate(answers):
        torch.testing.assert_close(pooled(answer)[0], expected.pooled[row])


async def test_an_image_alone_and_in_a_batch_has_the_same_features(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    (alone,) = await engine.encode_images("fake", [picture("red")])
    held = await hold(engine, gate)
    request = ask(engine, [picture("red"), *shades(3)])
    await waiting(engine, 4)
    gate.open()
    together = await request
    await asyncio.gather(*held)
    assert gate.batches == [1, 1, 4]
    torch.testing.assert_close(pooled(together[0]), pooled(alone), rtol=0, atol=1e-6)


async def test_images_of_another_size_have_batches_of_their_own_and_larger_ones_smaller_batches(
    gate: Gate, start: Start
) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    requests = [
        asyncio.create_task(engine.encode_images("fake", shades(4), head=EchoHead(str(size), Outputs(size=size))))
        for size in (None, (16, 8), (8, 8), (64, 64))
    ]
    await waiting(engine, 16)
    gate.open()
    await asyncio.gather(*held, *requests)
    assert sorted(gate.batches[2:]) == [1, 1, 1, 1, 2, 2, 4, 4]


async def test_features_of_another_size_are_the_encoders_at_that_size(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, image_cache_bytes=2**20))
    file = io.BytesIO()
    Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 50).save(file, "PNG")
    answers = []
    for size in (None, (4, 6)):
        head = EchoHead("echo", Outputs(size=size))
        (answer,) = await engine.encode_images("fake", [file.getvalue()], head=head)
        expected = GatedEncoder(gate).encode_images([load_image(file.getvalue())], Outputs(size=size))
        torch.testing.assert_close(pooled(answer), expected.pooled)
        answers.append(pooled(answer))
    assert not torch.allclose(answers[0], answers[1])


async def test_what_came_while_the_worker_was_busy_shares_the_next_batch(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    requests = [ask(engine, [content]) for content in shades(3)]
    await waiting(engine, 3)
    gate.open()
    await asyncio.gather(*held, *requests)
    assert gate.batches == [1, 1, 3]


async def test_a_large_request_is_split_and_does_not_starve_a_small_one(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    large = ask(engine, shades(10))
    await waiting(engine, 10)
    small = ask(engine, [picture("red")])
    await waiting(engine, 11)
    gate.open()
    await small
    assert not large.done()
    assert kinds(await large) == ["EncodedImage"] * 10
    await asyncio.gather(*held)
    assert gate.batches == [1, 1, 4, 4, 3]


async def test_a_tenant_that_fills_the_queue_does_not_starve_another(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, max_queue_items=16))
    held = await hold(engine, gate)
    heavy = [
        asyncio.create_task(engine.encode_images("fake", shades(7), tenant="heavy", deadline_s=60)) for _ in range(2)
    ]
    await waiting(engine, 14)
    with pytest.raises(QueueFull, match="14 of 15 images"):  # what `hold` has belongs to no tenant
        await engine.encode_images("fake", shades(2), tenant="heavy")
    light = asyncio.create_task(engine.encode_images("fake", shades(2), tenant="light", deadline_s=60))
    await waiting(engine, 16)
    gate.open()
    assert kinds(await light) == ["EncodedImage"] * 2
    assert not any(request.done() for request in heavy)
    assert [kinds(answers) for answers in await asyncio.gather(*heavy)] == [["EncodedImage"] * 7] * 2
    await asyncio.gather(*held)


async def test_who_leaves_gives_the_room_back_while_others_are_served(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, max_queue_items=8))
    held = await hold(engine, gate)
    leaving = asyncio.create_task(engine.encode_images("fake", shades(6), tenant="a"))
    staying = asyncio.create_task(engine.encode_images("fake", shades(2), tenant="b"))
    await waiting(engine, 8)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert engine.queue_state().items == 4
    again = asyncio.create_task(engine.encode_images("fake", shades(6), tenant="a"))
    gate.open()
    assert kinds(await staying) == ["EncodedImage"] * 2
    assert kinds(await again) == ["EncodedImage"] * 6
    await asyncio.gather(*held)
    assert sum(gate.batches) == 2 + 2 + 6


async def test_one_bad_image_of_ten_is_one_error(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    contents = shades(10)
    contents[3] = contents[3][:50]
    answers = await engine.encode_images("fake", contents)
    assert [row for row, answer in enumerate(answers) if isinstance(answer, ImageError)] == [3]
    assert sum(isinstance(answer, EncodedImage) for answer in answers) == 9


async def test_an_image_that_breaks_the_network_fails_alone(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    other = ask(engine, [picture("red")])
    poisoned = ask(engine, [picture(POISON), picture("green")])
    await waiting(engine, 3)
    gate.open()
    assert kinds(await other) == ["EncodedImage"]
    error, good = await poisoned
    assert type(error) is EncoderError
    assert "poisoned" in str(error)
    assert isinstance(good, EncodedImage)
    await asyncio.gather(*held)
    assert gate.batches == [1, 1, 3, 1, 1, 1]


async def test_a_deadline_passes_in_the_queue_and_the_work_is_not_done(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    late = ask(engine, [picture("red")], deadline_s=0.05)
    with pytest.raises(DeadlineExceeded):
        await late
    gate.open()
    await asyncio.gather(*held)
    await engine.probe()
    assert gate.batches == [1, 1, 1]
    assert engine.queue_state().items == 0


async def test_who_leaves_is_not_served(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    leaving, staying = ask(engine, shades(2)), ask(engine, [picture("red")])
    await waiting(engine, 3)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.open()
    await asyncio.gather(*held, staying)
    assert gate.batches == [1, 1, 1]
    assert engine.queue_state().items == 0


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, max_queue_items=4))
    held = await hold(engine, gate)
    with pytest.raises(QueueFull) as refusal:
        await engine.encode_images("fake", shades(3))
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s > 0
    gate.open()
    await asyncio.gather(*held)
    assert kinds(await engine.encode_images("fake", shades(3))) == ["EncodedImage"] * 3


async def test_bytes_fill_the_queue_too(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, max_queue_bytes=1200))
    held = await hold(engine, gate)
    assert engine.queue_state().bytes == sum(len(picture(colour)) + 3 * 8 * 8 for colour in ("black", "white"))
    with pytest.raises(QueueFull, match="bytes"):
        await engine.encode_images("fake", shades(3))
    gate.open()
    await asyncio.gather(*held)


async def test_more_than_the_queue_holds_is_an_input_error(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, max_queue_items=4))
    with pytest.raises(InputError, match="fewer"):
        await engine.encode_images("fake", shades(5))


async def test_no_images_give_no_features(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    assert await engine.encode_images("fake", []) == []


async def test_draining_finishes_what_is_inside_and_refuses_the_rest(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)
    for call in (engine.encode_images("fake", shades(1)), engine.encode_text("fake", ["x"]), engine.probe()):
        with pytest.raises(Draining):
            await call
    assert not stopping.done()
    gate.open()
    assert [kinds(answers) for answers in await asyncio.gather(*held)] == [["EncodedImage"]] * 2
    await stopping


async def test_draining_has_an_end_and_tells_those_who_wait(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, drain_s=0.05))
    held = await hold(engine, gate)
    queued = ask(engine, [picture("red")])
    await waiting(engine, 1)
    stopping = asyncio.create_task(engine.stop())
    with pytest.raises(Draining):
        await queued
    gate.open()
    await stopping
    for request in held:
        with pytest.raises(Draining):
            await request


async def test_the_same_file_is_encoded_once(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, image_cache_bytes=2**20))
    gate.batches.clear()
    timings = Timings()
    first = await engine.encode_images("fake", [picture("red")])
    second = await engine.encode_images("fake", [picture("red")], timings=timings)
    assert gate.batches == [1]
    assert torch.equal(pooled(first[0]), pooled(second[0]))
    assert timings == Timings()


async def test_a_tenant_does_not_find_what_another_has_sent(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, image_cache_bytes=2**20))
    gate.close()
    gate.open()
    for tenant in ("a", "b", "a", "b"):
        await engine.encode_images("fake", [picture("red")], tenant=tenant)
        await engine.encode_text("fake", ["a secret"], tenant=tenant)
    assert (gate.batches, gate.prompts) == ([1, 1], [1, 1])


async def test_another_encoder_does_not_find_the_features_of_the_first(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, image_cache_bytes=2**20))
    await engine.encoder("other")
    gate.batches.clear()
    for name in ("fake", "other", "fake", "other"):
        await engine.encode_images(name, [picture("red")])
    assert gate.batches == [1, 1]


async def test_timings_name_the_stages(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    timings = Timings()
    await engine.encode_images("fake", shades(3), timings=timings)
    assert min(timings.queue_s, timings.decode_s, timings.encode_s) > 0


async def test_prompts_seen_before_are_not_encoded_again(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    await engine.encode_text("fake", ["one", "two"])
    gate.prompts.clear()
    await engine.encode_text("fake", ["two", "one", "two"], normalise=False)
    assert gate.prompts == []
    await engine.encode_text("fake", ["one", "three"])
    assert gate.prompts == [1]


async def test_prompts_are_encoded_in_order_and_at_either_length(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    prompts = ["a long prompt about red", "blue", "green", "blue"]
    raw = await engine.encode_text("fake", prompts, normalise=False)
    unit = await engine.encode_text("fake", prompts)
    torch.testing.assert_close(raw, FakeEncoder().encode_text(prompts, normalise=False))
    torch.testing.assert_close(unit, FakeEncoder().encode_text(prompts))


async def test_text_in_chunks_takes_turns_with_images(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    gate.close()
    text = asyncio.create_task(engine.encode_text("fake", [f"prompt {row}" for row in range(3000)]))
    await gate.entered()
    image = ask(engine, [picture("red")])
    async with asyncio.timeout(PATIENCE_S):
        while engine.queue_state().items != 2:
            await asyncio.sleep(0)
    gate.open()
    await image
    assert not text.done()
    await text
    assert max(gate.prompts) <= 256


async def test_text_that_misses_its_deadline_keeps_what_it_has(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    await engine.encode_text("fake", ["known"])
    held = await hold(engine, gate)
    with pytest.raises(DeadlineExceeded, match="0 of 1"):
        await engine.encode_text("fake", ["known", "unknown"], deadline_s=0.05)
    gate.open()
    await asyncio.gather(*held)
    assert len(await engine.encode_text("fake", ["known", "unknown"])) == 2
    assert gate.prompts == [1]


async def test_the_probe_runs_a_real_batch_and_many_share_it(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate, image_cache_bytes=2**20))
    gate.batches.clear()
    await asyncio.gather(*(engine.probe() for _ in range(5)))
    assert gate.batches == [1]
    await engine.probe()
    assert gate.batches == [1, 1]


async def test_the_probe_fails_before_the_start(gate: Gate) -> None:
    engine = LocalEngine(settings_with(gate))
    with pytest.raises(NotReady):
        await engine.probe()
    await engine.stop()


async def test_encoders_are_loaded_on_demand(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    assert engine.encoder_names() == ("fake", "other", "third")
    assert [engine.encoder_state(name) for name in engine.encoder_names()] == ["ready", "cold", "cold"]
    await engine.encode_images("other", shades(1))
    await engine.encode_images("third", shades(1))
    assert [engine.encoder_state(name) for name in engine.encoder_names()] == ["ready", "cold", "ready"]
    assert (await engine.encoder("third")).name == "third"


async def test_a_request_that_can_not_wait_for_a_load_leaves_it_to_the_next(gate: Gate, start: Start) -> None:
    may_load = Event()

    def load(name: str, device: str, dtype: Precision) -> GatedEncoder:
        assert name == "fake" or may_load.wait(PATIENCE_S)
        return GatedEncoder(gate, name)

    engine = await start(settings_with(gate, load=load))
    with pytest.raises(DeadlineExceeded, match="loaded"):
        await engine.encode_images("other", shades(1), deadline_s=0.02)
    assert engine.encoder_state("other") == "loading"
    assert kinds(await engine.encode_images("fake", shades(1))) == ["EncodedImage"]
    may_load.set()
    assert kinds(await engine.encode_images("other", shades(1))) == ["EncodedImage"]


async def test_a_default_encoder_that_can_not_be_loaded_fails_the_start(gate: Gate, start: Start) -> None:
    def load(name: str, device: str, dtype: Precision) -> GatedEncoder:
        raise CheckpointError("weights are missing")

    with pytest.raises(CheckpointError, match="weights"):
        await start(settings_with(gate, load=load))


async def test_every_device_has_a_worker_and_they_share_the_queue(
    gate: Gate, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices: list[str] = []

    def load(name: str, device: str, dtype: Precision) -> GatedEncoder:
        devices.append(device)
        return GatedEncoder(gate, name)

    engine = await start(settings_with(gate, device="auto", load=load))
    async with asyncio.timeout(PATIENCE_S):
        while engine._fleet.ready() < 2:  # the engine takes requests from its first worker on
            await asyncio.sleep(0)
    gate.close()
    requests = []
    for content in shades(2):
        requests.append(ask(engine, [content]))
        await gate.entered()
    gate.open()
    await asyncio.gather(*requests)
    assert sorted(devices) == ["cuda:0", "cuda:1"]


async def test_what_is_not_offered_is_not_loaded(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    for call in (
        engine.encode_images("os.system", shades(1)),
        engine.encode_text("os.system", ["x"]),
        engine.encoder("os.system"),
    ):
        with pytest.raises(UnknownNameError):
            await call


async def test_images_are_counted_by_outcome(gate: Gate) -> None:
    registry = CollectorRegistry()
    engine = LocalEngine(settings_with(gate, image_cache_bytes=2**20, max_queue_items=3), registry)
    await engine.start()
    await engine.encode_images("fake", [*shades(2), b"no picture"])
    await engine.encode_images("fake", [*shades(1), picture(POISON)])
    held = await hold(engine, gate)
    with pytest.raises(QueueFull):
        await engine.encode_images("fake", shades(2))
    leaving = ask(engine, [picture("red")])
    await waiting(engine, 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    with pytest.raises(DeadlineExceeded):
        await engine.encode_images("fake", [picture("red")], deadline_s=0.02)
    gate.open()
    await asyncio.gather(*held)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"vlm_ood_{name}", {"encoder": "fake"} | labels)

    assert value("inference_request_success_total") == 5
    reasons = ("DECODE", "BACKEND", "REJECTED", "CANCELED", "EXPIRED")
    failures = {reason: value("inference_request_failure_total", reason=reason) for reason in reasons}
    assert failures == {"DECODE": 1, "BACKEND": 1, "REJECTED": 2, "CANCELED": 1, "EXPIRED": 1}
    executions, inferences = value("inference_exec_count_total"), value("inference_count_total")
    assert executions is not None
    assert inferences == 4
    assert value("inference_batch_size_count") == executions
    assert registry.get_sample_value("vlm_ood_cache_hits_total", {"cache": "image"}) == 1
    assert registry.get_sample_value("vlm_ood_workers_ready") == 1
    await engine.stop()


async def test_when_a_request_fails_its_other_images_are_no_longer_decoded(
    gate: Gate, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, left = DecodePool.decode, Event()

    async def decode_or_wait(pool: DecodePool, content: bytes, *args: Any, **options: Any) -> Decoded:
        if content != b"slow":
            return await decode(pool, content, *args, **options)
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError("nothing sets the event")

    monkeypatch.setattr(DecodePool, "decode", decode_or_wait)
    engine = await start(settings_with(gate))
    held = await hold(engine, gate)
    request = ask(engine, [b"slow", b"no picture", picture("red")])
    await waiting(engine, 1)
    next(engine._queue._items()).fail(WorkerLost("the worker is lost"))
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(request, PATIENCE_S)
    assert left.is_set()
    gate.open()
    await asyncio.gather(*held)
