import json
from pathlib import Path

import numpy as np
import pytest

from vlm_ood.clipn.data import read_pairs
from vlm_ood.clipn.table import read_table
from vlm_ood.errors import InputError


def test_the_three_kinds_of_table_hold_the_same_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image,caption\nx/cat.png,"a cat, asleep"\ndog.png,a dog\n')
    (tmp_path / "a.tsv").write_text("caption\timage\na cat, asleep\tx/cat.png\na dog\tdog.png\n")
    rows = [{"image": "x/cat.png", "caption": "a cat, asleep"}, {"image": "dog.png", "caption": "a dog"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tables = [read_table(tmp_path / f"a.{kind}") for kind in ("csv", "tsv", "jsonl")]
    assert tables[0] == tables[1] == tables[2]
    assert tables[0].pictures == (tmp_path / "x/cat.png", tmp_path / "dog.png")
    assert tables[0][1].caption == "a dog"


def test_rows_without_a_picture_or_a_caption_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ['{"image": "a.png", "caption": "a"}', '{"image": "b.png"}', '{"image": "", "caption": "c"}', "{", "[1]"]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "", '{"image": 7, "caption": "d"}']))
    table = read_table(tmp_path / "a.jsonl")
    assert table.captions == ("a",)
    assert table.skipped == 5


def test_columns_of_other_names_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "cc3m.tsv").write_text("filepath\ttitle\na.jpg\ta boat\n")
    assert read_pairs([tmp_path / "cc3m.tsv"], image="filepath", caption="title")[0].caption == "a boat"
    with pytest.raises(InputError, match=r"\['filepath', 'title'\] and lacks \['caption', 'image'\]"):
        read_table(tmp_path / "cc3m.tsv")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b"image,caption\n\xff\xfe,x\n"), ("a.csv", b"image,caption\n,\n"), ("a.jsonl", b""), ("a.txt", b"x")],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_pairs([tmp_path / name])


def test_a_missing_table_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_pairs([tmp_path / "a.csv"])


def test_an_epoch_holds_every_row_once_in_an_order_of_its_generator(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,caption\n" + "".join(f"{row}.png,row {row}\n" for row in range(50)))
    table = read_table(tmp_path / "a.csv")
    first, again, other = (table.order(np.random.default_rng(seed)).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == list(range(50))
