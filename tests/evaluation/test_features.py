import shutil
from pathlib import Path

import pytest
import torch
from jaxtyping import UInt8
from torch import Tensor

from tests.fakes import FakeEncoder, save_picture
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs
from vlm_ood.evaluation import features as module
from vlm_ood.evaluation.datasets import FileSet, read_ood_set
from vlm_ood.evaluation.features import encode_parts, stored_set
from vlm_ood.io.cache import DiskCache
from vlm_ood.io.vectors import save_features
from vlm_ood.types import ImageFeatures


class CountingEncoder(FakeEncoder):
    """Counts the pictures that go through the network."""

    encoded = 0

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        self.encoded += len(pixels)
        return super().encode_pixels(pixels, outputs)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSet:
    """Five pictures, the third broken, in parts of two."""
    monkeypatch.setattr(module, "PART", 2)
    for row, colour in enumerate(("red", "lime", "blue", "white", "black")):
        save_picture(tmp_path / "set" / f"{row}.png", colour)
    (tmp_path / "set" / "2.png").write_bytes(b"")
    return read_ood_set(str(tmp_path / "set"))


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache")


def test_parts_are_in_order_and_broken_files_are_errors(files: FileSet) -> None:
    encoder = CountingEncoder()
    done: list[int] = []

    parts = list(encode_parts(encoder, files, progress=done.append))

    assert [part.images for part in parts] == [("0.png", "1.png"), ("3.png",), ("4.png",)]
    assert parts[1].errors == {"2.png": "empty file: 0 bytes"}
    assert sum(done) == 5
    pooled = torch.cat([part.features.pooled for part in parts])
    alone = torch.cat([p.features.pooled for file in files.files for p in encode_parts(encoder, _one(file))])
    torch.testing.assert_close(pooled, alone)


def _one(file: Path) -> FileSet:
    return FileSet("one", (file.name,), (file,), (-1,))


def test_the_second_run_encodes_nothing_and_says_the_same(files: FileSet, cache: DiskCache) -> None:
    encoder = CountingEncoder()
    first = list(encode_parts(encoder, files, PATCHES, cache=cache))
    encoded, done = encoder.encoded, list[int]()

    second = list(encode_parts(encoder, files, PATCHES, cache=cache, progress=done.append))

    assert encoder.encoded == encoded == 4
    assert sum(done) == 5
    for old, new in zip(first, second, strict=True):
        assert (old.images, old.errors, old.features.grid) == (new.images, new.errors, new.features.grid)
        assert old.features.patches is not None
        assert new.features.patches is not None
        assert torch.equal(old.features.pooled, new.features.pooled)
        assert torch.equal(old.features.patches, new.features.patches)


def test_a_run_without_patches_reads_what_one_with_patches_kept(files: FileSet, cache: DiskCache) -> None:
    encoder = CountingEncoder()
    list(encode_parts(encoder, files, PATCHES, cache=cache))

    parts = list(encode_parts(encoder, files, cache=cache))

    assert encoder.encoded == 4
    assert all(part.features.patches is None for part in parts)
    list(encode_parts(encoder, files, PATCHES, cache=cache))
    assert encoder.encoded == 4


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs(stages=(1,)),
        Outputs(stages=(1, 2)),
        Outputs(windows=(1,)),
        Outputs(patches=True, size=(16, 16)),
        Outputs(size=(16, 16)),
        Outputs(patches=True, attention="softmax"),
    ],
    ids=str,
)
def test_what_was_encoded_otherwise_is_not_read(files: FileSet, cache: DiskCache, outputs: Outputs) -> None:
    encoder = CountingEncoder()
    list(encode_parts(encoder, files, PATCHES, cache=cache))

    first = list(encode_parts(encoder, files, outputs, cache=cache))
    assert encoder.encoded == 8

    second = list(encode_parts(encoder, files, outputs, cache=cache))
    assert encoder.encoded == 8
    assert [part.features.digest for part in first] == [part.features.digest for part in second]


def test_features_are_found_again_after_a_move_and_not_after_a_change(
    files: FileSet, cache: DiskCache, tmp_path: Path
) -> None:
    encoder = CountingEncoder()
    list(encode_parts(encoder, files, cache=cache))
    moved = Path(shutil.copytree(tmp_path / "set", tmp_path / "elsewhere"))
    list(encode_parts(encoder, read_ood_set(str(moved)), cache=cache))
    assert encoder.encoded == 4

    save_picture(moved / "4.png", "yellow")
    list(encode_parts(encoder, read_ood_set(str(moved)), cache=cache))

    assert encoder.encoded == 5  # only the part of the changed file


def test_another_encoder_does_not_read_these_features(files: FileSet, cache: DiskCache) -> None:
    list(encode_parts(CountingEncoder(), files, cache=cache))
    other = CountingEncoder(name="other")

    list(encode_parts(other, files, cache=cache))

    assert other.encoded == 4


def test_a_missing_file_is_tried_again_by_the_next_run(files: FileSet, cache: DiskCache) -> None:
    encoder = CountingEncoder()
    gone = files.files[4].rename(files.files[4].with_suffix(".away"))
    assert "no such file" in list(encode_parts(encoder, files, cache=cache))[2].errors["4.png"]

    gone.rename(files.files[4])

    assert list(encode_parts(encoder, files, cache=cache))[2].images == ("4.png",)


def test_a_feature_file_becomes_a_set_with_its_broken_rows_as_errors(tmp_path: Path) -> None:
    features = ImageFeatures(torch.eye(3))
    save_features(tmp_path / "f.safetensors", features, ["a", "b", "c"], torch.tensor([2, 1, 0]))
    (part,) = stored_set("id", tmp_path / "f.safetensors").parts
    assert part.images == ("a", "b", "c")
    assert part.labels is not None
    assert part.labels.tolist() == [2, 1, 0]

    (unlabelled,) = stored_set("ood", tmp_path / "f.safetensors", labelled=False).parts

    assert unlabelled.labels is not None
    assert unlabelled.labels.tolist() == [-1, -1, -1]
