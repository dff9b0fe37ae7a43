"""Makes the records of answers from rows of detectors."""

from service.banks.records import BankReference, State
from service.detectors.records import CalibrationView, DetectorSummary, DetectorView, Negatives
from service.detectors.rows import CalibrationRow, DetectorRow
from service.storage.base import utc
from vlm_ood.tasks import BankSpec, DetectorSpec, MinedBank, StoredBank, StoredSupport, TaskSpec, TemplateBank


def summary_of(row: DetectorRow) -> DetectorSummary:
    """The record of a detector in a list."""
    spec = DetectorSpec.from_plain(row.spec)
    return DetectorSummary(
        id=row.id,
        method=spec.method,
        encoder=spec.task.encoder,
        class_count=_class_count(row, spec.task),
        calibrated=row.calibration is not None,
        created_at=utc(row.created_at),
    )


def calibration_view_of(row: CalibrationRow | None) -> CalibrationView | None:
    """The record of a calibration; None where there is none."""
    if row is None:
        return None
    return CalibrationView(keep=row.keep, threshold=row.threshold, images=row.images, created_at=utc(row.created_at))


def view_of(row: DetectorRow, state: State, error: str | None, calibrated_sibling: str | None) -> DetectorView:
    """The record of one detector.

    Args:
        row: of the detector.
        state: of its preparation.
        error: why the preparation failed, if it did.
        calibrated_sibling: id of a calibrated detector that differs only in its classes.
    """
    spec = DetectorSpec.from_plain(row.spec)
    task = spec.task
    return DetectorView(
        **summary_of(row).model_dump(),
        classes=_reference(task.classes) or list(task.names or ()),
        parameters=dict(spec.parameters),
        templates=_templates(task.classes),
        negatives=_reference(task.negatives) or _negatives(task.negatives),
        no_templates=_templates(task.no),
        no=_reference(task.no),
        support=_reference(task.support),
        state=state,
        error=error,
        calibration=calibration_view_of(row.calibration),
        note=_note(row, calibrated_sibling),
    )


def _class_count(row: DetectorRow, task: TaskSpec) -> int:
    if isinstance(task.classes, StoredBank):
        return sum(bank.rows for bank in row.banks if bank.id == task.classes.source)
    return len(task.names or ())


def _reference(part: BankSpec | StoredSupport | None) -> BankReference | None:
    return BankReference(bank=part.source) if isinstance(part, StoredBank | StoredSupport) else None


def _templates(bank: BankSpec | None) -> str | list[str] | None:
    if not isinstance(bank, TemplateBank):
        return None
    return bank.templates if isinstance(bank.templates, str) else list(bank.templates)


def _negatives(bank: BankSpec | None) -> Negatives | None:
    if not isinstance(bank, MinedBank):
        return None
    words = None if bank.words is None else list(bank.words)
    return Negatives(recipe=bank.recipe, lexicon=bank.lexicon, words=words, quantile=bank.quantile, keep=bank.keep)


def _note(row: DetectorRow, calibrated_sibling: str | None) -> str | None:
    if row.calibration is not None:
        return None
    if calibrated_sibling is not None:
        return (
            f"{calibrated_sibling} differs from this detector only in its classes and is calibrated; its "
            "calibration is not valid here, because scores depend on class names and templates: calibrate this detector"
        )
    return "no calibration yet: without one, decisions are null"
