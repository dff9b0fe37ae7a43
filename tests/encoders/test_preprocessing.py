"""Pixels as the weights saw them: bit for bit what open_clip's own transform makes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from vlm_ood.encoders import preprocessing as module
from vlm_ood.encoders.preprocessing import MOST_PIXELS, Interpolation, Preprocessing, ResizeMode

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def noise(width: int, height: int) -> Image.Image:
    """A picture in which every misplaced pixel shows."""
    values = np.random.default_rng(width * 10_007 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def reference(preprocessing: Preprocessing, image: Image.Image) -> Tensor:
    config = PreprocessCfg(
        size=(preprocessing.height, preprocessing.width),
        mean=preprocessing.mean,
        std=preprocessing.std,
        interpolation=preprocessing.interpolation,
        resize_mode=preprocessing.resize_mode,
        fill_color=preprocessing.fill,
    )
    normalised: Tensor = image_transform_v2(config, is_train=False)(image)
    return normalised


def assert_same(preprocessing: Preprocessing, image: Image.Image) -> None:
    pixels = preprocessing(image)
    expected = reference(preprocessing, image)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, ((expected * std + mean) * 255).round().to(torch.uint8))
    torch.testing.assert_close(preprocessing.normalise(pixels[None], torch.float32)[0], expected, rtol=0, atol=1e-6)


@given(width=st.integers(1, 300), height=st.integers(1, 300), mode=st.sampled_from(["shortest", "squash", "longest"]))
@settings(max_examples=60, deadline=None)
def test_every_size_becomes_what_open_clip_makes_of_it(width: int, height: int, mode: ResizeMode) -> None:
    if mode == "longest" and max(width, height) > 100 * min(width, height):
        height = width  # open_clip would make an image without pixels
    assert_same(Preprocessing(56, 56, MEAN, STD, resize_mode=mode, fill=7), noise(width, height))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(223, 225), (640, 427), (101, 333), (7, 5), (224, 224)])
def test_interpolation_is_that_of_the_weights(size: tuple[int, int], interpolation: Interpolation) -> None:
    assert_same(Preprocessing(224, 224, MEAN, STD, interpolation=interpolation), noise(*size))


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (57, 91)])
def test_an_input_that_is_not_square_is_covered_before_the_crop(size: tuple[int, int]) -> None:
    assert_same(Preprocessing(48, 64, MEAN, STD), noise(*size))


@pytest.mark.parametrize("size", [(2500, 260), (260, 2500), (1, 150), (150, 1), (30, 2000), (5001, 299)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_long_image_is_cropped_where_open_clip_crops_it(size: tuple[int, int], interpolation: Interpolation) -> None:
    assert_same(Preprocessing(224, 224, MEAN, STD, interpolation=interpolation), noise(*size))


@pytest.mark.parametrize("size", [(2500, 260), (100, 1000), (1000, 1), (3, 500), (901, 100), (300, 200), (200, 100)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize("resize", [None, 120])
def test_the_middle_alone_gives_the_same_pixels(
    size: tuple[int, int], interpolation: Interpolation, resize: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = Preprocessing(100, 100, MEAN, STD, interpolation=interpolation, resize=resize)
    whole = preprocessing(noise(*size)).int()
    monkeypatch.setattr(module, "MOST_PIXELS", 0)
    middle = preprocessing(noise(*size)).int()
    assert (whole - middle).abs().max() <= 2  # ties that round the other way, once in each of two passes
    assert (whole != middle).float().mean() < 0.2


@pytest.mark.parametrize("size", [(1, 8000), (8000, 1), (50_000, 300), (1, 1)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_a_strip_costs_no_more_than_an_image(
    size: tuple[int, int], mode: ResizeMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, resized = Image.new("RGB", size, (10, 200, 30)), list[Image.Image]()
    plain = Image.Image.resize

    def recorded(*given: Any, **more: Any) -> Image.Image:
        resized.append(plain(*given, **more))
        return resized[-1]

    monkeypatch.setattr(Image.Image, "resize", recorded)
    pixels = Preprocessing(224, 224, MEAN, STD, resize_mode=mode)(image)
    assert pixels.shape == (3, 224, 224)
    assert pixels[:, 111:113, 111:113].amax((1, 2)).tolist() == [10, 200, 30]
    assert max(each.width * each.height for each in resized) <= MOST_PIXELS


def test_a_strip_keeps_its_middle() -> None:
    strip = np.zeros((10, 1000, 3), dtype=np.uint8)
    strip[:, 495:505] = 255
    pixels = Preprocessing(32, 32, MEAN, STD)(strip)
    assert pixels[:, 16, 16].tolist() == [255] * 3
    assert pixels.float().mean() > 200


def test_every_field_moves_the_digest() -> None:
    base = Preprocessing(224, 224, MEAN, STD)
    others = [
        Preprocessing(225, 224, MEAN, STD),
        Preprocessing(224, 225, MEAN, STD),
        Preprocessing(224, 224, STD, STD),
        Preprocessing(224, 224, MEAN, MEAN),
        Preprocessing(224, 224, MEAN, STD, interpolation="bilinear"),
        Preprocessing(224, 224, MEAN, STD, resize_mode="squash"),
        Preprocessing(224, 224, MEAN, STD, resize=256),
        Preprocessing(224, 224, MEAN, STD, fill=1),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 9
    assert base.digest == Preprocessing(224, 224, MEAN, STD).digest
