import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import pytest
import torch

from service.engine.worker.executor import Executor
from service.engine.worker.protocol import HeadRows, HeadWork
from tests.fakes import GRID, SIDE
from tests.service.engine.stand_ins import EchoHead, Gate, GatedEncoder, Rows
from vlm_ood.encoders.outputs import PATCHES, POOLED
from vlm_ood.errors import EncoderError
from vlm_ood.types import ImageFeatures


def executor(gate: Gate, device: str = "cpu") -> Executor:
    return Executor(lambda name, device, dtype: GatedEncoder(gate, name), device, "auto")


def test_warming_up_runs_every_batch_size_twice(gate: Gate) -> None:
    loaded = executor(gate).load("fake", 6)
    assert gate.batches[:8] == [1, 1, 2, 2, 4, 4, 6, 6]
    assert [(timing.outputs, timing.cost) for timing in loaded.timings] == [
        *((POOLED, n * SIDE * SIDE) for n in (1, 2, 4, 6)),
        *((PATCHES, n * SIDE * SIDE) for n in (1, 6)),
        *((None, n) for n in (1, 16)),
    ]
    assert loaded.max_batch == 6


def test_an_encoder_is_described_as_it_is(gate: Gate) -> None:
    encoder = GatedEncoder(gate, "other")
    info = executor(gate).load("other", None).info
    assert (info.digest, info.dim, info.scale, info.batch_size) == (encoder.digest, 16, 100.0, 4)
    assert (info.device, info.dtype, info.grid) == ("cpu", "float32", (GRID, GRID))
    assert info.preprocessing == encoder.preprocessing


def test_pooled_features_are_the_encoders_and_patches_go_to_heads_alone(gate: Gate) -> None:
    worker = executor(gate)
    worker.load("fake", None)
    pixels = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    heads = HeadWork(install=(EchoHead(),), run=(HeadRows("echo", (2, 0)),))
    encoded = worker.encode_images("fake", pixels, PATCHES, heads)
    expected = GatedEncoder(gate).encode_pixels(pixels, PATCHES)
    assert torch.equal(torch.from_numpy(encoded.pooled), expected.pooled)
    (answer,) = encoded.answers
    assert isinstance(answer, Rows)
    assert expected.patches is not None
    assert torch.equal(torch.from_numpy(answer.values), expected.patches[[2, 0]])
    assert {each.name for each in fields(encoded)} == {"pooled", "answers", "not_installed", "seconds"}


def test_the_time_of_a_batch_is_without_the_installation_of_its_heads(gate: Gate) -> None:
    @dataclass(frozen=True, eq=False)
    class SlowHead(EchoHead):
        def on(self, device: torch.device) -> Callable[[ImageFeatures], Rows]:
            time.sleep(0.5)
            return super().on(device)

    worker = executor(gate)
    worker.load("fake", None)
    heads = HeadWork(install=(SlowHead(),), run=(HeadRows("echo", (0,)),))
    encoded = worker.encode_images("fake", torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), PATCHES, heads)
    assert 0 < encoded.seconds < 0.5


def test_an_error_of_a_head_on_a_lost_device_is_the_error_of_the_batch(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = executor(gate)
    worker.load("fake", None)
    monkeypatch.setattr(worker, "device_is_lost", lambda: True)
    pixels = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    heads = HeadWork(install=(EchoHead(broken=[RuntimeError("CUDA error")]),), run=(HeadRows("echo", (0,)),))
    with pytest.raises(EncoderError, match="lost"):
        worker.encode_images("fake", pixels, PATCHES, heads)
    worker.encode_images("fake", pixels, PATCHES)


def test_a_cuda_error_that_stays_means_the_device_is_lost(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert executor(gate, "cuda:0").device_is_lost()
    assert not executor(gate, "cpu").device_is_lost()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not executor(gate, "cuda:0").device_is_lost()
