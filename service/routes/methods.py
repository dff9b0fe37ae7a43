"""/v1/methods: the registered methods."""

from fastapi import APIRouter, Path, Security

from service.catalogue.records import Methods, MethodView
from service.errors import NotFoundError
from service.routes.deps import the_caller
from service.routes.openapi import problems
from vlm_ood.detectors import describe, detector_names
from vlm_ood.errors import UnknownNameError

router = APIRouter(
    prefix="/v1/methods",
    tags=["catalogue"],
    dependencies=[Security(the_caller, scopes=["score"])],
)


@router.get("", summary="List methods", responses=problems())
async def every() -> Methods:
    """Each with the JSON schema of its parameters, what it needs beyond class names, and its paper."""
    return Methods(methods=[MethodView(**describe(name)) for name in detector_names()])


@router.get("/{name}", summary="Show a method", responses=problems(404))
async def one(name: str = Path(max_length=100, examples=["mcm"])) -> MethodView:
    """One method, as in the list."""
    try:
        return MethodView(**describe(name))
    except UnknownNameError as error:
        raise NotFoundError(str(error)) from None
