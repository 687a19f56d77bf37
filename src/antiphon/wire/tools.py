"""Tool definitions in a request (contract `client-surface.md` 2.4).

A definition without a `type` is a user's own tool, so the list cannot be one tagged union: each entry's type is looked
at first, then the entry is decoded by it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from antiphon.wire.blocks import CacheControl, JsonObject


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """What every definition may say."""

    strict: bool | None = None
    cache_control: CacheControl | None = None
    defer_loading: bool | None = None


class CustomTool(Tool, frozen=True, kw_only=True):
    """A tool the client runs, described by a JSON Schema."""

    name: str
    input_schema: JsonObject
    description: str | None = None


class TypedTool(Tool, frozen=True, kw_only=True):
    """A tool the API itself defines: its type is dated, e.g. `bash_20250124`; toolsets have no name."""

    type: str
    name: str | None = None
    mcp_server_name: str | None = None


class ToolHead(msgspec.Struct, frozen=True):
    """As much of a definition as decides how the rest is read."""

    type: str | None = None


class AutoChoice(msgspec.Struct, frozen=True, tag="auto", tag_field="type"):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(msgspec.Struct, frozen=True, tag="any", tag_field="type"):
    disable_parallel_tool_use: bool | None = None


class NamedChoice(msgspec.Struct, frozen=True, tag="tool", tag_field="type"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoneChoice(msgspec.Struct, frozen=True, tag="none", tag_field="type"):
    pass


ToolChoice: TypeAlias = AutoChoice | AnyChoice | NamedChoice | NoneChoice

#: Types the client runs (the rest of the dated types the server would have to run).
CLIENT_TOOL_PREFIXES: tuple[str, ...] = (
    "bash_",
    "text_editor_",
    "memory_",
    "computer_",
    "browser_toolset_",
)
ToolKind: TypeAlias = Literal["custom", "client", "server"]


def tool_kind(tool: Tool) -> ToolKind:
    """Who defines and who runs this tool."""
    if isinstance(tool, TypedTool):
        return "client" if tool.type.startswith(CLIENT_TOOL_PREFIXES) else "server"
    return "custom"
