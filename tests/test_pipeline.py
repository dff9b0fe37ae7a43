"""A broken file stops nothing, at any number of files."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.fakes import FakeEncoder, save_picture
from vlm_ood.encoders.outputs import PATCHES
from vlm_ood.pipeline import encode_files


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


def test_patches_are_kept_when_asked_for() -> None:
    features = encode_files(FakeEncoder(), [png("red")] * 3, PATCHES).features
    assert features.patches is not None
    assert features.patches.shape == (3, 4, 16)


@pytest.mark.parametrize("size", [(1, 1), (1, 8000), (8000, 1)])
def test_odd_sizes_are_encoded(size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    assert len(encode_files(FakeEncoder(), [out.getvalue()]).features) == 1
