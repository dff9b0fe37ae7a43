"""/v1/score: scores images against class names, without a stored detector."""

from typing import Final

from fastapi import APIRouter, Response, Security

from service.detectors.maker import Wanted
from service.detectors.spec import checked_spec
from service.engine import Timings
from service.observability.server_timing import server_timing
from service.routes.deps import Caller, TheAccount, TheScoreRequest, TheServices, prepared, the_caller
from service.routes.openapi import problems, two_bodies
from service.scoring.records import ScoreAnswer, ScoreJson, ScoreOptions

router = APIRouter(prefix="/v1", tags=["score"], dependencies=[Security(the_caller, scopes=["score"])])

EXAMPLE: Final = {"classes": ["cat", "coffee", "rocket"], "method": "mcm", "top": 2}


@router.post(
    "/score",
    summary="Score images against class names",
    responses=problems(400, 404, 408, 415, 503, 504, 507),
    openapi_extra=two_bodies(ScoreOptions, ScoreJson, EXAMPLE),
)
async def score(
    caller: Caller, account: TheAccount, request: TheScoreRequest, services: TheServices, response: Response
) -> ScoreAnswer:
    """Send images as files in the form field `images`, or in base64 as JSON, with the class names.

    An image that can't be used has an `error`; the others are scored. Without a `threshold` in the request,
    `decision` is null and `reason` says why. Vectors of class names are cached.
    """
    spec = await checked_spec(request.options, caller.tenant, services.settings, services.banks)
    detector = await prepared(services, account, Wanted(caller.tenant, spec), stored=False)
    timings = Timings()
    answers, score_s = await services.scorer.score(request.uploads, detector, request.options, None, timings)
    response.headers["Server-Timing"] = server_timing(timings, score_s)
    return ScoreAnswer(method=spec.method, encoder=spec.task.encoder, detector=None, results=answers)
