"""The word lists can be made again, byte for byte."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LEXICONS = Path(__file__).parents[2] / "lexicons"
WORDNET = Path("/usr/share/wordnet")


@pytest.mark.slow
def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    if not (WORDNET / "data.noun").exists():
        pytest.skip(f"no WordNet in {WORDNET}: apt-get install wordnet-base wordnet-sense-index")
    for name in ("csp-superclasses.txt", "everyday.txt"):  # the lists that are not WordNet's
        shutil.copy(LEXICONS / name, tmp_path)

    subprocess.run([sys.executable, LEXICONS / "build.py", "--out", tmp_path], check=True, timeout=300)

    built = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path: (LEXICONS / path).read_bytes() for path in built}
    assert len(built) == 29 + 27 + 5
    assert built == shipped
