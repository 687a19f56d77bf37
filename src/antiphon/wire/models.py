"""What `GET /v1/models` answers (contract `client-surface.md` 4.2).

`capabilities.compaction` and `allowed_fallback_models` belong to betas that are not served here. They are absent, which
every client reads as null: not known.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Support(msgspec.Struct, frozen=True):
    """A leaf of the tree: whether it can be asked for."""

    supported: bool


class ContextManagement(msgspec.Struct, frozen=True, kw_only=True):
    """Edits that a request may ask for in `context_management.edits`."""

    supported: bool
    clear_thinking_20251015: Support
    clear_tool_uses_20250919: Support
    compact_20260112: Support


class EffortLevels(msgspec.Struct, frozen=True, kw_only=True):
    """Values of `output_config.effort`."""

    supported: bool
    low: Support
    medium: Support
    high: Support
    xhigh: Support
    max: Support


class ServerTools(msgspec.Struct, frozen=True, kw_only=True):
    """Tools that the server runs."""

    supported: bool
    code_execution: Support
    web_search: Support


class ThinkingTypes(msgspec.Struct, frozen=True, kw_only=True):
    """Values of `thinking.type`."""

    adaptive: Support
    between_tools: Support
    disabled: Support
    enabled: Support


class ThinkingSupport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the model thinks, and how it may be told to."""

    supported: bool
    types: ThinkingTypes


class ModelCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What requests for a model may use. Every key is always there."""

    batch: Support
    citations: Support
    code_execution: Support
    """Tools that are called from code; the code execution tool itself is under `server_tools`."""
    context_management: ContextManagement
    effort: EffortLevels
    image_input: Support
    pdf_input: Support
    server_tools: ServerTools
    structured_outputs: Support
    thinking: ThinkingSupport


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One id that can be asked for, or could be. Limits are in tokens; times are RFC 3339, in UTC."""

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
    capabilities: ModelCapabilities | None = None


class ModelPage(msgspec.Struct, frozen=True):
    """A page of models (contract `client-surface.md` 1.7, class Page)."""

    data: tuple[Model, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
