import pytest
import torch

from service.engine.worker.executor import Executor
from tests.fakes import GRID, SIDE
from tests.service.engine.stand_ins import Gate, GatedEncoder
from vlm_ood.encoders.outputs import PATCHES, POOLED


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


def test_features_are_those_of_the_encoder(gate: Gate) -> None:
    worker = executor(gate)
    worker.load("fake", None)
    pixels = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    encoded = worker.encode_images("fake", pixels, PATCHES)
    expected = GatedEncoder(gate).encode_pixels(pixels, PATCHES)
    assert torch.equal(torch.from_numpy(encoded.pooled), expected.pooled)
    assert encoded.patches is not None
    assert expected.patches is not None
    assert torch.equal(torch.from_numpy(encoded.patches), expected.patches)


def test_a_cuda_error_that_stays_means_the_device_is_lost(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert executor(gate, "cuda:0").device_is_lost()
    assert not executor(gate, "cpu").device_is_lost()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not executor(gate, "cuda:0").device_is_lost()
