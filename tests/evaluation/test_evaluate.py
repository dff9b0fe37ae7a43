import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vlm_ood import metrics
from vlm_ood.detectors import create_detector
from vlm_ood.errors import CapabilityError, InputError, TaskError
from vlm_ood.evaluation import Evaluation, FeatureSet, Part, evaluate
from vlm_ood.evaluation.export import scores_csv, to_csv, to_plain
from vlm_ood.io.vectors import load_bank, load_features
from vlm_ood.types import ImageFeatures, Task, TextBank

TASK = Task(TextBank(("east", "north"), torch.eye(2)))
ID = ImageFeatures(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.2], [1.0, 0.9]]))
OOD = ImageFeatures(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]))
METHODS = {"max_cosine": create_detector("max_cosine"), "mcm": create_detector("mcm")}


def run(bootstrap: int = 0) -> Evaluation:
    id_set = FeatureSet.of("ID", ID, labels=torch.tensor([0, 1, 1, -1]))
    return evaluate(
        METHODS, TASK, id_set, [FeatureSet.of("far", OOD), FeatureSet.of("flat", OOD[[0]])], bootstrap=bootstrap
    )


def test_the_figures_are_those_of_the_scores_by_hand() -> None:
    """Largest cosines: ID 1, 1, 0.981, 0.743; OOD 0 and 0.894, which lies above one ID image."""
    far = run().comparisons[0]

    assert (far.method, far.ood) == ("max_cosine", "far")
    assert far.auroc == pytest.approx(7 / 8)
    assert far.fpr_at_95_id == 0.5
    assert far.fpr_at_95_nearest == 0.5  # of the recalls 0.75 and 1 the latter is nearer to 0.95
    assert far.fpr_at_95_ood == 0.25
    assert far.aupr_in == pytest.approx((3 + 4 / 5) / 4)
    assert far.aupr_out == pytest.approx((1 + 2 / 3) / 2)
    assert far.detection_accuracy == (3 / 4 + 1) / 2  # of a threshold between 0.894 and 0.981
    assert far.oscr == pytest.approx(2 / 3)  # two of three labelled images are right, both below every OOD image


def test_accuracy_counts_labelled_images_only() -> None:
    assert run().accuracy == pytest.approx(2 / 3)


def test_every_set_and_method_is_compared_and_the_mean_is_plain() -> None:
    evaluation = run()

    assert [(each.ood, each.method) for each in evaluation.comparisons] == [
        ("far", "max_cosine"),
        ("far", "mcm"),
        ("flat", "max_cosine"),
        ("flat", "mcm"),
    ]
    assert evaluation.means()[0].auroc == pytest.approx((7 / 8 + 1) / 2)


def test_intervals_hold_their_figure_and_depend_on_the_seed_alone() -> None:
    first, second = run(bootstrap=50).comparisons[0], run(bootstrap=50).comparisons[0]

    assert first.intervals == second.intervals
    interval = first.intervals["auroc"]
    assert interval.low <= interval.value == first.auroc <= interval.high


def test_a_set_in_parts_gives_the_scores_of_the_whole() -> None:
    whole = run().id_set
    parts = [Part((str(row),), ID[[row]], np.array([label])) for row, label in enumerate([0, 1, 1, -1])]

    split = evaluate(METHODS, TASK, FeatureSet("ID", parts), [FeatureSet.of("far", OOD)])

    np.testing.assert_allclose(split.id_set.scores["mcm"], whole.scores["mcm"], rtol=1e-6)
    assert split.accuracy == pytest.approx(2 / 3)


def test_an_ood_set_without_usable_images_is_counted_and_not_compared() -> None:
    broken = FeatureSet("broken", [Part((), ImageFeatures(torch.empty(0, 2)), errors={"x.png": "empty file"})])

    evaluation = evaluate(METHODS, TASK, FeatureSet.of("ID", ID), [broken, FeatureSet.of("far", OOD)])

    assert {each.ood for each in evaluation.comparisons} == {"far"}
    assert evaluation.ood_sets[0].errors == {"x.png": "empty file"}
    assert evaluation.accuracy is None
    assert {each.oscr for each in (*evaluation.comparisons, *evaluation.means())} == {None}


def test_no_usable_image_on_one_side_is_an_error_with_the_reason() -> None:
    empty = FeatureSet("x", [Part((), ImageFeatures(torch.empty(0, 2)), errors={"x.png": "empty file: 0 bytes"})])

    with pytest.raises(InputError, match="no usable OOD image: 1 could not be used, the first because: empty file"):
        evaluate(METHODS, TASK, FeatureSet.of("ID", ID), [empty])
    with pytest.raises(InputError, match="no usable ID image"):
        evaluate(METHODS, TASK, empty, [FeatureSet.of("far", OOD)])


