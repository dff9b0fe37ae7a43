"""The command `vlm-ood`: each module of this package that defines a command is one."""

import importlib
import pkgutil
import sys

import typer

from vlm_ood.cli.common import notes


def build() -> typer.Typer:
    """Build the Typer application from the modules here that define a function `command` or a Typer `app`."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Zero-shot out-of-distribution detection for images: give class names, and score images against them.",
    )
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{__name__}.{found.name}")
        name = found.name.replace("_", "-")
        if hasattr(module, "command"):
            app.command(name)(module.command)
        elif hasattr(module, "app"):
            app.add_typer(module.app, name=name)
    return app


def main() -> None:
    """Run the command line; an error that the user can correct is one line on standard error, with exit status 2."""
    from vlm_ood.errors import VlmOodError

    try:
        build()()
    except (VlmOodError, FileNotFoundError) as error:
        notes.print("error:", style="bold red", end=" ")
        notes.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
