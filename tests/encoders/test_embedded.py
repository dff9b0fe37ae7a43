"""The embedded encoder on real photographs."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vlm_ood as vo
from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import CapabilityError
from vlm_ood.images import load_image
from vlm_ood.pipeline import encode_files


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return vo.load_encoder("embedded", device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    data = pytest.importorskip("skimage.data", reason="scikit-image's sample photographs are not installed")
    return [Image.fromarray(array[..., :3]) for array in (data.chelsea(), data.coffee(), data.rocket())]


def test_photographs_are_nearest_to_what_they_show(encoder: Encoder, pictures: list[Image.Image]) -> None:
    bank = vo.text_bank(encoder, ["cat", "cup of coffee", "rocket"])
    cosine = encoder.encode_images(pictures).pooled @ bank.embeddings.T
    assert cosine.argmax(dim=1).tolist() == [0, 1, 2]


def test_a_picture_is_encoded_alike_alone_and_in_a_batch(encoder: Encoder, pictures: list[Image.Image]) -> None:
    together = encoder.encode_images(pictures, batch_size=3).pooled
    alone = torch.cat([encoder.encode_images([picture]).pooled for picture in pictures])
    assert torch.allclose(together, alone, atol=1e-5)


def test_an_array_and_a_picture_of_the_same_pixels_are_the_same(encoder: Encoder, pictures: list[Image.Image]) -> None:
    arrays = [np.asarray(picture) for picture in pictures]
    assert torch.equal(encoder.encode_images(arrays).pooled, encoder.encode_images(pictures).pooled)


def test_pooled_and_patch_features_come_from_one_pass(encoder: Encoder, pictures: list[Image.Image]) -> None:
    features = encoder.encode_images(pictures, patches=True)
    assert features.patches is not None
    assert features.patches.shape == (3, 81, 384)
    assert features.grid == (9, 9)
    assert torch.allclose(features.pooled, encoder.encode_images(pictures).pooled, atol=1e-5)
    assert torch.allclose(features.patches.norm(dim=-1), torch.ones(3, 81), atol=1e-5)


def test_a_uniform_feature_map_makes_every_patch_the_pooled_vector(encoder: Encoder) -> None:
    logits = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    mix = encoder._mix  # type: ignore[attr-defined]
    assert torch.allclose(mix(logits.expand(81, -1)), mix(logits).expand(81, -1), atol=1e-6)


def test_text_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    prompts = ["a cat", "a photograph of a very long sentence about nothing in particular, twice over", "rocket"]
    together = encoder.encode_text(prompts)
    alone = torch.cat([encoder.encode_text([prompt]) for prompt in prompts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)


def test_raw_text_vectors_are_the_unit_ones_before_normalising(encoder: Encoder) -> None:
    raw = encoder.encode_text(["cat", "dog"], normalise=False)
    assert not torch.allclose(raw.norm(dim=1), torch.ones(2), atol=1e-2)
    assert torch.allclose(torch.nn.functional.normalize(raw), encoder.encode_text(["cat", "dog"]), atol=1e-6)


def test_stages_are_the_feature_maps_with_their_grids(encoder: Encoder, pictures: list[Image.Image]) -> None:
    outputs = Outputs(stages=(2, 3, 5), size=(128, 96))
    features = encoder.encode_images(pictures[:2], outputs)
    assert features.stage_grids == {2: (32, 24), 3: (16, 12), 5: (8, 6)}
    tower = encoder._image_tower  # type: ignore[attr-defined]
    seen: dict[int, Tensor] = {}
    hooks = [
        tower.blocks[number - 1].register_forward_hook(lambda _, __, given, number=number: seen.update({number: given}))
        for number in outputs.stages
    ]
    encoder.encode_images(pictures[:2], Outputs(size=(128, 96)))
    for hook in hooks:
        hook.remove()
    for number, (rows, columns) in features.stage_grids.items():
        maps = features.stages[number].view(2, rows, columns, -1).permute(0, 3, 1, 2)
        torch.testing.assert_close(maps, seen[number])


def test_patches_and_pooled_vectors_come_at_any_size(encoder: Encoder, pictures: list[Image.Image]) -> None:
    features = encoder.encode_images(pictures, Outputs(patches=True, size=(200, 130)))
    assert features.grid == (7, 5)
    own = encoder.encode_images(pictures).pooled
    assert ((features.pooled * own).sum(dim=1) > 0.5).all()
    with pytest.raises(CapabilityError, match=r"takes sizes from 32x32 pixels, not \(31, 64\)"):
        encoder.encode_images(pictures, Outputs(size=(31, 64)))


def test_stages_are_refused_with_what_there_is(encoder: Encoder, pictures: list[Image.Image]) -> None:
    with pytest.raises(CapabilityError, match=r"has the blocks 1 to 7, not \[8\]"):
        encoder.encode_images(pictures[:1], Outputs(stages=(3, 8)))


def test_two_loads_have_one_digest(encoder: Encoder) -> None:
    assert vo.load_encoder("embedded", device="cpu").digest == encoder.digest


@pytest.mark.slow
def test_a_tenth_of_imagenets_classes_stands_out_from_the_rest(encoder: Encoder, shared_data: Path) -> None:
    folder = shared_data / "photos-imagenet"
    with (folder / "labels.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    features = encode_files(encoder, [folder / row["file"] for row in rows]).features
    bank = vo.text_bank(encoder, [row["name"] for row in rows])
    aurocs, accuracies = [], []
    for seed in range(20):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        known, unknown = order[: len(rows) // 10], order[len(rows) // 10 :]
        classes = bank.take(known)
        fitted = vo.create_detector("mcm").fit(vo.Task(classes=classes))
        aurocs.append(vo.metrics.auroc(fitted.score(features[known]), fitted.score(features[unknown])))
        predicted = (features[known].pooled @ classes.embeddings.T).argmax(dim=1)
        accuracies.append(vo.metrics.accuracy(predicted, torch.arange(len(known))))
    assert np.mean(aurocs) >= 0.975
    assert np.mean(accuracies) >= 0.96


def test_photographs_load_upright_from_disk(encoder: Encoder, tmp_path: Path, pictures: list[Image.Image]) -> None:
    lying = pictures[0].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    lying.save(tmp_path / "cat.png", exif=exif)
    upright = encoder.encode_images([load_image(tmp_path / "cat.png")]).pooled
    assert torch.allclose(upright, encoder.encode_images(pictures[:1]).pooled, atol=1e-4)