@pytest.mark.parametrize("names", [("far", "far"), ("ID", "far")])
def test_two_sets_of_one_name_are_an_error(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="same name"):
        evaluate(METHODS, TASK, FeatureSet.of("ID", ID), [FeatureSet.of(name, OOD) for name in names])


def test_labels_beyond_the_classes_are_an_error() -> None:
    with pytest.raises(InputError, match="from 0 to 2, there are 2 classes"):
        evaluate(METHODS, TASK, FeatureSet.of("ID", ID, labels=torch.tensor([0, 1, 1, 2])), [FeatureSet.of("far", OOD)])


def test_labels_of_ood_images_are_not_read() -> None:
    """As a list file may have them, whose labels count another set of classes."""
    ood = FeatureSet.of("far", OOD, labels=torch.tensor([0, 37]))
    evaluation = evaluate(METHODS, TASK, FeatureSet.of("ID", ID), [ood])

    assert evaluation.ood_sets[0].labels.tolist() == [-1, -1]
    rows = [row for row in csv.DictReader(io.StringIO(scores_csv(evaluation))) if row["set"] == "far"]
    assert [row["label"] for row in rows] == ["", ""]


def test_a_named_method_that_lacks_something_is_an_error() -> None:
    sets = FeatureSet.of("ID", ID), [FeatureSet.of("far", OOD)]

    with pytest.raises(TaskError, match="negatives"):
        evaluate({"neglabel": create_detector("neglabel")}, TASK, *sets)
    with pytest.raises(CapabilityError, match="patch"):
        evaluate({"gl_mcm": create_detector("gl_mcm")}, TASK, *sets)


def test_json_round_trips_without_a_nan() -> None:
    plain = to_plain(run(bootstrap=5), {"encoder": "fake"})

    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["comparisons"][0]["intervals"]["auroc"]["low"] <= 7 / 8
    assert plain["id"] == {"name": "ID", "images": 4, "errors": {}}


def test_csv_has_a_line_a_comparison_and_a_line_a_mean() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(run()))))

    assert [(line["method"], line["ood"]) for line in lines][-2:] == [("max_cosine", "mean"), ("mcm", "mean")]
    assert float(lines[0]["auroc"]) == 7 / 8
    assert lines[0]["ood_images"] == "2"
    assert float(lines[0]["oscr"]) == pytest.approx(2 / 3)
    assert lines[0]["fpr_at_95_nearest"] == "0.5"


def test_the_scores_of_every_image_survive_hostile_names() -> None:
    name = 'a,"b"\n=1+1'
    odd = FeatureSet("ID", [Part((name,), ID[[0]], np.array([1]), {"bad.png": "empty, very"})])
    evaluation = evaluate(METHODS, TASK, odd, [FeatureSet.of("far", OOD)])

    lines = list(csv.DictReader(io.StringIO(scores_csv(evaluation))))

    assert (lines[0]["image"], lines[0]["label"], lines[0]["nearest"]) == (name, "north", "east")
    assert float(lines[0]["mcm"]) == pytest.approx(float(evaluation.id_set.scores["mcm"][0]))
    assert (lines[1]["image"], lines[1]["mcm"], lines[1]["error"]) == ("bad.png", "", "empty, very")
    assert [line["set"] for line in lines] == ["ID", "ID", "far", "far"]


def test_real_clip_vectors_give_the_known_figures(shared_data: Path) -> None:
    """AUROC of shared/data/README.md; FPR by our exact definition, checked there by sorting the scores."""
    folder = shared_data / "clip-vit-b32-features"
    shots = load_features(folder / "imagenet-4shot.safetensors")
    assert shots.labels is not None
    rows = torch.argsort(shots.labels, stable=True).view(1000, 4)[:, 2:].flatten()
    names = ("max_cosine", "mcm", "energy")

    evaluation = evaluate(
        {name: create_detector(name) for name in names},
        Task(load_bank(folder / "imagenet-text.safetensors")),
        FeatureSet.of("ID", shots.features[rows], labels=shots.labels[rows]),
        [
            FeatureSet.of(name, load_features(folder / f"{file}.safetensors").features)
            for name, file in (("sun", "sun397-val"), ("cars", "stanford-cars-val"))
        ],
    )

    assert round(evaluation.accuracy or 0, 3) == 0.623
    figures = [round(each.auroc, 3) for each in evaluation.comparisons]
    assert figures == [0.846, 0.798, 0.852, 0.949, 0.670, 0.969]
    assert [round(each.fpr_at_95_id, 3) for each in evaluation.comparisons[3:]] == [0.298, 0.983, 0.180]
    sun = evaluation.ood_sets[0].scores["mcm"]
    assert evaluation.comparisons[1].fpr_at_95_id == metrics.fpr_at_tpr(evaluation.id_set.scores["mcm"], sun)
