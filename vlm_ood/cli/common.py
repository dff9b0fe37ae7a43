"""Shared by the commands: options, the two output streams, progress bars, and reading of class names and parameters."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder
    from vlm_ood.encoders.base import Progress as Advance
    from vlm_ood.encoders.device import Precision

console = Console()  # results
notes = Console(stderr=True)  # everything else, so that --json and --csv can be piped

ClassesOption = Annotated[
    str | None,
    typer.Option("--classes", "-c", help="Class names, 'cat,dog', or @FILE with one name per line."),
]
EncoderOption = Annotated[
    str, typer.Option("--encoder", "-e", help="Name of the encoder; `vlm-ood encoders` lists the forms.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
PrecisionOption = Annotated[str, typer.Option("--dtype", help="auto, fp32, fp16, bf16.")]
TemplatesOption = Annotated[
    str, typer.Option("--templates", "-t", help="A set of templates in prompts/, or one template with {} for the name.")
]
MethodOption = Annotated[
    str,
    typer.Option("--method", "-m", help="Name of the method; `vlm-ood detectors` lists them and the default."),
]
ParameterOption = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="A parameter of the method, NAME=VALUE; may be repeated.")
]
BankOption = Annotated[Path | None, typer.Option("--bank", help="Class vectors instead of names: a safetensors file.")]
NegativesOption = Annotated[
    Path | None, typer.Option("--negatives", help="A bank of negative words from `vlm-ood mine`.")
]
NoOption = Annotated[
    Path | None, typer.Option("--no", help="A bank of negated prompts, one row per class, from `vlm-ood clipn-bank`.")
]
SupportOption = Annotated[
    Path | None,
    typer.Option("--support", help="Labelled images: a folder with a subfolder per class, or a features file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def read_classes(classes: str | None) -> list[str]:
    """Read class names from 'cat,dog', or from '@FILE' with one name per line.

    Raises:
        ClassNamesError: no names are given, or the file can't be read.
    """
    from vlm_ood.errors import ClassNamesError

    if not classes:
        raise ClassNamesError('no class names: give --classes "cat,dog" or --classes @names.txt')
    if not classes.startswith("@"):
        return [name.strip() for name in classes.split(",")]
    try:
        lines = Path(classes[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClassNamesError(f"class names can't be read from {classes[1:]}: {error}") from None
    return [line.strip() for line in lines if line.strip()]


def read_parameters(parameters: list[str] | None) -> dict[str, Any]:
    """Read {'temperature': 0.5} from ['temperature=0.5']; a value that isn't JSON is a string.

    Raises:
        ParameterError: an entry has no '='.
    """
    from vlm_ood.errors import ParameterError

    read: dict[str, Any] = {}
    for given in parameters or []:
        name, equals, value = given.partition("=")
        if not equals:
            raise ParameterError(f"--param {given!r} must be NAME=VALUE, such as temperature=0.5")
        try:
            read[name] = json.loads(value)
        except json.JSONDecodeError:
            read[name] = value
    return read


def open_encoder(name: str, device: str, precision: str) -> "Encoder":
    """Load an encoder and show a status line meanwhile.

    Raises:
        UnknownNameError: `precision` or the encoder's name is unknown.
        EncoderError: the encoder can't be loaded.
    """
    from vlm_ood.encoders import load_encoder

    checked = read_precision(precision)
    with notes.status(f"loading {name} ..."):
        return load_encoder(name, device=device, precision=checked)


def read_precision(name: str) -> "Precision":
    """Read the value of `--dtype`.

    Raises:
        UnknownNameError: there is no such precision.
    """
    from vlm_ood.encoders.device import Precision
    from vlm_ood.errors import UnknownNameError

    precisions: dict[str, Precision] = {each: each for each in get_args(Precision)}
    if name not in precisions:
        raise UnknownNameError("dtype", name, precisions)
    return precisions[name]


@contextmanager
def progress_bar(description: str, total: int | None) -> "Iterator[Advance]":
    """Show a progress bar on standard error while the block runs.

    Args:
        description: label of the bar.
        total: number of items; None when it is unknown.

    Yields:
        A function to call with the number of items done since the last call.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output.

    Raises:
        ValueError: a number is not finite; that is a fault of this program.
    """
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
