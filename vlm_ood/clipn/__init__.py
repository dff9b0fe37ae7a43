"""CLIPN: training a copy of a text tower to negate prompts, and the banks of negated prompts that it gives."""

from vlm_ood.clipn.banks import NoEncoder, no_bank, no_bank_from_templates
from vlm_ood.clipn.data import read_pairs
from vlm_ood.clipn.files import load_no_tower, save_no_tower
from vlm_ood.clipn.importer import import_checkpoint
from vlm_ood.clipn.no_tower import NoTower, copy_text_tower
from vlm_ood.clipn.plan import TrainingPlan
from vlm_ood.clipn.train import Step, train

__all__ = [
    "NoEncoder",
    "NoTower",
    "Step",
    "TrainingPlan",
    "copy_text_tower",
    "import_checkpoint",
    "load_no_tower",
    "no_bank",
    "no_bank_from_templates",
    "read_pairs",
    "save_no_tower",
    "train",
]
