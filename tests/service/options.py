"""Two values of each field of each route, for which the answers must differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.testclient import TestClient

from tests.service.banks.files import bank_file, colours
from tests.service.fakes import files, in_base64, png

Fields = dict[str, Any]

NAMES: Final = ["red", "blue"]
WORDS: Final = ["lime", "yellow", "white", "sofa", "lamp", "river"]
PICTURES: Final = ("red", "lime", "navy")
ONE_NEAR: Final = ["crimson", "lime", "yellow", "sofa"]


@dataclass(frozen=True)
class Case:
    """Two requests that differ in one field.

    Args:
        base: fields of both requests beside those that the route always needs.
        first: the field in the first request; none leaves it out.
        second: in the second request.
        pictures: of the second request; None for those of the first.
    """

    base: Fields = field(default_factory=dict)
    first: Fields = field(default_factory=dict)
    second: Fields = field(default_factory=dict)
    pictures: Sequence[str] | None = None


def changed(name: str, first: Any, second: Any, **base: Any) -> Case:
    """A case of one field; a first value of None leaves it out."""
    return Case(base, {} if first is None else {name: first}, {name: second})


def of_words(first: Fields, second: Fields) -> Case:
    """A case of negatives that are mined from words, by default from all of `WORDS`."""
    every = {"words": WORDS, "keep": 1.0}
    return changed("negatives", every | first, every | second, method="neglabel")


IMAGES: Final = {
    "images": Case(pictures=("blue", "white")),
    "urls": changed("urls", None, ["https://example.org/a.png"]),
}
DETECTOR: Final = {
    "classes": changed("classes", NAMES, ["red", "lime"]),
    "method": changed("method", "mcm", "max_cosine"),
    "parameters": changed("parameters", {"temperature": 1.0}, {"temperature": 0.1}, method="mcm"),
    "templates": changed("templates", "single", ["{}", "no {}"]),
    "encoder": changed("encoder", None, "other"),
    "negatives": of_words({"words": WORDS[:3]}, {"words": WORDS[3:]}),
    "no_templates": changed("no_templates", ["no {}"], ["{} is absent"], method="clipn"),
    "no": changed("no", {"bank": "@no"}, {"bank": "@never"}, method="clipn"),
    "support": changed("support", {"bank": "@support"}, {"bank": "@others"}, method="kth_neighbour"),
    "classes.bank": changed("classes", {"bank": "@no"}, {"bank": "@never"}),
    "negatives.bank": changed("negatives", {"bank": "@no"}, {"bank": "@never"}, method="neglabel"),
    "negatives.recipe": of_words({"recipe": "neglabel"}, {"recipe": "csp"}),
    "negatives.words": of_words({"words": WORDS[:3]}, {"words": WORDS[3:]}),
    "negatives.quantile": of_words(
        {"words": ONE_NEAR, "keep": 0.5, "quantile": 0.01}, {"words": ONE_NEAR, "keep": 0.5, "quantile": 1.0}
    ),
    "negatives.keep": of_words({"keep": 0.2}, {"keep": 1.0}),
}
ANSWER: Final = {"top": changed("top", 1, 2), "threshold": changed("threshold", -1000.0, 1000.0)}
COSTS: Final = {
    "costs": changed("costs", None, {"wrong": 1.0}),
    "costs.wrong": changed("costs", {"wrong": 0.0, "accepted": 0.0}, {"wrong": 1e6, "accepted": 0.0}),
    "costs.rejected": changed("costs", {"rejected": 1e-6}, {"rejected": 1e6, "accepted": 0.0}),
    "costs.accepted": changed("costs", {"wrong": 0.0, "accepted": 0.0}, {"wrong": 0.0, "accepted": 1e6}),
}
CALIBRATION: Final = {
    "keep": changed("keep", 0.5, 0.9),
    "rule": changed("rule", "empirical", "conformal", keep=0.5),
    "append": changed("append", False, True),
}
BANK: Final = {"label": changed("label", "one", "two"), "encoder": changed("encoder", None, "other")}
UPLOADED: Final = BANK | {"file": changed("file", bank_file(colours("red")), bank_file(colours("blue")))}
SUPPORT: Final = BANK | {"images": IMAGES["images"], "labels": changed("labels", ["a", "b", "b"], ["a", "a", "b"])}
TEMPLATES: Final = BANK | {
    "kind": Case(
        first={"kind": "templates", "names": NAMES},
        second={"kind": "mined", "names": None, "classes": NAMES, "words": WORDS, "keep": 1.0},
    ),
    "names": changed("names", NAMES, ["red", "lime"]),
    "templates": changed("templates", "single", ["{}", "no {}"]),
}
CSP: Final[Fields] = {"recipe": "csp", "words": None, "only": ["adj.ppl"], "keep": 1.0}
FILE: Final[Fields] = {"words": None, "keep": 1.0}
MINED: Final = BANK | {
    "kind": Case(first={"kind": "templates", "names": NAMES} | dict.fromkeys(("classes", "words", "keep"))),
    "classes": changed("classes", NAMES, ["lime", "yellow"]),
    "templates": changed("templates", "single", ["a lime lime {}"]),
    "negative_templates": changed("negative_templates", None, ["{}"], keep=1.0),
    "recipe": changed("recipe", "neglabel", "csp"),
    "lexicon": changed("lexicon", "wordnet-full", "wordnet-paper", **FILE, only=["noun.motive"]),
    "words": changed("words", WORDS[:3], WORDS[3:]),
    "only": changed("only", ["noun.motive"], ["noun.shape"], **FILE),
    "under": changed("under", ["terrier.n.01"], ["spaniel.n.01"], **FILE),
    "not_under": changed("not_under", None, ["terrier.n.01"], **FILE, under=["hunting_dog.n.01"]),
    "quantile": changed("quantile", 0.01, 1.0, words=ONE_NEAR, keep=0.5),
    "keep": changed("keep", 0.2, 1.0),
    "synonyms": changed("synonyms", True, False, classes=["dog", "cat"], words=["domestic dog", "sofa"], keep=1.0),
    "seed": changed("seed", 0, 1, **CSP),
    "draw": changed("draw", "by_word", "in_turn", **CSP),
    "overlap": changed("overlap", "noun", "adj", **FILE, only=["noun.phenomenon", "adj.ppl"]),
    "class_neighbours": changed("class_neighbours", 0, 1, words=[*WORDS, "crimson", "navy"], keep=0.5),
}

CASES: Final[Mapping[tuple[str, str], Mapping[str, Case]]] = {
    ("POST", "/v1/score"): IMAGES | DETECTOR | ANSWER,
    ("POST", "/v1/detectors"): DETECTOR,
    ("POST", "/v1/detectors/{detector_id}/score"): IMAGES | ANSWER | COSTS,
    ("PUT", "/v1/detectors/{detector_id}/calibration"): IMAGES | CALIBRATION,
    ("POST", "/v1/banks file"): UPLOADED,
    ("POST", "/v1/banks images"): SUPPORT,
    ("POST", "/v1/banks templates"): TEMPLATES,
    ("POST", "/v1/banks mined"): MINED,
}
NEEDED: Final[Mapping[str, Fields]] = {
    "/v1/score": {"classes": NAMES},
    "/v1/detectors": {"classes": NAMES},
    "/v1/banks file": {"file": bank_file(colours("red"))},
    "/v1/banks images": {"labels": ["a", "b", "b"]},
    "/v1/banks templates": {"kind": "templates", "names": NAMES},
    "/v1/banks mined": {"kind": "mined", "classes": NAMES, "words": WORDS, "keep": 0.5},
}
BANKS: Final = {"@no": ["no red", "no blue"], "@never": ["lime", "yellow"]}  # vectors of these under `NAMES`


def resolved(value: Any, ids: Mapping[str, str]) -> Any:
    """The value with the id of a bank in place of its name in `BANKS`."""
    if isinstance(value, dict):
        return {name: resolved(each, ids) for name, each in value.items()}
    return ids.get(value, value) if isinstance(value, str) else value


def ask(client: TestClient, method: str, path: str, kind: str, fields: Fields, pictures: Sequence[str]) -> Any:
    """The answer to a request; fields of None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    images = [png(colour) for colour in pictures]
    if kind == "json":
        if path.endswith(("score", "calibration")):
            given["images"] = in_base64(*images)
            given["images"] += [{"url": url} for url in given.pop("urls", [])]
        return client.request(method, path, json=given)
    sent = [] if path.endswith("banks") and "file" in given else files(*images)
    if "file" in given:
        sent.append(("file", ("bank.safetensors", given.pop("file"), "application/octet-stream")))
    urls = given.pop("urls", [])
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return client.request(method, path, files=sent, data=texts | {"urls": urls})
