"""A record that others hold can't be changed, unless it is listed here because it counts or collects."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
CHANGING: Final = {
    "service.caching.flight._Shared",
    "service.engine.decoding.base.Picture",
    "service.engine.records.Timings",
    "service.engine.schedule.holdings.Held",
    "service.engine.schedule.holdings.Place",
    "service.engine.schedule.items.Item",
    "service.engine.schedule.items.ImageItem",
    "service.engine.schedule.items.TextItem",
    "service.engine.schedule.latency.LatencyModel",
    "service.errors.RetryableError",
    "service.security.charges.Account",
    "vlm_ood.client.files.Batch",
}


def unfrozen() -> Iterator[str]:
    for package in ("vlm_ood", "service"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef) and any(map(_leaves_open, node.decorator_list)):
                    yield f"{module}.{node.name}"


def _leaves_open(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if ast.unparse(called).rpartition(".")[2] != "dataclass":
        return False
    options = decorator.keywords if isinstance(decorator, ast.Call) else []
    return not any(each.arg == "frozen" and ast.unparse(each.value) == "True" for each in options)


def test_every_record_is_frozen_but_those_that_count_or_collect() -> None:
    assert set(unfrozen()) == CHANGING
