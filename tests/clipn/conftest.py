"""What the tests of CLIPN share."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.clipn.tiny import tiny_encoder
from vlm_ood.encoders.clip import ClipEncoder

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "black", "white")


@pytest.fixture(scope="session")
def encoder() -> ClipEncoder:
    return tiny_encoder()


@pytest.fixture
def colour_table(tmp_path: Path) -> Path:
    """Eight pictures of one colour and what they show."""
    lines = []
    for colour in COLOURS:
        Image.new("RGB", (40, 32), colour).save(tmp_path / f"{colour}.png")
        lines.append(json.dumps({"image": f"{colour}.png", "caption": f"a photo of something {colour}."}))
    table = tmp_path / "captions.jsonl"
    table.write_text("\n".join(lines))
    return table
