"""Structured logs on standard error: one line per request, one per event of the server's life.

Records are made of named fields that the code gives, never of requests or headers as they are, so there is nothing to
redact (faults, "Secrets in logs": deny-lists miss).
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(level: str, form: str) -> None:
    """Set up logging for this process. `form` is `json`, `text`, or `auto`: text on a terminal, JSON elsewhere."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if text:
        processors.append(structlog.dev.ConsoleRenderer(pad_event_to=0))
    else:
        processors.append(lambda _logger, _method, event: _encode(event).decode())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
