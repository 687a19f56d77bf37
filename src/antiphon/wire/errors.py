"""The API's error envelope (contract `messages-and-inference.md` 2.2)."""

from __future__ import annotations

import msgspec


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    message: str
    details: dict[str, str] | None = None


class ErrorEnvelope(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    error: ErrorBody
    request_id: str
