"""The command `vlm-ood`: each module of this package that defines a command is one."""

import importlib
import pkgutil
import sys

import typer

from vlm_ood.cli.common import notes


def build(only: str | None = None) -> typer.Typer:
    """Build the Typer application from the modules here that define a function `command` or a Typer `app`.

    Args:
        only: name of the one command that is called, so that it doesn't wait for what the others import; another word
            is not a command, and every command is built.
    """
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Zero-shot out-of-distribution detection for images: give class names, and score images against them.",
    )
    app.callback()(lambda: None)  # a single command is named too
    found = {module.name.replace("_", "-"): module.name for module in pkgutil.iter_modules(__path__)}
    if only in found and _add(app, only, found[only]):
        return app
    for name in sorted(found):
        _add(app, name, found[name])
    return app


def _add(app: typer.Typer, name: str, module_name: str) -> bool:
    """Add the command of a module; whether it defines one."""
    module = importlib.import_module(f"{__name__}.{module_name}")
    if hasattr(module, "command"):
        app.command(name)(module.command)
    elif hasattr(module, "app"):
        app.add_typer(module.app, name=name)
    else:
        return False
    return True


def main() -> None:
    """Run the command line; an error that the user can correct is one line on standard error, with exit status 2."""
    from vlm_ood.errors import VlmOodError

    try:
        build(next(iter(sys.argv[1:]), None))()
    except (VlmOodError, FileNotFoundError) as error:
        notes.print("error:", style="bold red", end=" ")
        notes.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
