"""`vlm-ood serve`: runs the HTTP server."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 8000 by default.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the database and of stored vectors.")] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", "-e", help="An encoder that requests may name; may be repeated; the first is the default."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    workers: Annotated[
        str | None, typer.Option(help="process: one process per device; inline: inside the server, for small set-ups.")
    ] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Accept requests without a key.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error.")] = None,
) -> None:
    """Run the HTTP server. Every setting is also an environment variable VLM_OOD_*, see docs/operations.md."""
    from service.settings import read_settings
    from service.start import serve

    settings = read_settings(
        host=host,
        port=port,
        data=data,
        encoders=tuple(encoders) if encoders else None,
        device=device,
        workers=workers,
        insecure=insecure,
        log_level=log_level,
    )
    serve(settings)
