import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_ood.clipn.data import read_pairs
from vlm_ood.clipn.shards import NEIGHBOURS, open_shards
from vlm_ood.errors import ImageError, InputError
from vlm_ood.images import load_image


def png(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(content, "PNG")
    return content.getvalue()


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


def test_a_picture_and_the_text_beside_it_are_a_pair(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [("a.png", png("red")), ("a.json", b"{}"), ("a.txt", b" red thing\n")])
    write_shard(tmp_path / "1.tar", [("x/b.c.txt", b"lost"), ("x/a.txt", "grün".encode()), ("x/a.png", png("green"))])
    shards = read_pairs([tmp_path])
    assert [shards[row].caption for row in range(len(shards))] == ["red thing", "grün"]
    picture = shards[1].picture
    assert isinstance(picture, bytes)
    assert load_image(picture).getpixel((0, 0)) == (0, 128, 0)
    assert shards.skipped == 0


def test_samples_that_lack_a_part_are_counted(tmp_path: Path) -> None:
    members = [("a.png", png("red")), ("b.txt", b"no picture"), ("c.png", png("red")), ("c.txt", b"c"), ("d.png", b"")]
    shards = open_shards([write_shard(tmp_path / "0.tar", members)])
    assert [shards[row].caption for row in range(len(shards))] == ["c"]
    assert shards.skipped == 2


def test_links_devices_and_too_large_files_are_skipped(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    path = write_shard(tmp_path / "0.tar", [("ok.png", png("red")), ("ok.txt", b"fine"), ("../../up.png", png("red"))])
    with tarfile.open(path, "a") as shard:
        for name, kind in (
            ("../../up.txt", tarfile.SYMTYPE),
            ("hard.txt", tarfile.LNKTYPE),
            ("dev.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            shard.addfile(info)
        huge = tarfile.TarInfo("huge.txt")
        huge.size = 65 * 2**10
        shard.addfile(huge, io.BytesIO(bytes(huge.size)))
    shards = open_shards([path])
    assert [shards[row].caption for row in range(len(shards))] == ["fine"]


def test_a_shard_that_was_cut_off_gives_what_came_before(tmp_path: Path) -> None:
    members = [(f"{row}.{part}", content) for row in range(9) for part, content in (("png", png("red")), ("txt", b"x"))]
    whole = write_shard(tmp_path / "whole.tar", members).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 7 * 2048 + 700])
    shards = open_shards([tmp_path / "cut.tar"])
    assert 0 < len(shards) < 9
    assert shards.skipped >= 1
    for row in range(len(shards)):
        picture = shards[row].picture
        assert isinstance(picture, bytes)
        load_image(picture)


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(InputError, match=r"a\.tar is not an uncompressed tar"):
        open_shards([tmp_path / "a.tar"])
    with pytest.raises(InputError, match="no pair"):
        open_shards([write_shard(tmp_path / "b.tar", [("a.png", png("red"))])])
    with pytest.raises(FileNotFoundError):
        open_shards([tmp_path / "c.tar"])


def test_a_shard_that_vanishes_is_an_error_of_its_pairs(tmp_path: Path) -> None:
    shards = open_shards([write_shard(tmp_path / "0.tar", [("a.png", png("red")), ("a.txt", b"a")])])
    (tmp_path / "0.tar").unlink()
    with pytest.raises(ImageError, match=r"0\.tar"):
        shards[0]


def test_an_epoch_holds_every_pair_once_and_reads_a_few_shards_at_a_time(tmp_path: Path) -> None:
    count = NEIGHBOURS + 4
    for shard in range(count):
        pairs = [(f"{row}.{part}", b"x") for row in range(5) for part in ("png", "txt")]
        write_shard(tmp_path / f"{shard:02}.tar", pairs)
    shards = open_shards(sorted(tmp_path.glob("*.tar")))
    order = shards.order(np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(5 * count))
    assert len(set(shards.places[order[: 5 * NEIGHBOURS], 0].tolist())) == NEIGHBOURS
    assert order.tolist() != shards.order(np.random.default_rng(1)).tolist()
