"""NegLabel against the paper's equation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vlm_ood as vo
from vlm_ood.detectors.neglabel import NegLabel, neglabel
from vlm_ood.digests import digest_of
from vlm_ood.errors import TaskError


def task(classes: int = 3, negatives: int = 12, dim: int = 16) -> vo.Task:
    draw = torch.Generator().manual_seed(0)
    return vo.Task(
        classes=vo.TextBank(tuple(f"class {row}" for row in range(classes)), torch.randn(classes, dim, generator=draw)),
        negatives=vo.TextBank(
            tuple(f"negative {row}" for row in range(negatives)), torch.randn(negatives, dim, generator=draw)
        ),
    )


def images(n: int = 5, dim: int = 16) -> vo.ImageFeatures:
    return vo.ImageFeatures(torch.randn(n, dim, generator=torch.Generator().manual_seed(1)))


def test_two_groups_by_hand() -> None:
    """Classes weigh 2 + 2, the groups 1 and 12: S = (4/5 + 4/16) / 2."""
    classes = torch.tensor([[math.log(2), math.log(2)]])
    negatives = torch.tensor([[[math.log(0.5), math.log(0.5)], [math.log(9), math.log(3)]]])

    score = neglabel(classes, negatives, 1.0, "probability")

    s = (4 / 5 + 4 / 16) / 2
    assert score.shape == (1,)
    assert score.item() == pytest.approx(math.log((1 - s) / s), rel=1e-6)
    mean_log_odds = -(math.log(4 / 1) + math.log(4 / 12)) / 2
    assert neglabel(classes, negatives, 1.0, "log_odds").item() == pytest.approx(mean_log_odds, rel=1e-6)


def test_equal_cosines_give_the_share_of_the_classes() -> None:
    """With K classes and groups of 104, S = K / (K + 104)."""
    score = neglabel(torch.full((1, 1000), 0.2), torch.full((1, 100, 104), 0.2), 0.01, "probability")

    assert torch.sigmoid(-score).item() == pytest.approx(1000 / 1104, rel=1e-5)


def test_one_group_is_the_plain_sum_softmax() -> None:
    given = task()
    assert given.negatives is not None
    everything = torch.cat([given.classes.embeddings, given.negatives.embeddings])
    expected = (images().pooled @ everything.T / 0.05).softmax(dim=1)[:, :3].sum(dim=1)

    score = vo.create_detector("neglabel", groups=1, temperature=0.05).fit(given).score(images())

    assert torch.allclose(torch.sigmoid(-score), expected, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.02, 1))
def test_finer_groups_never_lower_the_share_of_the_classes(seed: int, temperature: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes = torch.rand(4, 3, generator=draw)
    negatives = torch.rand(4, 12, generator=draw)

    coarse = neglabel(classes, negatives.view(4, 1, 12), temperature, "probability")
    fine = neglabel(classes, negatives.view(4, 4, 3), temperature, "probability")

    assert (fine <= coarse + 1e-4).all()


@pytest.mark.parametrize("gap", [-2.0, 0.5, 0.9, 2.0])
def test_images_that_clearly_belong_do_not_tie(gap: float) -> None:
    """At temperature 0.01 a gap of 0.2 makes S equal to 1 in fp32."""
    classes = gap + torch.linspace(0, 1e-3, 50).unsqueeze(1)
    negatives = torch.zeros(50, 10, 4)

    score = neglabel(classes, negatives, 0.01, "probability")

    assert score.isfinite().all()
    assert (score.diff() < 0).all()


def test_the_assignment_is_fixed_by_the_seed_and_leaves_the_last_out() -> None:
    given = task(negatives=14)
    learned = NegLabel(groups=4).learn(given)
    again = NegLabel(groups=4).learn(given)
    other = NegLabel(groups=4, seed=1).learn(given)

    assert learned.grouped.shape == (4, 3, 16)
    assert torch.equal(learned.grouped, again.grouped)
    assert not torch.equal(learned.grouped, other.grouped)
    shuffled = {tuple(row) for row in learned.grouped.flatten(0, 1).tolist()}
    assert shuffled == {tuple(row) for row in learned.negatives.embeddings[:12].tolist()}


def test_with_fewer_negatives_than_groups_each_is_a_group() -> None:
    many = vo.create_detector("neglabel", groups=100).fit(task()).score(images())
    one_each = vo.create_detector("neglabel", groups=12).fit(task()).score(images())

    assert torch.equal(many, one_each)


def test_only_the_first_groups_are_averaged_where_asked() -> None:
    """Of three groups the first two, by hand; the reference's group_fuse_num = 3 takes the same two."""
    given = task()
    everything = NegLabel(groups=3).learn(given)
    classes = images().pooled.double() @ everything.classes.T
    by_group = torch.stack([images().pooled.double() @ group.T for group in everything.grouped], dim=1)
    shares = [
        torch.cat([classes, by_group[:, group]], dim=1).div(0.01).softmax(dim=1)[:, :3].sum(dim=1) for group in (0, 1)
    ]

    score = vo.create_detector("neglabel", groups=3, fused_groups=2).fit(given).score(images())

    expected = (shares[0] + shares[1]) / 2
    assert torch.allclose(torch.sigmoid(-score.double()), expected, atol=1e-7)
    whole = vo.create_detector("neglabel", groups=3).fit(given).score(images())
    assert torch.equal(vo.create_detector("neglabel", groups=3, fused_groups=3).fit(given).score(images()), whole)
    assert not torch.equal(score, whole)


def test_calibrations_of_before_an_option_was_added_hold_at_its_default() -> None:
    """The digest of a program without `fused_groups`, whose scores are those of its default."""
    parameters = {"groups": 2, "temperature": 0.01, "form": "probability", "seed": 0}
    fitted = vo.create_detector("neglabel", **parameters).fit(task())
    assert fitted.digest == digest_of("neglabel", parameters, fitted.task.digest)
    assert vo.create_detector("neglabel", **parameters, fused_groups=1).fit(task()).digest != fitted.digest


def test_says_which_negatives_pulled_an_image_out() -> None:
    given = task()
    assert given.negatives is not None
    images = vo.ImageFeatures(given.negatives.embeddings[[7, 2]])

    pulled = vo.create_detector("neglabel").fit(given).pulled_out_by(images, top=2)

    assert [entry[0][0] for entry in pulled] == ["negative 7", "negative 2"]
    assert all(len(entry) == 2 for entry in pulled)
    assert pulled[0][0][1] == pytest.approx(1, abs=1e-3)


def test_needs_negatives() -> None:
    with pytest.raises(TaskError, match="mine_negatives"):
        vo.create_detector("neglabel").fit(vo.Task(classes=task().classes))
    empty = vo.TextBank((), torch.empty(0, 16))
    with pytest.raises(TaskError, match="at least one negative"):
        vo.create_detector("neglabel").fit(vo.Task(classes=task().classes, negatives=empty))
