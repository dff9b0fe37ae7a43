"""vlm-ood: zero-shot out-of-distribution (OOD) detection for images with CLIP-like encoders.

import vlm_ood as vo

encoder = vo.load_encoder("embedded")
bank = vo.text_bank(encoder, ["cat", "dog"])
fitted = vo.create_detector("mcm").fit(vo.Task(classes=bank))
scores = fitted.score(encoder.encode_images(images))  # higher is more out-of-distribution

A name is imported when it is first used: the command line, and a server that is to answer at once, import this package
and can't wait seconds for torch.
"""

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vlm_ood import metrics
    from vlm_ood.background import background_of
    from vlm_ood.calibration import Calibration, calibrate
    from vlm_ood.clipn import no_bank, no_bank_from_templates
    from vlm_ood.detectors import create_detector, detector_names
    from vlm_ood.encoders import load_encoder
    from vlm_ood.memory import adapting
    from vlm_ood.negatives import mine_negatives, select_negatives
    from vlm_ood.text.bank import text_bank
    from vlm_ood.types import Background, ImageFeatures, Support, Task, TextBank

_HOMES: Final = MappingProxyType(
    {
        "background": ("background_of",),
        "calibration": ("Calibration", "calibrate"),
        "clipn": ("no_bank", "no_bank_from_templates"),
        "detectors": ("create_detector", "detector_names"),
        "encoders": ("load_encoder",),
        "memory": ("adapting",),
        "negatives": ("mine_negatives", "select_negatives"),
        "text.bank": ("text_bank",),
        "types": ("Background", "ImageFeatures", "Support", "Task", "TextBank"),
    }
)

__all__ = [
    "Background",
    "Calibration",
    "ImageFeatures",
    "Support",
    "Task",
    "TextBank",
    "adapting",
    "background_of",
    "calibrate",
    "create_detector",
    "detector_names",
    "load_encoder",
    "metrics",
    "mine_negatives",
    "no_bank",
    "no_bank_from_templates",
    "select_negatives",
    "text_bank",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "metrics":
        return importlib.import_module("vlm_ood.metrics")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"vlm_ood.{home}"), name)
    return found


def __dir__() -> list[str]:
    """Also the names that are not imported yet."""
    return sorted({*globals(), *__all__})
