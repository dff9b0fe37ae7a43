"""OOD scores: one method, one file. The registry walks this folder."""

from typing import Any, Final

from vlm_ood.detectors.base import CosineDetector, Detector, Evidence, FittedDetector, register, registry

DEFAULT: Final = "adjusted_energy"
"""The method for a caller who names none: of those measured, no other holds on every set (docs/methods.md)."""

create_detector = registry.create
detector_names = registry.names


def describe(name: str) -> dict[str, Any]:
    """What there is to know about a detector, as plain values: for the command line and the API.

    Raises:
        UnknownNameError: no such detector.
    """
    cls = registry.get(name)
    return {
        "name": name,
        "default": name == DEFAULT,
        "summary": (cls.__doc__ or "").strip().splitlines()[0],
        "paper": cls.paper,
        "needs": sorted(cls.needs),
        "uses": sorted(cls.uses),
        "needs_patches": cls.outputs.patches,
        "min_classes": cls.min_classes,
        "min_images": cls.min_images,
        "min_images_per_class": cls.min_images_per_class,
        "parameters": registry.schema(name),
    }


__all__ = [
    "DEFAULT",
    "CosineDetector",
    "Detector",
    "Evidence",
    "FittedDetector",
    "create_detector",
    "describe",
    "detector_names",
    "register",
    "registry",
]
