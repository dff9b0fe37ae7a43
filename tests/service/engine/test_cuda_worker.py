"""The engine on real CUDA devices."""

import pytest
import torch

from service.engine import EncodedImage, EngineSettings
from service.engine.worker.heads import detector_head
from tests.service.engine.conftest import Start
from tests.service.engine.stand_ins import shades
from vlm_ood.detectors import Evidence, create_detector
from vlm_ood.encoders import load_encoder
from vlm_ood.images import load_image
from vlm_ood.types import Task, TextBank


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
async def test_a_worker_on_a_gpu_sees_what_the_encoder_sees(start: Start) -> None:
    engine = await start(EngineSettings(deadline_s=120.0))
    info = await engine.encoder("embedded")
    assert info.device.startswith("cuda")
    contents = shades(8)
    answers = await engine.encode_images("embedded", contents)
    bare = load_encoder("embedded", device="cuda").encode_images([load_image(content) for content in contents])
    for row, answer in enumerate(answers):
        assert isinstance(answer, EncodedImage)
        torch.testing.assert_close(answer.features.pooled[0], bare.pooled[row].cpu(), rtol=0, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
async def test_a_head_on_a_gpu_says_what_its_detector_says_on_the_cpu(start: Start) -> None:
    engine = await start(EngineSettings(deadline_s=120.0))
    bank = TextBank(("a", "b", "c"), torch.randn(3, (await engine.encoder("embedded")).dim))
    fitted = create_detector("gl_mcm").fit(Task(classes=bank))
    contents = shades(8)
    answers = await engine.encode_images("embedded", contents, head=detector_head(fitted))
    pictures = [load_image(content) for content in contents]
    bare = load_encoder("embedded", device="cuda").encode_images(pictures, fitted.detector.outputs)
    for answer, score in zip(answers, fitted.score(bare.to("cpu")).tolist(), strict=True):
        assert isinstance(answer, EncodedImage)
        assert isinstance(answer.answer, Evidence)
        assert answer.answer.scores.tolist() == pytest.approx([score], abs=1e-2)
