"""What two labelled images per class give on real CLIP vectors, where these lie beside the checkout."""

import pytest

import vlm_ood as vo
from tests.detectors.reference import auroc


@pytest.mark.parametrize("name", ["tip_adapter", "nnguide", "relation"])
def test_with_a_thousand_classes_images_help_against_other_scenes(
    name: str, clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank, clip_support: vo.Support
) -> None:
    task = vo.Task(imagenet, support=clip_support)
    known, scenes = clip_vectors["imagenet"], clip_vectors["sun"]

    with_images, without = (
        auroc(fitted.score(known), fitted.score(scenes))
        for fitted in (vo.create_detector(each).fit(task) for each in (name, "energy"))
    )

    assert with_images > without + 0.02


def test_the_mean_image_of_a_class_separates_better_than_the_nearest_image(
    clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank, clip_support: vo.Support
) -> None:
    task = vo.Task(imagenet, support=clip_support)

    prototype, knn = (
        auroc(fitted.score(clip_vectors["imagenet"]), fitted.score(clip_vectors["sun"]))
        for fitted in (vo.create_detector(each).fit(task) for each in ("prototype", "knn"))
    )

    assert prototype > knn + 0.01
