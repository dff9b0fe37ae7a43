"""/v1/detectors: stored detectors, which can be calibrated."""

from typing import Annotated, Final

from annotated_types import Ge, Le
from fastapi import APIRouter, Query, Response, Security

from service.detectors.maker import Wanted
from service.detectors.prepared import wanted_of
from service.detectors.records import DetectorOptions, DetectorPage, DetectorView
from service.detectors.rows import DetectorRow
from service.detectors.spec import checked_spec
from service.detectors.views import summary_of, view_of
from service.engine import Timings
from service.errors import PreparingError
from service.observability.server_timing import server_timing
from service.routes.deps import (
    Caller,
    TheAccount,
    TheDetector,
    TheDetectorRequest,
    TheDetectorScoreRequest,
    TheServices,
    prepared,
    the_caller,
)
from service.routes.openapi import one_body, problems, two_bodies
from service.scoring.records import DetectorAnswerOptions, DetectorScoreJson, ScoreAnswer, costs_of
from service.security.charges import Account
from service.services import Services

router = APIRouter(prefix="/v1", tags=["detectors"])
manage = [Security(the_caller, scopes=["manage"])]
scoring = [Security(the_caller, scopes=["score"])]

EXAMPLE: Final = {"classes": ["cat", "coffee", "rocket"], "method": "mcm"}


@router.post(
    "/detectors",
    summary="Create a detector",
    status_code=201,
    dependencies=manage,
    responses={
        200: {"model": DetectorView, "description": "It exists already"},
        202: {"model": DetectorView, "description": "It is being prepared"},
        **problems(400, 404, 408, 409, 415, 503, 504, 507),
    },
    openapi_extra=one_body(DetectorOptions, EXAMPLE),
)
async def create(
    options: TheDetectorRequest, caller: Caller, account: TheAccount, services: TheServices, response: Response
) -> DetectorView:
    """The same content has the same id. Another class list makes another detector, for which the calibration of the
    old one is not valid: `note` says so. A detector that takes long, such as one that mines negatives, is answered
    202; it can be used when its `state` is ready.
    """
    spec = await checked_spec(options, caller.tenant, services.settings, services.banks)
    wanted = Wanted(caller.tenant, spec)
    ready = await _prepared_soon(services, account, wanted)
    row, new = await services.detectors.create(caller.tenant, spec)
    services.prepared.keep(wanted)
    response.status_code = 202 if not ready else 201 if new else 200
    response.headers["Location"] = f"/v1/detectors/{row.id}"
    return await _view(services, row)


@router.get("/detectors", summary="List detectors", dependencies=manage, responses=problems(404))
async def page(
    caller: Caller,
    services: TheServices,
    limit: Annotated[int, Ge(1), Le(100), Query(description="How many.")] = 20,
    after: Annotated[str | None, Query(max_length=64, description="`next` of the page before.")] = None,
) -> DetectorPage:
    """The caller's detectors, newest first."""
    rows, following = await services.detectors.page(caller.tenant, limit, after)
    return DetectorPage(detectors=[summary_of(row) for row in rows], next=following)


@router.get("/detectors/{detector_id}", summary="Show a detector", dependencies=manage, responses=problems(404))
async def show(detector: TheDetector, services: TheServices) -> DetectorView:
    """The detector, and the state of its preparation."""
    return await _view(services, detector)


@router.delete(
    "/detectors/{detector_id}",
    summary="Delete a detector",
    status_code=204,
    dependencies=manage,
    responses=problems(404),
)
async def delete(detector: TheDetector, services: TheServices) -> None:
    """Delete the detector and its calibration."""
    await services.detectors.delete(detector.tenant, detector.id)


@router.post(
    "/detectors/{detector_id}/score",
    summary="Score images with a detector",
    dependencies=scoring,
    responses=problems(400, 404, 408, 415, 503, 504, 507),
    openapi_extra=two_bodies(DetectorAnswerOptions, DetectorScoreJson, {"top": 2}),
)
async def score(
    detector: TheDetector,
    request: TheDetectorScoreRequest,
    account: TheAccount,
    services: TheServices,
    response: Response,
) -> ScoreAnswer:
    """If the detector is calibrated, each answer has a decision, a threshold and a conformal p-value.

    With `costs`, each answer has an action too: accept the image with its nearest class, abstain, or reject it as OOD.
    """
    made = await prepared(services, account, wanted_of(detector))
    calibration = await services.calibrator.read(detector)
    timings = Timings()
    answers, score_s = await services.scorer.score(
        request.uploads, made, request.options, calibration, timings, costs_of(request.options)
    )
    response.headers["Server-Timing"] = server_timing(timings, score_s)
    spec = made.spec
    return ScoreAnswer(method=spec.method, encoder=spec.task.encoder, detector=detector.id, results=answers)


async def _prepared_soon(services: Services, account: Account, wanted: Wanted) -> bool:
    """Whether the detector is ready; raises an error if it can't be prepared, so that it is not stored."""
    try:
        await prepared(services, account, wanted, stored=False)
    except PreparingError:
        return False
    return True


async def _view(services: Services, row: DetectorRow) -> DetectorView:
    state, error = services.prepared.state(wanted_of(row))
    sibling = await services.detectors.calibrated_sibling(row)
    return view_of(row, state, error, sibling)
