"""Thresholds and p-values from ID scores: by hand, in simulation, and on disk."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import vlm_ood as vo
from tests.detectors.world import make_world
from vlm_ood.calibration import Calibration, calibrate, needed_images, tolerance_of
from vlm_ood.errors import CalibrationWarning, ParameterError, StorageError, TaskError, UnknownNameError, VectorError
from vlm_ood.metrics import fpr_at_tpr

scores_with_ties = st.lists(st.integers(-20, 20), min_size=1, max_size=60)
keeps = st.sampled_from([0.5, 0.8, 0.9, 0.95])


def test_thresholds_of_twenty_scores_by_hand() -> None:
    id_scores = list(range(20, 0, -1))
    assert calibrate(id_scores, rule="empirical").threshold == 19  # 19 of 20 are 95 %
    assert calibrate(id_scores, rule="conformal").threshold == 20  # ceil(0.95 * 21) = 20
    assert calibrate(id_scores, keep=0.9, rule="conformal").threshold == 19  # ceil(0.9 * 21) = 19
    assert calibrate(id_scores, keep=0.5, rule="empirical").threshold == 10


def test_the_rule_with_the_guarantee_is_the_default_where_there_are_enough_images() -> None:
    assert calibrate(np.arange(19)).rule == "conformal"
    with pytest.warns(CalibrationWarning, match=r"18 ID images are too few .* 95 % of new ones .* needs 19 images"):
        assert calibrate(np.arange(18)).rule == "empirical"
    assert calibrate(np.arange(9), keep=0.9).rule == "conformal"


def test_too_few_images_say_what_they_will_keep() -> None:
    """Of fresh images five keep 5/6 on average, whatever is asked for above that."""
    five = Calibration.of([1, 2, 3, 4, 5])
    assert "on average 83.3 % will be" in five.note
    assert Calibration.of(np.arange(19)).note == ""
    kept = [1 - Calibration.of(row[:-1]).is_ood(row[-1:])[0] for row in _normal(4000, 6)]
    assert np.mean(kept) == pytest.approx(5 / 6, abs=0.02)


def test_a_rule_that_was_asked_for_does_not_warn() -> None:
    assert calibrate([1, 2, 3], rule="empirical").threshold == 3


def test_p_values_by_hand() -> None:
    calibration = Calibration.of([1, 2, 2, 5])
    assert calibration.p_values([0, 2, 3, 5, 6]).tolist() == [5 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5]


def test_a_score_is_above_the_threshold_only_by_more_than_the_tolerance() -> None:
    scores = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float32)
    calibration = calibrate(scores, keep=0.5, rule="empirical")
    threshold, tolerance = calibration.threshold, calibration.tolerance
    assert threshold == scores[1].item()
    assert calibration.is_ood(scores).tolist() == [False, False, True]
    assert calibration.is_ood([threshold + 0.99 * tolerance, threshold + 1.01 * tolerance]).tolist() == [False, True]
    assert calibration.p_values([threshold + 0.99 * tolerance, threshold + 1.01 * tolerance]).tolist() == [3 / 4, 2 / 4]


def test_the_tolerance_by_hand() -> None:
    assert tolerance_of([-2.0, 2.0]) == 0.001 * 2
    assert tolerance_of([8.0, 8.0]) == 8 * 2.0**-20
    assert tolerance_of([0.0]) == 0.0
    assert tolerance_of([-1e300, 1e300]) == 0.001 * 1e300
    assert Calibration.of([-2.0, 2.0]).tolerance == 0.001 * 2
    assert Calibration(np.array([1.0, 2.0])).tolerance == 0.0


def test_a_tolerance_that_is_none_is_refused() -> None:
    for tolerance in (-1e-9, float("inf"), float("nan")):
        with pytest.raises(ParameterError, match="tolerance"):
            Calibration(np.array([1.0]), tolerance=tolerance)


@pytest.mark.parametrize("name", vo.detector_names())
def test_the_decision_about_an_image_does_not_depend_on_its_batch(name: str) -> None:
    """Each image is calibrated to be its own threshold, and scored in batches of other sizes."""
    world = make_world(64, dim=512)
    fitted = vo.create_detector(name).fit(world.task)
    scores = fitted.score(world.id_images)
    for size in (1, 3, 16, 48):
        other = torch.cat([fitted.score(world.id_images[at : at + size]) for at in range(0, 64, size)])
        for rank in range(1, 65):
            calibration = Calibration.of(scores, rank / 64, rule="empirical") if rank < 64 else Calibration.of(scores)
            ties = scores == calibration.threshold
            assert not calibration.is_ood(other[ties]).any()


def test_the_empirical_threshold_is_that_of_fpr_at_tpr() -> None:
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(size=101), rng.normal(1, 1, size=77)
    assert 1 - calibrate(id_scores, rule="empirical").is_ood(ood_scores).mean() == pytest.approx(
        fpr_at_tpr(id_scores, ood_scores)
    )


def test_no_images_have_no_answers() -> None:
    calibration = Calibration.of([1.0, 2.0])
    assert calibration.p_values([]).shape == calibration.is_ood(torch.empty(0)).shape == (0,)


def test_needed_images_are_those_of_the_textbook() -> None:
    assert [needed_images(keep) for keep in (0.5, 0.9, 0.95, 0.99, 0.999)] == [1, 9, 19, 99, 999]


@given(st.integers(1, 999))
def test_needed_images_are_the_fewest_for_which_the_rank_exists(thousandths: int) -> None:
    needed = needed_images(thousandths / 1000)
    fits = [n for n in range(1, 1001) if -(-(n + 1) * thousandths // 1000) <= n]
    assert needed == fits[0]
    calibrate(np.arange(needed), thousandths / 1000, rule="conformal")


def test_too_few_images_for_the_guarantee_name_how_many_it_takes() -> None:
    with pytest.raises(TaskError, match=r"18 ID images can't guarantee to keep 0.95 .* give 19 or more"):
        calibrate(np.arange(18), rule="conformal")


@given(scores_with_ties, keeps)
def test_the_empirical_rule_keeps_enough_and_the_next_lower_score_would_not(scores: list[int], keep: float) -> None:
    calibration = calibrate(scores, keep, rule="empirical")
    assert (np.array(scores) <= calibration.threshold).mean() >= keep
    assert (np.array(scores) < calibration.threshold).mean() < keep


@given(scores_with_ties.filter(lambda scores: len(scores) >= 19), keeps, st.lists(st.integers(-21, 21), max_size=20))
def test_the_conformal_rule_is_a_p_value_of_at_most_one_minus_keep(
    scores: list[int], keep: float, new: list[int]
) -> None:
    calibration = calibrate(scores, keep, rule="conformal")
    small = calibration.p_values(new) <= 1 - keep
    assert np.array_equal(calibration.is_ood(new), small)


@pytest.mark.parametrize("n", [*range(1, 60), 99, 199, 999])
def test_ood_is_a_p_value_of_at_most_one_minus_keep_for_every_share(n: int) -> None:
    """In fp64, as a user writes it: 1 - 0.9 lies below 0.1, and 1 / 10 does not."""
    new = np.arange(n + 1) - 0.5
    exact = (1 + n - np.arange(n + 1)) / (n + 1)
    for hundredths in range(1, 200):
        keep = hundredths / 200
        if n < needed_images(keep):
            continue
        calibration = Calibration.of(np.arange(n), keep, rule="conformal")
        p = calibration.p_values(new)
        assert np.array_equal(calibration.is_ood(new), p <= 1 - keep), keep
        assert np.abs(p - exact).max() <= 2**-52, keep


@given(scores_with_ties, st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(scores: list[int], random: Any) -> None:
    shuffled = Calibration.of(sorted(scores, key=lambda _: random.random()))
    assert shuffled.to_bytes() == Calibration.of(scores).to_bytes()


@pytest.mark.parametrize("decimals", [None, 0])
def test_p_values_of_fresh_id_images_are_super_uniform(decimals: int | None) -> None:
    drawn = _normal(4000, 21, decimals)
    p = np.array([Calibration.of(row[:-1]).p_values(row[-1:])[0] for row in drawn])
    for level in (0.05, 0.1, 0.25, 0.5):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / len(p))


@pytest.mark.parametrize("decimals", [None, 0])
def test_the_conformal_rule_rejects_fresh_id_images_no_more_often_than_promised(decimals: int | None) -> None:
    drawn = _normal(4000, 26, decimals)
    rejected = [calibrate(row[:-1], 0.9, rule="conformal").is_ood(row[-1:])[0] for row in drawn]
    spread = 3 * math.sqrt(0.1 * 0.9 / len(drawn))
    assert np.mean(rejected) <= 0.1 + spread
    if decimals is None:  # without ties it is 1 - 24 / 26
        assert np.mean(rejected) == pytest.approx(1 - 24 / 26, abs=spread)


@pytest.mark.parametrize("rule", ["empirical", "conformal"])
def test_coverage_lies_in_its_interval_as_often_as_promised(rule: str) -> None:
    calibrations = [calibrate(row, rule=rule) for row in _normal(3000, 40)]
    low, high = calibrations[0].coverage_interval(0.9)
    kept = norm.cdf([calibration.threshold for calibration in calibrations])
    assert ((kept >= low) & (kept <= high)).mean() == pytest.approx(0.9, abs=3 * math.sqrt(0.09 / 3000))


def test_coverage_interval_of_one_image_by_hand() -> None:
    low, high = Calibration.of([1.0]).coverage_interval(0.9)  # Beta(1, 1) is uniform
    assert (low, high) == pytest.approx((0.05, 0.95))


def test_a_calibration_serves_its_own_detector_alone() -> None:
    calibration = Calibration.of([1.0, 2.0], digest="3fa9" * 16)
    calibration.check("3fa9" * 16)
    with pytest.raises(TaskError, match=r"made for detector 3fa9\w*, this is 81bc\w*: calibrate again"):
        calibration.check("81bc" * 16)
    Calibration.of([1.0, 2.0]).check("81bc" * 16)  # bound to none


@pytest.mark.parametrize("keep", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_can_not_be_kept_is_refused(keep: float) -> None:
    with pytest.raises(ParameterError, match="between 0 and 1"):
        calibrate([1.0, 2.0], keep)


def test_bad_scores_and_unknown_rules_are_refused() -> None:
    with pytest.raises(VectorError, match="1 of 2 ID scores are NaN or infinite"):
        calibrate([1.0, float("nan")])
    with pytest.raises(VectorError, match="0 ID scores"):
        calibrate([])
    with pytest.raises(VectorError, match="1 of 1 scores are NaN or infinite"):
        Calibration.of([1.0]).p_values([float("inf")])
    with pytest.raises(UnknownNameError, match="did you mean 'conformal'"):
        calibrate([1.0], rule="conformale")
    with pytest.raises(ParameterError, match="level=0"):
        Calibration.of([1.0]).coverage_interval(0.0)


def test_the_scores_of_the_caller_are_left_alone() -> None:
    scores = np.array([3.0, 1.0, 2.0])
    calibration = Calibration.of(scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        calibration.scores[0] = 9


def test_a_saved_calibration_comes_back_exactly(tmp_path: Path) -> None:
    calibration = calibrate(torch.randn(50, generator=torch.Generator().manual_seed(0)), 0.9, "3fa9", rule="conformal")
    calibration.save(tmp_path / "new" / "calibration.json")
    loaded = Calibration.load(tmp_path / "new" / "calibration.json")
    assert loaded.scores.tolist() == calibration.scores.tolist()
    assert loaded.tolerance == calibration.tolerance > 0
    assert (loaded.threshold, loaded.keep, loaded.rule, loaded.digest) == (
        calibration.threshold,
        0.9,
        "conformal",
        "3fa9",
    )


def test_a_file_of_before_tolerances_decides_as_it_did() -> None:
    """Written by the first version: empirical by default, ties to the last bit."""
    old = (
        b'{"format":"vlm-ood calibration 1","threshold":2.0,"keep":0.95,"rule":"empirical","digest":"3fa9",'
        b'"scores":[1.0,2.0]}'
    )
    loaded = Calibration.from_bytes(old)
    assert (loaded.threshold, loaded.rule, loaded.tolerance, loaded.digest) == (2.0, "empirical", 0.0, "3fa9")
    assert loaded.is_ood([2.0, np.nextafter(2.0, 3)]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something else"}, "format"),
        ({"scores": []}, "0 ID scores"),
        ({"scores": [1.0, "2"]}, r"scores\.1"),
        ({"scores": [1.0, None]}, r"scores\.1"),
        ({"keep": 2.0}, "keep=2.0"),
        ({"rule": "other"}, "rule"),
        ({"rule": "conformal"}, "can't guarantee"),
        ({"threshold": 7.0}, "threshold doesn't follow from the scores"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"rule": "auto"}, "rule"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(json.loads(Calibration.of([1.0, 2.0]).to_bytes()) | change))
    with pytest.raises(StorageError, match=message) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"P6 2 2 255"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged or no calibration"):
        Calibration.load(path)


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.json"):
        Calibration.load(tmp_path / "gone.json")
    with pytest.raises(StorageError, match="can't be read"):
        Calibration.load(tmp_path)


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(StorageError, match="can't be written"):
        Calibration.of([1.0]).save(target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "taken"]


def _normal(trials: int, n: int, decimals: int | None = None) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(trials, n))
    return drawn if decimals is None else drawn.round(decimals)
