"""What `GET /v1/models` answers (contract `client-surface.md` 4.2)."""

from __future__ import annotations

from typing import Literal

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: Literal["model"] = "model"
    display_name: str
    created_at: str
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    line: Literal["haiku", "sonnet", "opus", "fable", "mythos"] | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    deprecated_at: str | None = None
    retires_at: str | None = None
    capabilities: None = None


class ModelPage(msgspec.Struct, frozen=True):
    data: tuple[Model, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
