"""A broken file stops nothing, at any number of files."""

import io
from pathlib import Path

import pytest
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from tests.fakes import FakeEncoder, save_picture
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs
from vlm_ood.pipeline import encode_files
from vlm_ood.types import ImageFeatures


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


def test_ten_thousand_pictures_of_which_three_are_broken() -> None:
    files = [png("red")] * 10_000
    files[17], files[5000], files[9999] = b"", b"text", png("red")[:30]
    done: list[int] = []
    encoded = encode_files(FakeEncoder(), files, batch_size=256, progress=done.append)
    assert sorted(encoded.errors) == [17, 5000, 9999]
    assert len(encoded.rows) == len(encoded.features) == 9997
    assert sum(done) == 10_000


def test_features_stand_in_the_order_of_the_files(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    colours = ["red", "blue", "lime", "white", "black", "yellow", "navy"]
    files = [save_picture(tmp_path / f"{colour}.png", colour) for colour in colours]
    encoded = encode_files(encoder, [*files[:3], tmp_path / "none.png", *files[3:]], batch_size=2)
    assert encoded.rows == (0, 1, 2, 4, 5, 6, 7)
    assert "no such file" in str(encoded.errors[3])
    alone = torch.cat([encode_files(encoder, [file]).features.pooled for file in files])
    assert torch.allclose(encoded.features.pooled, alone, atol=1e-6)


def test_nothing_but_broken_files_gives_no_rows() -> None:
    encoded = encode_files(FakeEncoder(), [b"", b"x"])
    assert (encoded.rows, len(encoded.features), len(encoded.errors)) == ((), 0, 2)


class OverflowingEncoder(FakeEncoder):
    """Gives no finite vector for a black picture, as a network in fp16 may; counts its forward passes."""

    passes = 0

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        self.passes += 1
        return super().encode_pixels(pixels, outputs)

    def _see(self, colour: Float[Tensor, "... 3"]) -> Float[Tensor, "... d"]:
        return super()._see(colour).masked_fill(colour.sum(dim=-1, keepdim=True) == 0, torch.nan)


@pytest.mark.parametrize("outputs", [POOLED, PATCHES])
def test_a_vector_that_is_not_finite_is_an_error_of_its_image_alone(outputs: Outputs) -> None:
    colours = ["red", "blue", "black", "lime", "white", "yellow", "navy", "black", "red"]
    encoder = OverflowingEncoder()
    done: list[int] = []
    encoded = encode_files(encoder, [*map(png, colours), b""], outputs, batch_size=8, progress=done.append)
    assert encoded.rows == (0, 1, 3, 4, 5, 6, 8)
    assert sorted(encoded.errors) == [2, 7, 9]
    assert "fp32" in str(encoded.errors[2])
    assert sum(done) == 10
    alone = encode_files(FakeEncoder(), [png(colour) for colour in colours if colour != "black"], outputs)
    assert torch.allclose(encoded.features.pooled, alone.features.pooled, atol=1e-6)
    assert encoder.passes == 12  # of 8: one whole, two halves, four quarters, the four images of two quarters; and of 1


def test_nothing_but_vectors_that_are_not_finite_gives_no_rows() -> None:
    encoded = encode_files(OverflowingEncoder(), [png("black")] * 3)
    assert (encoded.rows, len(encoded.features), sorted(encoded.errors)) == ((), 0, [0, 1, 2])


def test_patches_are_kept_when_asked_for() -> None:
    features = encode_files(FakeEncoder(), [png("red")] * 3, PATCHES).features
    assert features.patches is not None
    assert features.patches.shape == (3, 4, 16)


@pytest.mark.parametrize("size", [(1, 1), (1, 8000), (8000, 1)])
def test_odd_sizes_are_encoded(size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    assert len(encode_files(FakeEncoder(), [out.getvalue()]).features) == 1
