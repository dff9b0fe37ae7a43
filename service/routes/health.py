"""Liveness, readiness and metrics."""

from typing import Literal

from fastapi import APIRouter, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.http.records import Answered
from service.routes.deps import TheServices, the_caller
from service.routes.openapi import problems

router = APIRouter(tags=["health"])


class Health(Answered):
    """The state in one word."""

    status: Literal["alive", "ready"]


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Health:
    """Answers while the event loop runs, also while the server starts or stops."""
    return Health(status="alive")


@router.get("/readyz", summary="Would an image be answered now?", responses=problems(503, 504))
async def readyz(services: TheServices) -> Health:
    """503 while the server starts or stops; else tested by a forward pass in the queue, at most once per second."""
    services.lifecycle.check()
    await services.readiness.prove()
    return Health(status="ready")


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problems()},
    dependencies=[Security(the_caller, scopes=["metrics"])],
)
async def metrics(services: TheServices) -> Response:
    """All metrics, in the text format of Prometheus."""
    return Response(generate_latest(services.registry), media_type=CONTENT_TYPE_LATEST)
