"""The parts of the OpenAPI document that FastAPI cannot derive: bodies of several content types, and problems."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.banks.records import BankJson, BankOptions, SupportOptions
from service.calibration.records import CalibrationJson, CalibrationOptions
from service.detectors.records import DetectorOptions
from service.http.records import Asked, Images, Problem
from service.problems import INVALID, PROBLEM_TYPES
from service.scoring.records import DetectorAnswerOptions, DetectorScoreJson, ScoreJson, ScoreOptions

BODIES: Final[tuple[type[BaseModel], ...]] = (
    ScoreJson,
    ScoreOptions,
    DetectorScoreJson,
    DetectorAnswerOptions,
    CalibrationJson,
    CalibrationOptions,
    BankJson,
    DetectorOptions,
)
REFERENCE: Final = "#/components/schemas/{model}"
FILES: Final = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "Files."}
TINY_PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP438AARAwQCgAt7gX9iz9uhAAAAABJRU5ErkJggg=="


def two_bodies(options: type[Asked], from_json: type[Images], example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads images as files or in base64."""
    urls = {"type": "array", "items": {"type": "string"}, "description": "Off by default."}
    form = _form(options, {"images": FILES, "urls": urls})
    json_example = {"images": [{"name": "tiny.png", "content": TINY_PNG}], **example}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": _reference(from_json), "example": json_example},
            },
        }
    }


def one_body(record: type[Asked], example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads JSON alone."""
    content = {"application/json": {"schema": _reference(record), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def bank_bodies() -> dict[str, Any]:
    """`openapi_extra` of the route that reads a bank as a file, as labelled images, or as a spec."""
    file = {"type": "string", "format": "binary", "description": "A safetensors file."}
    forms = [_form(BankOptions, {"file": file}, "file"), _form(SupportOptions, {"images": FILES}, "images")]
    example = {"kind": "templates", "names": ["cat", "coffee", "rocket"], "templates": "single"}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"oneOf": forms}},
                "application/json": {"schema": _reference(BankJson), "example": example},
            },
        }
    }


def _form(options: type[Asked], files: dict[str, dict[str, Any]], *required: str) -> dict[str, Any]:
    """The schema of a form: the fields of the options and these, of which the `required` ones are mandatory."""
    form = options.model_json_schema(ref_template=REFERENCE)
    form.pop("$defs", None)  # they are among the components
    return form | {"properties": files | form["properties"], "required": [*required, *form.get("required", [])]}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the statuses that every route may answer, and these."""
    titles: dict[int, list[str]] = {}
    for problem in [*PROBLEM_TYPES.values(), INVALID]:
        titles.setdefault(problem.status, []).append(problem.title)
    everywhere = (401, 403, 413, 421, 422, 429)
    return {
        status: {
            "description": "; ".join(dict.fromkeys(titles[status])),
            "content": {"application/problem+json": {"schema": _reference(Problem)}},
        }
        for status in sorted({*everywhere, *statuses})
    }


def describe(app: FastAPI, *, summary: str, description: str) -> None:
    """Set the function that builds the application's OpenAPI document, once, at the first request for it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, summary=summary, description=description, routes=app.routes
            )
            made["components"]["schemas"] |= _schemas((*BODIES, Problem))
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _schemas(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    return dict(definitions["$defs"])


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}
