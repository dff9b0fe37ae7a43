"""The cost of mining negatives and scoring with them, and their effect on AUROC.

    python -m benchmarks.mining lexicon              mine for the ImageNet names: with the present cache, then warm
    python -m benchmarks.mining text                 encode lexicon words: ours against the padded loop
    python -m benchmarks.mining scoring              scoring against 10 000 negatives, relative to encoding
    python -m benchmarks.mining photos FOLDER        AUROC on photographs with a tenth of the ImageNet classes as ID

Set VLM_OOD_CACHE to an empty folder for a cold start. CPU seconds are of this process, over all cores.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Annotated

import open_clip
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import vlm_ood as vo
from benchmarks.common import in_turns, model_and_encoder
from benchmarks.text_encoding import full_context
from vlm_ood.encoders import Encoder
from vlm_ood.lexicons import Lexicon, wordnet
from vlm_ood.metrics import auroc
from vlm_ood.negatives import Mining, MiningPlan, mine, recipe_named

app = typer.Typer(add_completion=False)
console = Console()

IMAGENET = tuple(dict.fromkeys(open_clip.IMAGENET_CLASSNAMES))  # two names stand twice
EveryOption = Annotated[int, typer.Option(help="Take every n-th word of the lexicon only.")]


@app.command()
def lexicon(encoder: str = "embedded", recipe: str = "neglabel", corpus: str = "full", every: EveryOption = 1) -> None:
    """Mine twice for all ImageNet names and once for every tenth."""
    loaded = vo.load_encoder(encoder)
    bank = vo.text_bank(loaded, IMAGENET)
    plan = MiningPlan(recipe_named(recipe), sample(wordnet(corpus), every))
    with Progress() as bar:
        task = bar.add_task(f"{plan.prompts} prompts", total=plan.prompts)
        first = timed("first", lambda: mine(loaded, bank, plan, progress=lambda done: bar.advance(task, done)))
    again = timed("again", lambda: mine(loaded, bank, plan))
    timed("every tenth class", lambda: mine(loaded, bank.take(range(0, len(bank), 10)), plan))
    console.print(
        f"{len(first.negatives)} negatives, the same twice: {first.negatives.digest == again.negatives.digest}"
    )


@app.command()
def text(architecture: str = "ViT-B-32", words: int = 192, batch_size: int = 32, turns: int = 2) -> None:
    """Encode words spread over the lexicon, on one core."""
    torch.set_num_threads(1)
    model, encoder = model_and_encoder(architecture)
    tokenizer = open_clip.get_tokenizer(architecture)
    entries = wordnet("paper").entries("noun")
    prompts = [f"the nice {word}" for word, _ in entries[:: len(entries) // words][:words]]
    padded_s, ours_s = in_turns(
        [
            lambda: full_context(model, tokenizer, prompts, batch_size, encoder.device),
            lambda: encoder.encode_text(prompts, batch_size=batch_size).cpu(),
        ],
        turns,
    )
    console.print(
        f"{len(prompts)} words: padded {len(prompts) / padded_s:.1f}/s, ours {len(prompts) / ours_s:.1f}/s, "
        f"{padded_s / ours_s:.1f} times"
    )


@app.command()
def scoring(encoder: str = "random:ViT-B-32", negatives: int = 10_000, images: int = 8, turns: int = 10) -> None:
    """Time the encoding of a batch of images and NegLabel's score of it, each on one core: threads would wait."""
    torch.set_num_threads(1)
    loaded = vo.load_encoder(encoder)
    draw = torch.Generator().manual_seed(0)
    classes, words = (
        vo.TextBank(tuple(map(str, range(rows))), torch.randn(rows, loaded.dim, generator=draw)).to(loaded.device)
        for rows in (1000, negatives)
    )
    fitted = vo.create_detector("neglabel").fit(vo.Task(classes=classes, negatives=words))
    size = loaded.preprocessing.height, loaded.preprocessing.width
    pixels = torch.randint(0, 256, (images, 3, *size), generator=draw, dtype=torch.uint8)
    features = loaded.encode_pixels(pixels)
    encode_s, score_s = in_turns(
        [lambda: loaded.encode_pixels(pixels).pooled.cpu(), lambda: fitted.score(features).cpu()], turns
    )
    console.print(
        f"{encoder}, {images} images: encoding {1e3 * encode_s / images:.2f} ms an image, "
        f"scoring {negatives} negatives {1e3 * score_s / images:.2f} ms, {score_s / encode_s:.2%}"
    )


