"""Tool definitions in a request (contract `client-surface.md` 2.4).

A definition without a `type` is a user's own tool, and one form serves several dated types, so the list cannot be one
tagged union: each entry's type is looked up in `TOOL_TYPES` first, then the entry is decoded by what stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from antiphon.wire.blocks import CacheControl, JsonObject
from antiphon.wire.sources import CitationsConfig


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """What every definition may say."""

    cache_control: CacheControl | None = None


class CallableTool(Tool, frozen=True, kw_only=True):
    """A definition of one tool, not of a set."""

    strict: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: tuple[str, ...] | None = None


class CustomTool(CallableTool, frozen=True, kw_only=True):
    """A tool the client runs, described by a JSON Schema."""

    type: Literal["custom"] | None = None
    name: str
    input_schema: JsonObject
    description: str | None = None
    input_examples: tuple[JsonObject, ...] | None = None
    eager_input_streaming: bool | None = None


class TypedTool(CallableTool, frozen=True, kw_only=True):
    """A tool the API itself defines: its type is dated, e.g. `bash_20250124`."""

    type: str
    name: str


class ClientTool(TypedTool, frozen=True, kw_only=True):
    """One that the client runs: bash, memory, the first text editors."""

    input_examples: tuple[JsonObject, ...] | None = None


class BoundedTextEditor(ClientTool, frozen=True, kw_only=True):
    max_characters: int | None = None


class ComputerTool(ClientTool, frozen=True, kw_only=True):
    display_width_px: int
    display_height_px: int
    display_number: int | None = None


class ZoomingComputerTool(ComputerTool, frozen=True, kw_only=True):
    enable_zoom: bool | None = None


class UserLocation(msgspec.Struct, frozen=True, tag="approximate", tag_field="type", kw_only=True):
    city: str | None = None
    region: str | None = None
    country: str | None = None
    timezone: str | None = None


class WebTool(TypedTool, frozen=True, kw_only=True):
    max_uses: int | None = None
    allowed_domains: tuple[str, ...] | None = None
    blocked_domains: tuple[str, ...] | None = None


class WebSearchTool(WebTool, frozen=True, kw_only=True):
    user_location: UserLocation | None = None


class WebSearchTool20260318(WebSearchTool, frozen=True, kw_only=True):
    response_inclusion: Literal["full", "excluded"] | None = None


class WebFetchTool(WebTool, frozen=True, kw_only=True):
    citations: CitationsConfig | None = None
    max_content_tokens: int | None = None
    url_sources: JsonObject | None = None


class WebFetchTool20260309(WebFetchTool, frozen=True, kw_only=True):
    use_cache: bool | None = None


class WebFetchTool20260318(WebFetchTool20260309, frozen=True, kw_only=True):
    response_inclusion: Literal["full", "excluded"] | None = None


class AdvisorTool(TypedTool, frozen=True, kw_only=True):
    model: str
    caching: JsonObject | None = None
    max_tokens: int | None = None
    max_uses: int | None = None


class MemberConfig(msgspec.Struct, frozen=True):
    """One member of a toolset, switched."""

    enabled: bool | None = None
    defer_loading: bool | None = None


class Toolset(Tool, frozen=True, kw_only=True):
    """Many tools of one kind, without a name of its own. The fields after `configs` are read only to be refused
    (`plan.toolrules`)."""

    type: str
    configs: dict[str, MemberConfig] | None = None
    name: str | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: tuple[str, ...] | None = None
    input_examples: tuple[JsonObject, ...] | None = None
    display_width_px: int | None = None
    display_height_px: int | None = None
    display_number: int | None = None


class McpToolset(Toolset, frozen=True, kw_only=True):
    mcp_server_name: str
    default_config: MemberConfig | None = None
    tools: tuple[JsonObject, ...] | None = None


class ToolHead(msgspec.Struct, frozen=True):
    """As much of a definition as decides how the rest is read."""

    type: str | None = None


class ToolType(msgspec.Struct, frozen=True):
    """How a dated type is read, the one name it goes by, and who runs it."""

    form: type[TypedTool] | type[Toolset]
    name: str | None
    runs: Literal["client", "server"]


def _client(form: type[TypedTool] | type[Toolset], name: str | None, *types: str) -> dict[str, ToolType]:
    return {kind: ToolType(form, name, "client") for kind in types}


def _server(form: type[TypedTool] | type[Toolset], name: str | None, *types: str) -> dict[str, ToolType]:
    return {kind: ToolType(form, name, "server") for kind in types}


#: Every type there is besides the client's own tools.
TOOL_TYPES: Mapping[str, ToolType] = {
    **_client(ClientTool, "bash", "bash_20241022", "bash_20250124"),
    **_client(ClientTool, "str_replace_editor", "text_editor_20241022", "text_editor_20250124"),
    **_client(ClientTool, "str_replace_based_edit_tool", "text_editor_20250429"),
    **_client(BoundedTextEditor, "str_replace_based_edit_tool", "text_editor_20250728"),
    **_client(ClientTool, "memory", "memory_20250818"),
    **_client(ComputerTool, "computer", "computer_20241022", "computer_20250124"),
    **_client(ZoomingComputerTool, "computer", "computer_20251124"),
    **_client(Toolset, None, "browser_toolset_20260801", "computer_toolset_20260801"),
    **_server(
        TypedTool,
        "code_execution",
        "code_execution_20250522",
        "code_execution_20250825",
        "code_execution_20260120",
        "code_execution_20260521",
    ),
    **_server(WebSearchTool, "web_search", "web_search_20250305", "web_search_20260209"),
    **_server(WebSearchTool20260318, "web_search", "web_search_20260318"),
    **_server(WebFetchTool, "web_fetch", "web_fetch_20250910", "web_fetch_20260209"),
    **_server(WebFetchTool20260309, "web_fetch", "web_fetch_20260309"),
    **_server(WebFetchTool20260318, "web_fetch", "web_fetch_20260318"),
    **_server(TypedTool, "tool_search_tool_bm25", "tool_search_tool_bm25", "tool_search_tool_bm25_20251119"),
    **_server(TypedTool, "tool_search_tool_regex", "tool_search_tool_regex", "tool_search_tool_regex_20251119"),
    **_server(AdvisorTool, "advisor", "advisor_20260301"),
    **_server(McpToolset, None, "mcp_toolset"),
}


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
