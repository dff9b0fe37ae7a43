"""`vlm-ood demo` on its photographs."""

from pathlib import Path

import pytest

from vlm_ood.cli import build
from vlm_ood.demo import KNOWN, UNKNOWN, picture_count, run_demo
from vlm_ood.encoders import load_encoder


@pytest.mark.slow
def test_the_photographs_that_belong_stand_apart() -> None:
    pytest.importorskip("skimage", reason="scikit-image's sample photographs are not installed")
    done: list[int] = []
    demo = run_demo(load_encoder("embedded", device="cpu"), done.append)
    assert sum(done) == picture_count()
    known = {Path(name).name: label for label, name in KNOWN.items()}
    scores = {result.image: result.score or 0.0 for result in demo.results}
    assert max(scores[name] for name in known) < min(scores[Path(name).name] for name in UNKNOWN)
    for result in demo.results:
        assert result.p_value is not None
        if result.image in known:
            assert result.classes[0].name == known[result.image]
        else:
            assert result.decision == "out"


def test_every_command_has_a_help_text() -> None:
    commands = build().registered_commands
    assert len(commands) > 8
    for command in commands:
        assert command.callback is not None
        assert command.callback.__doc__
