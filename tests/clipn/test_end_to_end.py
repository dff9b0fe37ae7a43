"""The real job: photographs, captions, the embedded encoder, a trained no-tower, scores."""

import csv
from pathlib import Path

import pytest
import skimage
import sklearn

import vlm_ood as vo
from vlm_ood.clipn import Step, TrainingPlan, load_no_tower, no_bank, read_pairs, train
from vlm_ood.encoders.base import Encoder
from vlm_ood.images import load_image

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"

ID_PICTURES = {
    "cat": SKIMAGE / "chelsea.png",
    "cup of coffee": SKIMAGE / "coffee.png",
    "rocket": SKIMAGE / "rocket.jpg",
    "motorcycle": SKIMAGE / "motorcycle_left.png",
}
OOD_PICTURES = {
    "flower": SKLEARN / "flower.jpg",
    "temple": SKLEARN / "china.jpg",
    "heap of coins": SKIMAGE / "coins.png",
    "brick wall": SKIMAGE / "brick.png",
    "galaxy": SKIMAGE / "hubble_deep_field.jpg",
    "printed page": SKIMAGE / "page.png",
    "lawn": SKIMAGE / "grass.png",
    "moon": SKIMAGE / "moon.png",
}
PLAN = TrainingPlan(epochs=3, batch_size=12, learning_rate=3e-4, checkpoint_every=3, workers=2)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return vo.load_encoder("embedded", device="cpu", dtype="fp32")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Each photograph whole and three quarters of it, captioned."""
    rows: list[tuple[str, str]] = []
    for name, path in {**ID_PICTURES, **OOD_PICTURES}.items():
        image = load_image(path)
        image.thumbnail((400, 400))
        part = image.crop((image.width // 8, image.height // 8, image.width * 7 // 8, image.height * 7 // 8))
        for caption, picture in ((f"a photo of a {name}.", image), (f"a close-up of a {name}.", part)):
            file = f"{len(rows)}.png"
            picture.save(tmp_path / file)
            rows.append((file, caption))
    with (tmp_path / "captions.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("image", "caption"), *rows])
    return tmp_path / "captions.csv"


@pytest.mark.slow
def test_a_no_tower_learns_on_photographs_survives_an_interruption_and_separates_id_from_ood(
    encoder: Encoder, table: Path, tmp_path: Path
) -> None:
    steps = train_in_two_sittings(encoder, table, tmp_path)
    assert [step.step for step in steps] == [1, 2, 3, 4, 4, 5, 6]
    assert steps[3] == steps[4]
    assert steps[-1].loss < 0.6 * steps[0].loss

    tower = load_no_tower(tmp_path / "no_tower.safetensors", encoder)
    task = vo.Task(classes=vo.text_bank(encoder, list(ID_PICTURES)), no=no_bank(encoder, tower, list(ID_PICTURES)))
    known, unknown = (encoder.encode_images(map(load_image, paths.values())) for paths in (ID_PICTURES, OOD_PICTURES))
    for rule in ("ctw", "atd"):
        fitted = vo.create_detector("clipn", rule=rule, scale=encoder.scale).fit(task)
        accepted, refused = fitted.decide(known), fitted.decide(unknown)
        assert accepted is not None
        assert refused is not None
        assert not accepted.any()
        assert refused.float().mean() >= 0.25  # by an untrained no-tower no image is refused
        assert fitted.score(known).max() < fitted.score(unknown).min()


def train_in_two_sittings(encoder: Encoder, table: Path, folder: Path) -> list[Step]:
    """Interrupted after step 4, whose state is that of step 3."""
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(encoder, read_pairs([table]), PLAN, folder=folder, progress=stop)
    train(encoder, read_pairs([table]), PLAN, folder=folder, progress=steps.append)
    return steps
