import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import HALF_LIFE_S, LatencyBook, LatencyModel
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs


def test_a_line_is_found_again() -> None:
    model = LatencyModel()
    for n in (1, 2, 4, 8):
        model.observe(n, 0.010 * n + 0.005)
    assert model.coefficients() == pytest.approx((0.010, 0.005))
    assert model.predict(16, batch=8) == pytest.approx(16 * 0.010 + 2 * 0.005)


def test_one_size_alone_counts_as_proportional() -> None:
    model = LatencyModel()
    model.observe(4, 0.2)
    assert model.predict(8, batch=4) == pytest.approx(0.4)


def test_nothing_seen_predicts_nothing() -> None:
    assert LatencyModel().predict(100, batch=4) == 0.0


def test_the_past_is_forgotten() -> None:
    model = LatencyModel()
    for seconds in (1.0, 0.1):
        for _ in range(100):
            model.observe(1, seconds)
    assert model.predict(1, batch=1) == pytest.approx(0.1, rel=0.1)


def test_a_warm_up_beside_other_work_is_outweighed_by_the_first_batches() -> None:
    model = LatencyModel()
    for n in (1, 2, 4, 8, 16):
        model.expect(n, 10.0 * n)
    assert model.predict(16, batch=16) == pytest.approx(160.0)
    for _ in range(5):
        model.observe(16, 1.6)
    assert model.predict(16, batch=16) < 0.2 * 160.0
    assert math.isfinite(model.age_s)


def test_time_forgets_too() -> None:
    now = 0.0
    model = LatencyModel(lambda: now)
    for _ in range(100):
        model.observe(1, 1.0)
    now = 10 * HALF_LIFE_S
    model.observe(1, 0.1)
    assert model.predict(1, batch=1) == pytest.approx(0.1, rel=0.2)


def test_one_batch_that_took_for_ever_is_no_prediction() -> None:
    model = LatencyModel()
    for _ in range(20):
        model.observe(1, 0.1)
    model.observe(1, 100.0)
    assert model.predict(1, batch=1) < 0.2
    for _ in range(40):
        model.observe(1, 1.0)
    assert model.predict(1, batch=1) == pytest.approx(1.0, rel=0.2), "but what goes on is"


def test_batches_are_charged_by_their_seconds_whatever_is_in_them() -> None:
    book = LatencyBook()
    key = BatchKey("fake", POOLED, 8)
    assert book.share_s(key, 4) == 0.5
    for n in (1, 2, 4, 8):
        book.model("fake", POOLED).observe(n, 0.010 * n + 0.008)
    assert book.share_s(key, 2) == pytest.approx(2 * 0.010 + 0.002)
    assert book.age_s(BatchKey("fake", PATCHES, 8)) == math.inf


@given(st.lists(st.tuples(st.integers(1, 256), st.floats(1e-6, 100)), min_size=1, max_size=40))
def test_coefficients_are_never_negative(seen: list[tuple[int, float]]) -> None:
    model = LatencyModel()
    for n, seconds in seen:
        model.observe(n, seconds)
    assert min(model.coefficients()) >= 0
    assert model.predict(1, batch=1) > 0


def test_work_that_was_never_seen_is_predicted_as_pooled_features_of_its_encoder() -> None:
    book = LatencyBook()
    book.model("fake", POOLED).observe(4, 0.4)
    book.model("fake", PATCHES).observe(4, 0.8)
    book.model("fake", None).observe(4, 1.6)
    asked = [POOLED, PATCHES, Outputs(size=(16, 16)), None]
    assert [book.predict_s(BatchKey("fake", outputs, 4), 4) for outputs in asked] == pytest.approx([0.4, 0.8, 0.4, 1.6])
    assert book.predict_s(BatchKey("other", PATCHES, 4), 4) == 0.0
