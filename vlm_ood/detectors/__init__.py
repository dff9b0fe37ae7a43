"""OOD scores: one method, one file. The registry walks this folder."""

from vlm_ood.detectors.base import CosineDetector, Detector, FittedDetector, register, registry

create_detector = registry.create
detector_names = registry.names

__all__ = [
    "CosineDetector",
    "Detector",
    "FittedDetector",
    "create_detector",
    "detector_names",
    "register",
    "registry",
]
