from dataclasses import replace

import pytest

from service.engine import EncoderInfo
from service.engine.schedule.items import BatchKey, image_cost, image_key
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import CapabilityError

INFO = EncoderInfo(
    name="fake",
    digest="d",
    dim=4,
    scale=100.0,
    device="cpu",
    dtype="float32",
    capabilities=frozenset({"patches", "sizes", "windows"}),
    preprocessing=Preprocessing(30, 30, (0.5,) * 3, (0.5,) * 3),
    grid=(3, 3),
    batch_size=4,
)


@pytest.mark.parametrize(
    ("outputs", "cost"),
    [
        (POOLED, 900),
        (PATCHES, 900),
        (Outputs(size=(60, 30)), 1800),
        (Outputs(windows=(2,)), 900 + 4 * 4 * 100),  # 4 windows of 2 x 2 patches of 100 pixels
        (Outputs(windows=(2, 3)), 900 + 4 * 4 * 100 + 9 * 100),
        (Outputs(size=(40, 30), windows=(3,)), 1200 + 2 * 9 * 100),
        (Outputs(windows=(7,)), 900),
    ],
)
def test_an_image_costs_the_pixels_that_go_through_the_network(outputs: Outputs, cost: int) -> None:
    assert image_cost(INFO, outputs) == cost


def test_a_batch_holds_the_pixels_of_so_many_images_of_the_encoders_own_size() -> None:
    assert image_key(INFO, PATCHES, None) == BatchKey("fake", PATCHES, 4 * 900)
    assert image_key(INFO, POOLED, 10) == BatchKey("fake", POOLED, 9000)
    assert image_key(INFO, Outputs(size=(60, 60)), None).max_cost == 4 * 900


def test_only_what_the_encoder_has_can_be_asked_for() -> None:
    INFO.require(Outputs(patches=True, size=(60, 60), windows=(2,)))
    with pytest.raises(CapabilityError, match="fake gives no stages and no vv; it gives patches, sizes, windows"):
        INFO.require(Outputs(stages=(3,), attention="vv"))
    with pytest.raises(CapabilityError, match="it gives pooled features only"):
        replace(INFO, capabilities=frozenset()).require(PATCHES)
