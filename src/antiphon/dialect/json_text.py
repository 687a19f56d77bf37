"""JSON as chat templates write it: `tojson` of Hugging Face's template environment, which models were trained
on."""

from __future__ import annotations

from typing import Any

import msgspec

from antiphon.core.errors import InvalidRequest


def json_text(value: Any, indent: int = 0) -> str:
    """One line with ", " and ": " between values, keys in their order, characters as they are (nothing but
    quotes, backslashes and control characters is escaped); or `indent` spaces per level.

    As Python's `json.dumps(value, ensure_ascii=False)`, but for the exponents of very large and very small
    numbers.

    Raises:
        InvalidRequest: the value is nested more deeply than can be written.
    """
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()
    except RecursionError:
        raise InvalidRequest("JSON is nested too deeply") from None
