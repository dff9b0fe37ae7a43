from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_ood.clipn.batches import PairBatch, PairBatches, random_crop
from vlm_ood.clipn.no_tower import CHOICES
from vlm_ood.clipn.table import read_table
from vlm_ood.encoders.preprocessing import Preprocessing


@pytest.fixture
def batches(colour_table: Path) -> PairBatches:
    preprocessing = Preprocessing(8, 8, (0.5,) * 3, (0.5,) * 3)
    return PairBatches(read_table(colour_table), preprocessing, size=4, seed=0, crop_share=(0.9, 1.0), workers=2)


def captions(batch: PairBatch) -> tuple[str, ...]:
    return batch.captions


def test_an_epoch_holds_every_pair_once_and_the_next_one_in_another_order(batches: PairBatches) -> None:
    run = list(batches.run(0, 4, 0, 1))
    first, second = (sum(map(captions, run[start : start + 2]), ()) for start in (0, 2))
    assert len(set(first)) == len(set(second)) == 8
    assert set(first) == set(second)
    assert first != second


def test_several_processes_share_exactly_the_batches_of_one(batches: PairBatches) -> None:
    alone = list(batches.run(0, 3, 0, 1))
    shares = [list(batches.run(0, 3, rank, 2)) for rank in range(2)]
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert sum(map(captions, parts), ()) == batch.captions
        assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
        assert torch.equal(torch.cat([part.choices for part in parts]), batch.choices)


def test_batches_after_an_interruption_are_those_that_were_left(batches: PairBatches) -> None:
    whole, rest = list(batches.run(0, 5, 0, 1)), list(batches.run(3, 5, 0, 1))
    assert [batch.captions for batch in whole[3:]] == [batch.captions for batch in rest]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(whole[3:], rest, strict=True))


def test_a_broken_picture_leaves_its_place_empty_and_the_others_where_they_were(
    batches: PairBatches, colour_table: Path
) -> None:
    before = next(batches.run(0, 1, 0, 1))
    (colour_table.parent / f"{before.captions[1].split()[-1][:-1]}.png").write_bytes(b"broken")
    after = next(batches.run(0, 1, 0, 1))
    assert after.places.tolist() == [0, 2, 3]
    assert torch.equal(after.pixels, before.pixels[[0, 2, 3]])
    assert torch.equal(after.choices, before.choices[[0, 2, 3]])
    assert len(after.errors) == 1


def test_a_share_without_a_readable_picture_is_empty_not_an_error(batches: PairBatches, colour_table: Path) -> None:
    for picture in colour_table.parent.glob("*.png"):
        picture.unlink()
    batch = next(batches.run(0, 1, 0, 1))
    assert batch.pixels.shape == (0, 3, 8, 8)
    assert (batch.captions, len(batch.errors)) == ((), 4)


def test_every_choice_comes_about_as_often_as_the_others(batches: PairBatches) -> None:
    drawn = replace(batches, size=CHOICES * 1000)._choices(0)
    counts = torch.bincount(drawn, minlength=CHOICES)
    assert len(counts) == CHOICES
    assert 800 < counts.min() <= counts.max() < 1200


@pytest.mark.parametrize("size", [(100, 100), (120, 100), (1, 1), (400, 20), (20, 400)])
def test_a_crop_keeps_its_share_of_the_area_or_the_widest_middle(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    for seed in range(50):
        crop = random_crop(image, np.random.default_rng(seed), (0.9, 1.0))
        assert max(crop.size) / min(crop.size) <= 4 / 3 + 0.05
        if max(size) <= 1.2 * min(size):
            assert crop.width * crop.height >= 0.89 * size[0] * size[1]
        else:
            assert min(crop.size) == min(size)
