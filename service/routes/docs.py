"""/docs: the OpenAPI document as one page, without scripts and without files from other hosts."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, Template, select_autoescape

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The page: each route with its parameters, bodies and answers."""
    document: dict[str, Any] = request.app.openapi()
    return HTMLResponse(_template().render(document=document))


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
