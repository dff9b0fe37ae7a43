"""The engine's text tower, called from a thread as an encoder."""

import asyncio

import pytest
import torch

from service.engine import DeadlineExceeded, EngineText
from service.engine.text_port import PIECE
from tests.fakes import FakeEncoder
from tests.service.engine.conftest import Start
from tests.service.engine.stand_ins import Gate, picture, settings_with
from vlm_ood.io.cache import DiskCache
from vlm_ood.text.bank import text_bank


async def test_vectors_are_the_encoders_in_order_and_at_either_length(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    port = EngineText(engine, await engine.encoder("fake"))
    prompts = ["a long prompt about red", "blue", "green", "blue"]
    raw = await asyncio.to_thread(port.encode_text, prompts, normalise=False)
    unit = await asyncio.to_thread(port.encode_text, prompts)
    torch.testing.assert_close(raw, FakeEncoder().encode_text(prompts, normalise=False))
    torch.testing.assert_close(unit, FakeEncoder().encode_text(prompts))
    assert (await asyncio.to_thread(port.encode_text, [])).shape == (0, port.dim)


async def test_a_bank_made_through_the_port_is_the_librarys(
    gate: Gate, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = await start(settings_with(gate))
    port = EngineText(engine, await engine.encoder("fake"))
    names, templates = [" red", "green", "blue sky"], ["a photo of a {}.", "the {}."]
    caches = [DiskCache(tmp_path_factory.mktemp("banks")) for _ in range(2)]
    bank = await asyncio.to_thread(text_bank, port, names, templates=templates, cache=caches[0])
    library = text_bank(FakeEncoder(), names, templates=templates, cache=caches[1])
    assert (bank.names, bank.digest) == (library.names, library.digest)
    torch.testing.assert_close(bank.embeddings, library.embeddings)


async def test_progress_counts_the_prompts_of_each_piece(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    port = EngineText(engine, await engine.encoder("fake"))
    steps: list[int] = []
    prompts = [f"prompt {row}" for row in range(PIECE + 3)]
    await asyncio.to_thread(port.encode_text, prompts, progress=steps.append)
    assert steps == [PIECE, 3]


async def test_the_deadline_covers_all_calls_together(gate: Gate, start: Start) -> None:
    engine = await start(settings_with(gate))
    port = EngineText(engine, await engine.encoder("fake"), deadline_s=0.05)
    gate.close()
    held = asyncio.create_task(engine.encode_images("fake", [picture("black")]))
    await gate.entered()
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await asyncio.to_thread(port.encode_text, ["a prompt"])
    gate.open()
    await held
    with pytest.raises(DeadlineExceeded):
        await asyncio.to_thread(port.encode_text, ["a prompt"])
