"""`vlm-ood mine`: mines a bank of negative words for given classes from a lexicon."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm_ood.cli.common import (
    BankOption,
    ClassesOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    PrecisionOption,
    TemplatesOption,
    console,
    notes,
    open_encoder,
    print_json,
    progress_bar,
)

if TYPE_CHECKING:
    from vlm_ood.negatives import MiningReport

Files = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only words of this lexicographer file, such as noun.animal; noun for all nouns."),
]
Under = Annotated[
    list[str] | None, typer.Option("--under", help="Only words at or under this synset, such as animal.n.01.")
]
NotUnder = Annotated[
    list[str] | None, typer.Option("--not-under", help="No words at or under this synset, such as person.n.01.")
]


def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the bank: a safetensors file.")],
    classes: ClassesOption = None,
    bank: BankOption = None,
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="neglabel or csp.")] = "neglabel",
    encoder: EncoderOption = "embedded",
    templates: TemplatesOption = "single",
    negative_templates: Annotated[
        str | None, typer.Option(help="Templates for the nouns; by default the recipe's.")
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(help="Your own words instead of WordNet: a text file with one word per line.")
    ] = None,
    corpus: Annotated[str, typer.Option(help="Word lists of the packaged WordNet: full or paper.")] = "full",
    only: Files = None,
    under: Under = None,
    not_under: NotUnder = None,
    quantile: Annotated[
        float, typer.Option(help="Candidates are ranked by this quantile of their cosines to the classes.")
    ] = 0.95,
    keep: Annotated[float, typer.Option(help="Share of the candidates to keep, in (0, 1].")] = 0.15,
    synonyms: Annotated[bool, typer.Option(help="Also leave out WordNet's synonyms of the classes.")] = True,
    seed: Annotated[int, typer.Option(help="For csp's random superclasses.")] = 0,
    draw: Annotated[
        str, typer.Option(help="How csp chooses superclasses: by_word, or in_turn as in the authors' code.")
    ] = "by_word",
    overlap: Annotated[
        str, typer.Option(help="What a word that is noun and adjective counts as: noun, or adj as in the papers.")
    ] = "noun",
    class_neighbours: Annotated[
        int, typer.Option(min=0, help="Words nearest to each class that count as classes too (NegLabel's pos_topk).")
    ] = 0,
    classes_out: Annotated[
        Path | None, typer.Option(help="Where to write the classes with those words, to score with --bank.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many nearest negatives and samples to show.")] = 10,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Mine negative words: the words of a lexicon that are least similar to the classes.

    Run an interrupted command again to continue it.
    """
    from vlm_ood.cli.task_options import FileSources, TaskOptions
    from vlm_ood.io.vectors import save_bank
    from vlm_ood.lexicons import read_words
    from vlm_ood.negatives import report
    from vlm_ood.tasks import Builder, MinedBank

    spec = MinedBank(
        recipe,
        f"wordnet-{corpus}",
        None if lexicon is None else read_words(lexicon),
        only=tuple(only or ()),
        under=tuple(under or ()),
        not_under=tuple(not_under or ()),
        quantile=quantile,
        keep=keep,
        synonyms=synonyms,
        seed=seed,
        draw=draw,
        overlap=overlap,
        class_neighbours=class_neighbours,
        templates=negative_templates,
    )
    plan = spec.plan  # reads the lexicon, before an encoder is loaded
    wanted = TaskOptions(classes=classes, bank=bank, templates=templates).class_bank()
    loaded = open_encoder(encoder, device, precision)
    targets = Builder(loaded, FileSources(loaded)).bank(wanted)
    with progress_bar("encoding the lexicon", plan.prompts) as advance:
        mining = Builder(loaded, progress=advance).mining(spec, targets)
    save_bank(out, mining.negatives, loaded.name)
    if classes_out is not None:
        save_bank(classes_out, mining.classes, loaded.name)
    summary = report(mining, targets, quantile, top)
    if as_json:
        print_json(asdict(summary))
    else:
        _show(summary)
    notes.print(f"wrote {summary.negatives} negatives to {out}", highlight=False)


def _show(summary: "MiningReport") -> None:
    from rich.table import Table

    shares = Table("lexicographer file", "candidates", "kept")
    for share in summary.files:
        shares.add_row(share.file, str(share.candidates), str(share.kept))
    nearest = Table("negative", "nearest class", "cosine", title="most similar to a class")
    for pair in summary.nearest:
        nearest.add_row(pair.negative, pair.nearest_class, f"{pair.cosine:.3f}")
    console.print(shares, nearest)
    console.print("samples:", ", ".join(summary.samples), markup=False, highlight=False)
    console.print(f"left out because they name a class: {len(summary.named)} words", highlight=False)
