"""From rows to what is told about them."""

from service.calibration.views import calibration_view_of, utc
from service.detectors.prepared import State
from service.detectors.records import DetectorSummary, DetectorView
from service.detectors.rows import DetectorRow
from service.detectors.spec import DetectorSpec


def summary_of(row: DetectorRow) -> DetectorSummary:
    """A line of the list."""
    return DetectorSummary(
        id=row.id,
        method=row.spec["method"],
        encoder=row.spec["encoder"],
        class_count=len(row.spec["classes"]),
        calibrated=row.calibration is not None,
        created_at=utc(row.created_at),
    )


def view_of(row: DetectorRow, state: State, error: str | None, calibrated_sibling: str | None) -> DetectorView:
    """The whole detector."""
    spec = DetectorSpec.from_stored(row.spec)
    return DetectorView(
        **summary_of(row).model_dump(),
        classes=list(spec.classes),
        parameters=dict(spec.parameters),
        templates=spec.templates if isinstance(spec.templates, str) else list(spec.templates),
        negatives=spec.negatives,
        no_templates=list(spec.no_templates) if isinstance(spec.no_templates, tuple) else spec.no_templates,
        state=state,
        error=error,
        calibration=calibration_view_of(row.calibration),
        note=_note(row, calibrated_sibling),
    )


def _note(row: DetectorRow, calibrated_sibling: str | None) -> str | None:
    if row.calibration is not None:
        return None
    if calibrated_sibling is not None:
        return (
            f"{calibrated_sibling} differs from this detector in its class names alone and is calibrated; its "
            "calibration doesn't carry over, because scores depend on the class names: calibrate this one"
        )
    return "no calibration yet: without one, decisions are null"
