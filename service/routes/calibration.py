"""/v1/detectors/{id}/calibration: a threshold from in-distribution (ID) images."""

from typing import Any

from fastapi import APIRouter, Security

from service.calibration.records import CalibrationAnswer, CalibrationDetails, CalibrationJson, CalibrationOptions
from service.detectors.prepared import wanted_of
from service.detectors.views import calibration_view_of
from service.errors import NotFoundError
from service.http.body import Upload
from service.images.answers import failure
from service.routes.deps import TheAccount, TheCalibrationRequest, TheDetector, TheServices, prepared, the_caller
from service.routes.openapi import problems, two_bodies
from vlm_ood.calibration import Calibration, check_rule
from vlm_ood.errors import VlmOodError

router = APIRouter(
    prefix="/v1/detectors/{detector_id}/calibration",
    tags=["calibration"],
    dependencies=[Security(the_caller, scopes=["manage"])],
)


@router.put(
    "",
    summary="Calibrate a detector",
    responses=problems(400, 404, 408, 409, 415, 503, 504, 507),
    openapi_extra=two_bodies(CalibrationOptions, CalibrationJson, {"keep": 0.95}),
)
async def calibrate(
    detector: TheDetector, request: TheCalibrationRequest, account: TheAccount, services: TheServices
) -> CalibrationAnswer:
    """Send in-distribution (ID) images only. They replace those sent before; with `append` they are added. An error
    changes nothing.
    """
    fitted = await prepared(services, account, wanted_of(detector))
    made, encoded = await services.calibrator.make(detector, fitted, request.uploads, request.options)
    return _answer(detector.id, made, request.uploads, encoded.errors)


@router.get("", summary="Show a calibration", responses=problems(404))
async def show(detector: TheDetector, services: TheServices) -> CalibrationDetails:
    """The threshold, the rule that computed it, and the number of images it was computed from."""
    view, made = calibration_view_of(detector.calibration), await services.calibrator.read(detector)
    if view is None or made is None:
        raise NotFoundError(f"detector {detector.id} has no calibration")
    return CalibrationDetails(**view.model_dump(), **_threshold(made))


@router.delete("", summary="Delete a calibration", status_code=204, responses=problems(404))
async def delete(detector: TheDetector, services: TheServices) -> None:
    """Delete the calibration; the detector stays, but makes no decisions."""
    await services.calibrator.store.delete(detector)


def _answer(
    detector_id: str, made: Calibration, uploads: list[Upload], errors: dict[int, VlmOodError]
) -> CalibrationAnswer:
    return CalibrationAnswer(
        detector=detector_id,
        keep=made.keep,
        threshold=made.threshold,
        images=made.n,
        failed=[failure(index, uploads[index], error) for index, error in sorted(errors.items())],
        **_threshold(made),
    )


def _threshold(made: Calibration) -> dict[str, Any]:
    """The fields of `Threshold`."""
    return {"rule": check_rule(made.rule), "tolerance": made.tolerance, "note": made.note or None}
