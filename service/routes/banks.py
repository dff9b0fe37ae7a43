"""/v1/banks: stored vectors of names or of labelled images, which detectors refer to by id."""

from typing import Annotated

from annotated_types import Ge, Le
from fastapi import APIRouter, Query, Response, Security

from service.banks.body import BankFile
from service.banks.costs import prompts_of
from service.banks.creator import Created
from service.banks.made import Content, check_weights
from service.banks.preview import preview
from service.banks.records import BankPage, BankView, PreviewRow
from service.banks.rows import BankRow
from service.banks.spec import referred
from service.banks.views import summary_of, view_of
from service.http.body import Body
from service.images.answers import ImageAnswer, failure
from service.routes.deps import Caller, TheAccount, TheBank, TheBankRequest, TheServices, the_caller
from service.routes.openapi import bank_bodies, problems
from service.services import Services
from vlm_ood.tasks import StoredBank
from vlm_ood.types import TextBank

router = APIRouter(prefix="/v1/banks", tags=["banks"], dependencies=[Security(the_caller, scopes=["manage"])])


@router.post(
    "",
    summary="Create a bank",
    status_code=201,
    responses={
        200: {"model": BankView, "description": "It exists already"},
        202: {"model": BankView, "description": "It is being prepared"},
        **problems(400, 404, 408, 409, 415, 503, 504, 507),
    },
    openapi_extra=bank_bodies(),
)
async def create(
    caller: Caller, account: TheAccount, request: TheBankRequest, services: TheServices, response: Response
) -> BankView:
    """Upload a safetensors file of names and vectors as the form field `file`; or labelled images as `images` with a
    class name each in `labels`, which are stored as vectors; or ask for a bank by JSON: `{"kind": "templates"}`
    averages templates over names, `{"kind": "mined"}` selects words that are dissimilar to the classes.

    The same content has the same id. A bank that takes long is answered 202; it can be used when its `state` is ready.
    """
    failed: list[ImageAnswer] = []
    match request:
        case BankFile():
            made = await services.creator.upload(caller.tenant, request.options, request.content)
        case Body():
            made = await services.creator.support(caller.tenant, request.options, request.uploads)
            failed = [failure(row, request.uploads[row], error) for row, error in sorted(made.errors.items())]
        case _:
            made = await services.creator.from_spec(caller.tenant, request, account.charge_text)
    response.status_code = _status(made)
    response.headers["Location"] = f"/v1/banks/{made.row.id}"
    return view_of(made.row, services.banks.state(made.row), await _content(services, made.row), failed=failed)


@router.get("", summary="List banks", responses=problems(404))
async def page(
    caller: Caller,
    services: TheServices,
    limit: Annotated[int, Ge(1), Le(100), Query(description="How many.")] = 20,
    after: Annotated[str | None, Query(max_length=64, description="`next` of the page before.")] = None,
) -> BankPage:
    """The caller's banks, newest first."""
    rows, following = await services.banks.store.page(caller.tenant, limit, after)
    return BankPage(banks=[summary_of(row) for row in rows], next=following)


@router.get("/{bank_id}", summary="Show a bank", responses=problems(404, 503, 504, 507))
async def show(
    bank: TheBank,
    account: TheAccount,
    services: TheServices,
    limit: Annotated[int, Ge(1), Le(200), Query(description="How many names to show.")] = 20,
    against: Annotated[
        str | None,
        Query(max_length=64, description="Look for the nearest names in this bank instead of the bank itself."),
    ] = None,
) -> BankView:
    """The bank, with its first names and the nearest names of each; for labelled images, the number per class."""
    other = None if against is None else await _comparable(services, bank, against)
    if other is not None:
        await account.charge_text(await prompts_of(await services.banks.unmade([StoredBank(other.id, other.digest)])))
    content = await _content(services, bank)
    shown = await _preview(services, content, limit, other) if isinstance(content, TextBank) else None
    return view_of(bank, services.banks.state(bank), content, shown)


@router.delete(
    "/{bank_id}",
    summary="Delete a bank",
    status_code=204,
    responses=problems(404, 409),
)
async def delete(bank: TheBank, services: TheServices) -> None:
    """Delete the bank; refused while a detector or another bank uses it."""
    await services.banks.store.delete(bank.tenant, bank.id)


def _status(made: Created) -> int:
    return 202 if not made.ready else 201 if made.new else 200


async def _content(services: Services, row: BankRow) -> Content | None:
    """The content of the bank if it is ready, else None."""
    return await services.banks.get(row) if services.banks.state(row)[0] == "ready" else None


async def _comparable(services: Services, bank: BankRow, against: str) -> BankRow:
    """The tenant's bank of this id, checked to hold vectors of names by the same encoder as the bank."""
    row = await referred(against, "against", "text", bank.encoder, bank.tenant, services.banks.store)
    encoder = await services.engine.encoder(bank.encoder)
    for each in (bank, row):
        check_weights(each, encoder)
    return row


async def _preview(services: Services, bank: TextBank, limit: int, other: BankRow | None) -> list[PreviewRow]:
    """The preview, computed in a thread because a bank may have 100 000 rows; the other bank is made if it is not."""
    against = None if other is None else await services.banks.get(other)
    compared = against if isinstance(against, TextBank) else None
    return await services.banks.in_thread(lambda: preview(bank, limit, compared))
