"""Real CLIP ViT-B/32 vectors: what OODD gains on far OOD images and loses on near ones (docs/methods.md)."""

from pathlib import Path

import torch
from safetensors.torch import load_file

import vlm_ood as vo


def test_far_ood_gains_and_near_ood_loses(shared_data: Path) -> None:
    folder = shared_data / "clip-vit-b32-features"
    images = load_file(folder / "imagenet-4shot.safetensors")
    by_class = images["features"][images["labels"].argsort(stable=True)].float().view(1000, 4, -1)
    text = load_file(folder / "imagenet-text.safetensors")["embeddings"]
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    known, unknown = order[:100], order[100:]
    background = by_class[unknown[:50], 0].mean(dim=0)
    task = vo.Task(vo.TextBank(tuple(map(str, known.tolist())), text[known]), background=background)
    fitted = vo.create_detector("adjusted_energy").fit(task)
    id_images = by_class[known].flatten(0, 1)
    cars = load_file(folder / "stanford-cars-val.safetensors")["features"].float()

    def gain(ood: torch.Tensor) -> float:
        both = vo.ImageFeatures(torch.cat([id_images, ood]))
        mixed = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))
        scores, session = torch.empty(len(both)), vo.adapting(fitted, "oodd")
        for rows in torch.split(mixed, 64):
            scores[rows] = session.score(both[rows])
        plain = fitted.score(both)
        count = len(id_images)
        return vo.metrics.auroc(scores[:count], scores[count:]) - vo.metrics.auroc(plain[:count], plain[count:])

    assert gain(cars) > 0.005
    assert gain(by_class[unknown[50:], 0]) < -0.005
