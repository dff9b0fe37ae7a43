import re
from pathlib import Path

import numpy as np
import torch

from tests.fakes import save_picture
from vlm_ood.detectors import create_detector
from vlm_ood.evaluation import Evaluation, FeatureSet, Part, evaluate
from vlm_ood.report import write_evaluation_report
from vlm_ood.types import ImageFeatures, Task, TextBank

HOSTILE = '<script>alert("1")</script>'


def evaluation(class_name: str = "east", method: str = "mcm", bootstrap: int = 0) -> Evaluation:
    generator = torch.Generator().manual_seed(0)
    id_vectors = torch.eye(2).repeat(10, 1) + 0.3 * torch.randn(20, 2, generator=generator)
    ood_vectors = -torch.eye(2).repeat(10, 1) + 0.3 * torch.randn(20, 2, generator=generator)
    names = tuple(f"{row}.png" for row in range(20))
    id_set = Part(names, ImageFeatures(id_vectors), np.tile([0, 1], 10))
    ood_set = Part(names, ImageFeatures(ood_vectors), errors={"broken.png": "empty file: 0 bytes"})
    return evaluate(
        {method: create_detector("mcm"), "max_cosine": create_detector("max_cosine")},
        Task(TextBank((class_name, "north"), torch.eye(2))),
        FeatureSet("ID", [id_set]),
        [FeatureSet("far", [ood_set]), FeatureSet.of("half", ImageFeatures(ood_vectors[:10]))],
        bootstrap=bootstrap,
        skipped={"neglabel": "needs negatives"},
    )


def test_the_page_has_tables_plots_and_the_worst_mistakes_as_pictures(tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "a.png", "red")
    done = evaluation()
    pictures = {"ID": dict.fromkeys(done.id_set.images, picture), "far": {}}

    page = write_evaluation_report(tmp_path / "report", done, pictures, facts={"encoder": "embedded"})

    html = page.read_text()
    assert html.count("<details") == 2
    assert html.count("<svg") == 4
    assert html.count("<figcaption>") == 2 * 2 * 12
    assert html.count("data:image/jpeg") == 2 * 12
    assert html.count('<th scope="rowgroup"') == 3
    assert "not CLIP" in html
    assert "broken.png</td><td>empty file: 0 bytes" in html
    assert "needs negatives" in html
    assert not re.search(r"https?:|<link|<script|@import|url\((?!#)", html)


def test_the_worst_mistakes_come_first(tmp_path: Path) -> None:
    done = evaluation()
    html = write_evaluation_report(tmp_path, done).read_text()
    scores = done.id_set.scores[max(done.means(), key=lambda mean: mean.auroc).method]

    first = re.search(r"<figcaption>\w+(?:<span>like \w+</span>)?<span>([^<]+)</span>", html)

    assert first is not None
    assert float(first.group(1).replace("\u2212", "-")) == float(f"{scores.max():.4g}")


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    done = evaluation(class_name=HOSTILE, method=HOSTILE)

    html = write_evaluation_report(tmp_path, done, title=HOSTILE, facts={HOSTILE: HOSTILE}).read_text()

    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_intervals_are_shown_when_there_are_any(tmp_path: Path) -> None:
    assert "<small>" in write_evaluation_report(tmp_path, evaluation(bootstrap=5)).read_text()
    assert "<small>" not in write_evaluation_report(tmp_path, evaluation()).read_text()


def test_the_encoder_is_not_called_what_it_is_not(tmp_path: Path) -> None:
    assert (
        "not CLIP"
        not in write_evaluation_report(tmp_path, evaluation(), facts={"encoder": "ViT-B-16/openai"}).read_text()
    )
