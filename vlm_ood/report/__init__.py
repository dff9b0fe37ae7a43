"""Reports as HTML: one file each, which contains its pictures and plots and loads nothing from elsewhere."""

from vlm_ood.report.evaluation import write_evaluation_report
from vlm_ood.report.score import write_score_report

__all__ = ["write_evaluation_report", "write_score_report"]
