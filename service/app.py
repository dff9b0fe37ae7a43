"""The FastAPI application: routes, middleware and error handlers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from service.engine import Engine
from service.http.availability import AvailabilityMiddleware
from service.http.departures import DepartureMiddleware
from service.observability.requests import RequestMiddleware
from service.observability.tracing import trace
from service.problems import INVALID, ProblemType, printable, problem_response, response_to
from service.request_id import request_id_of
from service.routes import banks, calibration, catalogue, detectors, docs, health, methods, openapi, score
from service.security.access import AccessMiddleware
from service.security.bodies import BodyLimits, BodyMiddleware
from service.security.browser import BrowserMiddleware
from service.security.charges import ChargeMiddleware
from service.services import Services, assemble
from service.settings import Settings
from vlm_ood.errors import VlmOodError

PAGE: Final = Path(__file__).parent / "page"

DESCRIPTION: Final = (
    "Zero-shot out-of-distribution detection: scores images against class names. For every method, a higher score is "
    "more out-of-distribution. Errors are problems of RFC 9457."
)


def create_app(
    settings: Settings | None = None, engine: Engine | None = None, *, start_beside: bool = False
) -> FastAPI:
    """Create the application; its services start and stop with it.

    Args:
        settings: by default read from the environment.
        engine: encodes images and text; by default one made from the settings.
        start_beside: answer 503 while the services start, in place of waiting for them.

    Raises:
        StorageError: the database can't be opened.
    """
    services = assemble(settings or Settings(), engine)
    app = FastAPI(
        title="vlm-ood",
        version=version("vlm-ood"),
        lifespan=partial(_lifespan, start_beside=start_beside),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    openapi.describe(app, summary="Out-of-distribution scores for images", description=DESCRIPTION)
    _add_routes(app)
    _add_layers(app, services)
    _add_error_handlers(app)
    trace(app, services.settings.otlp_endpoint)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, *, start_beside: bool) -> AsyncIterator[None]:
    services: Services = app.state.services
    start = asyncio.create_task(services.start())
    try:
        if not start_beside:
            await start
        yield
    finally:
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)  # `lifecycle` has its error
        await services.stop()


def _add_routes(app: FastAPI) -> None:
    for module in (score, detectors, calibration, banks, methods, catalogue, health, docs):
        app.include_router(module.router)
    if PAGE.is_dir():
        app.mount("/page", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(PAGE / "index.html") if PAGE.is_dir() else RedirectResponse("/docs")


def _add_layers(app: FastAPI, services: Services) -> None:
    """Add the middleware from the inside out: what is added last sees a request first."""
    settings = services.settings
    limits = BodyLimits(settings.max_json_bytes, settings.max_body_bytes, services.in_flight, settings.body_timeout_s)
    app.add_middleware(DepartureMiddleware, lifecycle=services.lifecycle)
    app.add_middleware(BodyMiddleware, limits=limits)
    app.add_middleware(ChargeMiddleware, limiter=services.limiter)
    app.add_middleware(AccessMiddleware, keys=services.keys, keyless=_keyless(settings))
    app.add_middleware(AvailabilityMiddleware, lifecycle=services.lifecycle)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["Server-Timing", "X-Request-ID", "Retry-After", "RateLimit-Remaining"],
        )
    app.add_middleware(BrowserMiddleware, hosts=settings.hosts, origins=settings.cors_origins)
    app.add_middleware(RequestMiddleware, metrics=services.metrics)


def _keyless(settings: Settings) -> Literal["never", "until-first-key", "always"]:
    if settings.insecure:
        return "always"
    return "until-first-key" if settings.loopback else "never"


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(VlmOodError)
    async def known(request: Request, error: VlmOodError) -> Response:
        return response_to(error, request_id_of(request.scope))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [_field_error(each) for each in error.errors()[:20]]
        detail = "; ".join(f"{each['field']}: {each['message']}".removeprefix(": ") for each in errors)
        return problem_response(INVALID, detail, request_id_of(request.scope), errors=errors)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        problem = ProblemType(f"http-{error.status_code}", error.status_code, error.detail)
        return problem_response(problem, error.detail, request_id_of(request.scope), headers=error.headers)


def _field_error(error: dict[str, Any]) -> dict[str, str]:
    """Field, message and type of an error; not the value, which may be large or invalid UTF-8."""
    return {
        "field": printable(".".join(map(str, error["loc"]))[:200]),
        "message": printable(str(error["msg"])[:500].removeprefix("Value error, ")),
        "type": str(error["type"]),
    }
