"""`vlm-ood encoders`: lists the forms of an encoder's name."""

from typing import Annotated

import typer

from vlm_ood.cli.common import JsonOption, console, print_json


def command(
    find: Annotated[str, typer.Option(help="List open_clip's pairs ARCH/TAG that contain this text.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the forms of an encoder's name, or open_clip's pairs with --find."""
    from rich.markup import escape
    from rich.table import Table

    from vlm_ood.encoders import ENCODERS

    if find:
        from open_clip import list_pretrained

        pairs = [f"{arch}/{tag}" for arch, tag in list_pretrained() if find.lower() in f"{arch}/{tag}".lower()]
        if as_json:
            print_json(pairs)
        else:
            console.print("\n".join(pairs) or f"no pair contains {find!r}", markup=False)
        return
    if as_json:
        print_json(dict(ENCODERS))
        return
    table = Table("name", "what it is", title="Encoders")
    for name, meaning in ENCODERS.items():
        table.add_row(escape(name), escape(meaning))
    console.print(table)
