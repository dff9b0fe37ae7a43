"""One way from names, files and banks to a fitted detector, for the library, the command line and the server.

Callers describe what they want in plain records: a `BankSpec` for each text bank, a `TaskSpec` for the task, a
`DetectorSpec` for a method over the task. `check` refuses what can't work before anything is loaded or encoded. A
`Builder` makes the rest.
"""

from vlm_ood.tasks.banks import (
    BankSpec,
    MinedBank,
    NoTowerBank,
    StoredBank,
    StoredSupport,
    TemplateBank,
    TemplateChoice,
    bank_from_plain,
    bank_to_plain,
    identity_of,
)
from vlm_ood.tasks.builder import Builder, Sources
from vlm_ood.tasks.checks import check, check_methods
from vlm_ood.tasks.specs import PARTS, DetectorSpec, TaskSpec

__all__ = [
    "PARTS",
    "BankSpec",
    "Builder",
    "DetectorSpec",
    "MinedBank",
    "NoTowerBank",
    "Sources",
    "StoredBank",
    "StoredSupport",
    "TaskSpec",
    "TemplateBank",
    "TemplateChoice",
    "bank_from_plain",
    "bank_to_plain",
    "check",
    "check_methods",
    "identity_of",
]
