"""Values that a schema names, as our JSON writer writes them."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from antiphon.plan.schema.anything import Spacing
from antiphon.plan.schema.strings import quoted


class Texts:
    """Writes values with one spacing."""

    def __init__(self, spacing: Spacing) -> None:
        self._spacing = spacing

    def written(self, value: Any) -> str | None:
        """The text; None for a number that JSON cannot hold."""
        parts: list[str | None]
        if isinstance(value, list):
            parts = [self.written(part) for part in value]
            return None if None in parts else f"[{self._spacing.item.join(map(str, parts))}]"
        if isinstance(value, dict):
            parts = [self._member(name, part) for name, part in value.items()]
            return None if None in parts else f"{{{self._spacing.item.join(map(str, parts))}}}"
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return str(value) if type(value) is int else msgspec.json.encode(value).decode()

    def _member(self, name: str, value: Any) -> str | None:
        text = self.written(value)
        return None if text is None else f"{quoted(name)}{self._spacing.key}{text}"
