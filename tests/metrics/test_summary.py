"""A row of a table."""

import torch

from vlm_ood.metrics import (
    aupr_in,
    aupr_out,
    auroc,
    autc,
    detection_accuracy,
    fpr_at_ood_recall,
    fpr_at_tpr,
    summary,
    tie_share,
)


def test_a_summary_holds_what_the_functions_return() -> None:
    generator = torch.Generator().manual_seed(0)
    id_scores = torch.randn(50, generator=generator)
    ood_scores = torch.randn(40, generator=generator) + 1
    row = summary(id_scores, ood_scores)
    assert row.auroc == auroc(id_scores, ood_scores)
    assert row.fpr_at_95_id == fpr_at_tpr(id_scores, ood_scores, tpr=0.95)
    assert row.fpr_at_95_ood == fpr_at_ood_recall(id_scores, ood_scores, recall=0.95)
    assert row.aupr_in == aupr_in(id_scores, ood_scores)
    assert row.aupr_out == aupr_out(id_scores, ood_scores)
    assert row.autc == autc(id_scores, ood_scores)
    assert row.detection_accuracy == detection_accuracy(id_scores, ood_scores)
    assert row.tie_share == tie_share(id_scores, ood_scores)
    assert (row.n_id, row.n_ood) == (50, 40)
