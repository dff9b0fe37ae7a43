"""Dependencies of the routes. All are async: FastAPI would run a plain function in a thread."""

from collections.abc import Awaitable, Callable
from typing import Annotated, cast

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer, SecurityScopes

from service.banks.body import BankBody, read_bank_body
from service.banks.costs import prompts_of
from service.banks.made import stored_parts
from service.banks.rows import BankRow
from service.calibration.records import CalibrationJson, CalibrationOptions
from service.detectors.maker import Prepared, Wanted
from service.detectors.records import DetectorOptions
from service.detectors.rows import DetectorRow
from service.errors import ForbiddenError
from service.http.body import Body, Options, read_body, read_record
from service.http.records import Images
from service.scoring.records import DetectorAnswerOptions, DetectorScoreJson, ScoreJson, ScoreOptions
from service.security.access import Principal
from service.security.charges import Account, account_of
from service.services import Services
from service.settings import Settings

bearer = HTTPBearer(auto_error=False, description="A key made by `vlm-ood keys create`.")


async def the_services(request: Request) -> Services:
    """The services of the application that handles the request."""
    return cast(Services, request.app.state.services)


TheServices = Annotated[Services, Depends(the_services)]


async def the_caller(request: Request, needed: SecurityScopes, _: Annotated[object, Depends(bearer)]) -> Principal:
    """The caller, whom the middleware has identified, if its key has the access that the route needs.

    Raises:
        ForbiddenError: the key lacks the access that this route needs.
    """
    principal = cast(Principal, request.state.principal)
    missing = [access for access in needed.scopes if access not in principal.access]
    if missing:
        raise ForbiddenError(f"this key lacks the access {', '.join(missing)}: use another, or make one")
    return principal


Caller = Annotated[Principal, Depends(the_caller)]


async def the_account(request: Request, _: Caller) -> Account:
    """The account to which the request is charged."""
    return account_of(request.scope)


TheAccount = Annotated[Account, Depends(the_account)]


async def prepared(services: Services, account: Account, wanted: Wanted, *, stored: bool = True) -> Prepared:
    """The detector; its text and that of its banks is charged where they have to be made, whoever made them before.

    Arguments and errors as in `PreparedCache.get`.
    """
    if services.prepared.state(wanted)[0] in {"cold", "failed"}:
        task = wanted.spec.task
        banks = await services.banks.unmade(stored_parts(task))
        await account.charge_text(await prompts_of([task.classes, task.negatives, task.no, *banks]))
    return await services.prepared.get(wanted, stored=stored)


async def the_detector(
    detector_id: Annotated[str, Path(max_length=64, examples=["det_3f0c0d7c9d2e4b6f8a1b2c3d"])],
    caller: Caller,
    services: TheServices,
) -> DetectorRow:
    """The detector whose id is in the path.

    Raises:
        NotFoundError: the caller's tenant has no such detector.
    """
    return await services.detectors.get(caller.tenant, detector_id)


TheDetector = Annotated[DetectorRow, Depends(the_detector)]


async def the_bank(
    bank_id: Annotated[str, Path(max_length=64, examples=["bnk_3f0c0d7c9d2e4b6f8a1b2c3d"])],
    caller: Caller,
    services: TheServices,
) -> BankRow:
    """The bank whose id is in the path.

    Raises:
        NotFoundError: the caller's tenant has no such bank.
    """
    return await services.banks.store.get(caller.tenant, bank_id)


TheBank = Annotated[BankRow, Depends(the_bank)]


def with_images(
    options: type[Options], from_json: type[Images], limit: Callable[[Settings], int]
) -> Callable[..., Awaitable[Body[Options]]]:
    """A dependency that reads a request with images; each image is charged.

    Args:
        options: the record of the form's fields.
        from_json: the record of a JSON body.
        limit: on the number of images.
    """

    async def read(request: Request, account: TheAccount, services: TheServices) -> Body[Options]:
        body = await read_body(request, options, from_json, services.parsing, limit(services.settings))
        await account.charge(len(body.uploads))
        return body

    return read


async def the_bank_request(request: Request, account: TheAccount, services: TheServices) -> BankBody:
    """Read a bank as a file, labelled images or a spec; each image is charged."""
    body = await read_bank_body(request, services.parsing, services.settings.max_support_images)
    if isinstance(body, Body):
        await account.charge(len(body.uploads))
    return body


async def the_detector_request(request: Request, _: Caller, services: TheServices) -> DetectorOptions:
    """Read the content of a detector."""
    return await read_record(request, DetectorOptions, services.parsing)


TheBankRequest = Annotated[BankBody, Depends(the_bank_request)]
TheDetectorRequest = Annotated[DetectorOptions, Depends(the_detector_request)]
TheScoreRequest = Annotated[
    Body[ScoreOptions], Depends(with_images(ScoreOptions, ScoreJson, lambda settings: settings.max_images))
]
TheDetectorScoreRequest = Annotated[
    Body[DetectorAnswerOptions],
    Depends(with_images(DetectorAnswerOptions, DetectorScoreJson, lambda settings: settings.max_images)),
]
TheCalibrationRequest = Annotated[
    Body[CalibrationOptions],
    Depends(with_images(CalibrationOptions, CalibrationJson, lambda settings: settings.max_calibration_images)),
]
