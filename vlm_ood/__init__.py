"""vlm-ood: zero-shot out-of-distribution (OOD) detection for images with CLIP-like encoders.

import vlm_ood as vo

encoder = vo.load_encoder("embedded")
bank = vo.text_bank(encoder, ["cat", "dog"])
fitted = vo.create_detector("mcm").fit(vo.Task(classes=bank))
scores = fitted.score(encoder.encode_images(images))  # higher is more out-of-distribution
"""

from vlm_ood import metrics
from vlm_ood.background import background_of
from vlm_ood.calibration import Calibration, calibrate
from vlm_ood.clipn import no_bank, no_bank_from_templates
from vlm_ood.detectors import create_detector, detector_names
from vlm_ood.encoders import load_encoder
from vlm_ood.negatives import mine_negatives, select_negatives
from vlm_ood.text.bank import text_bank
from vlm_ood.types import Background, ImageFeatures, Support, Task, TextBank

__all__ = [
    "Background",
    "Calibration",
    "ImageFeatures",
    "Support",
    "Task",
    "TextBank",
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
