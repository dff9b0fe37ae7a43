"""The OpenAPI document: as JSON, and as one page without scripts and without files from other hosts."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, Template, select_autoescape

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Rendered:
    """The bytes of both: made once, because anybody may ask for them, and making them takes milliseconds."""

    document: bytes
    page: bytes

    @classmethod
    def of(cls, app: FastAPI) -> "Rendered":
        """Those of an application, made at the first request for one."""
        state = app.state
        if not hasattr(state, "rendered"):
            document = app.openapi()
            state.rendered = cls(
                json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(),
                _template().render(document=document).encode(),
            )
        rendered: Rendered = state.rendered
        return rendered


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The document."""
    return Response(Rendered.of(request.app).document, media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The page: each route with its parameters, bodies and answers."""
    return HTMLResponse(Rendered.of(request.app).page)


@router.get("/docs/style.css")
async def style() -> Response:
    """The style sheet of the page."""
    return Response(files("service.routes").joinpath("docs.css").read_text(encoding="utf-8"), media_type="text/css")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("service", "routes"), autoescape=select_autoescape(default=True, default_for_string=True)
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return environment.get_template("docs.html.jinja")
