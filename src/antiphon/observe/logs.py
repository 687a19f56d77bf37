"""Structured logs on standard error: one line per request, one per event of the server's life.

Records are made of named fields that the code gives, never of requests or headers as they are, so there is nothing to
redact (faults, "Secrets in logs": deny-lists miss). An exception is told by its kind and place (`whereabouts`): its
text, and the variables of its frames, may hold what somebody sent. What libraries log is told without its arguments.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import PurePath
from typing import Any, TextIO

import msgspec
import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
#: Innermost frames of an exception that are named.
_FRAMES = 4
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process. `form` is `json`, `text`, or `auto`: text on a terminal, JSON elsewhere."""
    out = stream or sys.stderr
    text = form == "text" or (form == "auto" and out.isatty())
    processors: list[Any] = [
        _without_exceptions,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0) if text else _json_line,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Foreign()], force=True)


def whereabouts(error: BaseException) -> str:
    """An exception for the log: its kind and where it came from, innermost first; nothing of what it says."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{'/'.join(PurePath(f.filename).parts[-2:])}:{f.lineno} {f.name}" for f in reversed(frames)]
    return " < ".join([type(error).__name__, *places])


class _Foreign(logging.Handler):
    """Records of libraries, through the same pipe as ours. Their arguments may be anything, so only the first line of
    the message's own text is kept, with its placeholders."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name, "text": str(record.msg).partition("\n")[0][:200]}
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields["error"] = whereabouts(record.exc_info[1])
        log = structlog.get_logger()
        (log.error if record.levelno >= logging.ERROR else log.warning)("library", **fields)


def _without_exceptions(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last guard: renderers would print a traceback's text, and one of them its variables."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = whereabouts(error)
    return event


def _json_line(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return _encode(first | dict(event)).decode()
