"""Structured logs: JSON lines, or plain text on a terminal."""

import logging
import sys
from typing import Final

import structlog

from service.observability.sanitising import sanitised

_QUIET: Final = (  # these libraries log warnings about the content of requests
    "httpx",
    "httpcore",
    "PIL",
    "multipart",
    "python_multipart",
    "asyncio",
)


def configure(level: str = "info") -> None:
    """Configure logging for the process, once; messages of libraries through `logging` have the same form."""
    terminal = sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer = _for_people() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, sanitised, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _for_people() -> structlog.dev.ConsoleRenderer:
    """A console renderer whose tracebacks omit the values of variables, which may be images and keys."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