@app.command()
def photos(
    folder: Path,
    encoder: str = "embedded",
    seeds: int = 5,
    share: float = 0.1,
    corpus: str = "full",
    every: EveryOption = 1,
    recipes: str = "neglabel,csp",
) -> None:
    """Mean AUROC over random class lists: the photographs of those classes against all others."""
    loaded = vo.load_encoder(encoder)
    labels, features = read_photos(loaded, folder)
    words = sample(wordnet(corpus), every)
    console.print(f"{len(labels)} photographs, {len(words)} words of wordnet-{corpus}, {seeds} class lists")
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        order = torch.randperm(len(IMAGENET), generator=torch.Generator().manual_seed(seed)).tolist()
        names = [IMAGENET[row] for row in order[: int(share * len(IMAGENET))]]
        belongs = torch.tensor([label in names for label in labels])
        for method, scores in scores_of(loaded, features, names, words, recipes.split(",")).items():
            value = float(auroc(scores[belongs], scores[~belongs]))
            found.setdefault(method, []).append(value)
    table = Table("method", "AUROC", "lowest", "highest")
    for method, values in found.items():
        table.add_row(method, *(f"{value:.3f}" for value in (mean(values), min(values), max(values))))
    console.print(table)


def scores_of(
    encoder: Encoder, features: vo.ImageFeatures, names: list[str], words: Lexicon, recipes: list[str]
) -> dict[str, torch.Tensor]:
    """Scores by method, with the class names in "a photo of a {}." and in the templates of the recipe."""
    single = vo.text_bank(encoder, names)
    found = {
        method: vo.create_detector(method).fit(vo.Task(classes=single)).score(features)
        for method in ("mcm", "max_cosine")
    }
    for name in recipes:
        recipe = recipe_named(name)
        own = vo.text_bank(encoder, names, templates=recipe.templates["noun"])
        found[f"mcm, {name}'s templates"] = vo.create_detector("mcm").fit(vo.Task(classes=own)).score(features)
        for variant, bank in (("own templates", own), ("single", single)):
            negatives = mine(encoder, bank, MiningPlan(recipe, words)).negatives
            task = vo.Task(classes=bank, negatives=negatives)
            for temperature in (0.01, 0.05, 0.2):
                detector = vo.create_detector("neglabel", temperature=temperature)
                found[f"{name}, {variant}, temperature {temperature}"] = detector.fit(task).score(features)
            found[f"{name}, {variant}, negprompt"] = vo.create_detector("negprompt").fit(task).score(features)
    return found


def read_photos(encoder: Encoder, folder: Path) -> tuple[list[str], vo.ImageFeatures]:
    """Class names and features of the photographs that `labels.tsv` lists."""
    with (folder / "labels.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    images = encoder.encode_images(Image.open(folder / row["file"]) for row in rows)
    return [open_clip.IMAGENET_CLASSNAMES[int(row["index"])] for row in rows], images


def sample(words: Lexicon, every: int) -> Lexicon:
    """Every n-th word of each file."""
    return Lexicon(words.name, {file: own[::every] for file, own in words.files.items()})


def timed(what: str, work: Callable[[], Mining]) -> Mining:
    """The result of the work; prints how long it took."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    console.print(f"{what}: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} CPU seconds")
    return result


if __name__ == "__main__":
    app()
