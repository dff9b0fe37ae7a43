"""Identity: what differs in one ingredient has another digest, misses every cache and is refused by a calibration."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes import FakeEncoder
from vlm_ood import Task, TextBank, create_detector, text_bank
from vlm_ood.calibration import Calibration
from vlm_ood.digests import digest_of, digest_of_weights
from vlm_ood.errors import VlmOodError
from vlm_ood.io.cache import DiskCache
from vlm_ood.tasks import DetectorSpec, MinedBank, StoredBank, StoredSupport, TaskSpec, TemplateBank

VALUES = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def check_all_differ(digests: dict[str, str]) -> None:
    same = [(one, two) for one, two in combinations(digests, 2) if digests[one] == digests[two]]
    assert not same


def changed(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with the last bit of its last number turned over."""
    bits = tensor.clone().view(torch.int32)
    bits.view(-1)[-1] ^= 1
    return bits.view(torch.float32)


def test_what_differs_in_content_type_shape_or_division_has_another_digest() -> None:
    check_all_differ(
        {
            "two parts": digest_of("a", "b"),
            "one part": digest_of("ab"),
            "other order": digest_of("b", "a"),
            "a list": digest_of(["a", "b"]),
            "bytes": digest_of(b"a", b"b"),
            "empty part": digest_of("a", "b", ""),
            "number": digest_of(1),
            "fraction": digest_of(1.0),
            "truth": digest_of(True),
            "text": digest_of("1"),
            "nothing": digest_of(None),
            "tensor": digest_of(VALUES),
            "its last bit": digest_of(changed(VALUES)),
            "double": digest_of(VALUES.double()),
            "flat": digest_of(VALUES.flatten()),
            "transposed": digest_of(VALUES.T),
            "the same bytes as whole numbers": digest_of(VALUES.view(torch.int32)),
        }
    )
    assert digest_of(VALUES.T) == digest_of(VALUES.T.contiguous()), "strides are not content"
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_weights_of_another_name_type_shape_or_bit_have_another_digest() -> None:
    weights = {"a": VALUES, "b": VALUES + 1}
    check_all_differ(
        {
            "weights": digest_of_weights(weights),
            "renamed": digest_of_weights({"a": VALUES, "c": VALUES + 1}),
            "exchanged": digest_of_weights({"b": VALUES, "a": VALUES + 1}),
            "last bit": digest_of_weights(weights | {"b": changed(VALUES + 1)}),
            "half precision": digest_of_weights(weights | {"b": (VALUES + 1).half()}),
            "reshaped": digest_of_weights(weights | {"b": (VALUES + 1).flatten()}),
            "one less": digest_of_weights({"a": VALUES}),
        }
    )
    assert digest_of_weights(weights) == digest_of_weights(dict(reversed(weights.items())))


CLASSES = TemplateBank(("a", "b"))


def spec(method: str = "neglabel", encoder: str = "e", **parts: object) -> DetectorSpec:
    chosen: dict[str, object] = {"classes": CLASSES, "negatives": MinedBank(words=("x", "y"))} | parts
    parameters = chosen.pop("parameters", {})
    return DetectorSpec(method, TaskSpec(encoder=encoder, **chosen), parameters)  # type: ignore[arg-type]


def test_a_spec_with_one_other_ingredient_has_another_digest() -> None:
    specs = {
        "spec": spec(),
        "method": spec("mcm", negatives=None),
        "encoder": spec(encoder="f"),
        "temperature": spec(parameters={"temperature": 0.02}),
        "names": spec(classes=TemplateBank(("a", "c"))),
        "order of names": spec(classes=TemplateBank(("b", "a"))),
        "templates": spec(classes=TemplateBank(("a", "b"), ("{}",))),
        "words": spec(negatives=MinedBank(words=("x", "z"))),
        "keep": spec(negatives=MinedBank(words=("x", "y"), keep=0.2)),
        "quantile": spec(negatives=MinedBank(words=("x", "y"), quantile=0.9)),
        "recipe": spec(negatives=MinedBank("csp", words=("x", "y"))),
        "stored bank": spec(negatives=StoredBank("bnk_1", "d")),
        "its content": spec(negatives=StoredBank("bnk_1", "e")),
    }
    check_all_differ({name: each.digest for name, each in specs.items()})
    of_classes = {"names", "order of names", "templates"}
    check_all_differ({name: each.family for name, each in specs.items() if name not in of_classes})
    assert specs["names"].family == specs["spec"].family


def test_other_labelled_images_are_another_detector(knn: str) -> None:
    supports = {content: spec(knn, negatives=None, support=StoredSupport("bnk_1", content)) for content in "de"}
    check_all_differ({name: each.digest for name, each in supports.items()})


def fitted(vectors: torch.Tensor, names: tuple[str, ...] = ("a", "b"), temperature: float = 1.0) -> str:
    task = Task(classes=TextBank(names, vectors))
    return create_detector("mcm", temperature=temperature).fit(task).digest


@pytest.mark.parametrize(
    "other",
    [
        lambda: fitted(VALUES, temperature=1.5),
        lambda: fitted(VALUES, names=("a", "c")),
        lambda: fitted(VALUES.flip(0)),
        lambda: fitted(torch.tensor([[1.0, 2.0], [3.0, 4.001]])),
    ],
    ids=["parameter", "name", "rows", "vector"],
)
def test_a_calibration_refuses_a_detector_of_which_anything_was_changed(other: Callable[[], str]) -> None:
    calibration = Calibration.of(np.linspace(0, 1, 40), 0.95, fitted(VALUES))
    calibration.check(fitted(VALUES))
    with pytest.raises(VlmOodError):
        calibration.check(other())
    again = Calibration.from_bytes(calibration.to_bytes())
    with pytest.raises(VlmOodError):
        again.check(other())


def test_weights_changed_under_one_name_miss_the_cache_of_banks(tmp_path: Path) -> None:
    cache, before, after = DiskCache(tmp_path), FakeEncoder(), FakeEncoder()
    after.digest = digest_of("other weights")
    first = text_bank(before, ["red", "blue"], cache=cache)
    assert torch.equal(text_bank(before, ["red", "blue"], cache=cache).embeddings, first.embeddings)
    seen = len(before.prompts_seen)
    text_bank(after, ["red", "blue"], cache=cache)
    assert len(after.prompts_seen) == seen == 2, "one was read from the cache of the other"
    text_bank(before, ["red", "blue"], templates=["{}"], cache=cache)
    assert len(before.prompts_seen) == 4, "another template"
    text_bank(before, ["blue", "red"], cache=cache)
    assert len(before.prompts_seen) == 6, "another order"
