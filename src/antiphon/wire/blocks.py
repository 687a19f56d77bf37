"""Content blocks that a request may hold (contract `client-surface.md` 2.3).

Every documented type has its struct, so that a block a later part will serve is refused by name and path rather than
as unknown. Fields that nothing reads yet are left out: unknown fields inside a block are tolerated.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

#: A JSON object that is the client's own (a tool's input, a schema): carried whole, never looked into here.
JsonObject: TypeAlias = dict[str, Any]


class CacheControl(msgspec.Struct, frozen=True):
    """A cache breakpoint (contract `messages-and-inference.md` 7.1)."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Root of all blocks."""

    cache_control: CacheControl | None = None


class TextBlock(Block, frozen=True, tag="text", kw_only=True):
    text: str
    citations: tuple[JsonObject, ...] | None = None


class ThinkingBlock(Block, frozen=True, tag="thinking", kw_only=True):
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Block, frozen=True, tag="redacted_thinking", kw_only=True):
    data: str


class ToolUseBlock(Block, frozen=True, tag="tool_use", kw_only=True):
    id: str
    name: str
    input: JsonObject


class ImageBlock(Block, frozen=True, tag="image", kw_only=True):
    source: JsonObject


class DocumentBlock(Block, frozen=True, tag="document", kw_only=True):
    source: JsonObject


class SearchResultBlock(Block, frozen=True, tag="search_result", kw_only=True):
    source: str
    title: str
    content: tuple[TextBlock, ...]


class ToolReferenceBlock(Block, frozen=True, tag="tool_reference", kw_only=True):
    tool_name: str


class BrowserStateBlock(Block, frozen=True, tag="browser_state", kw_only=True):
    tabs: tuple[JsonObject, ...] = ()


ResultBlock: TypeAlias = (
    TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | BrowserStateBlock
)


class ToolResultBlock(Block, frozen=True, tag="tool_result", kw_only=True):
    """What the client's tool returned. `content` is null when it returned nothing."""

    tool_use_id: str
    content: str | tuple[ResultBlock, ...] | None = None
    is_error: bool | None = None


class ServerToolUseBlock(Block, frozen=True, tag="server_tool_use", kw_only=True):
    id: str
    name: str
    input: JsonObject


class WebSearchResultBlock(Block, frozen=True, tag="web_search_tool_result", kw_only=True):
    tool_use_id: str


class WebFetchResultBlock(Block, frozen=True, tag="web_fetch_tool_result", kw_only=True):
    tool_use_id: str


class CodeExecutionResultBlock(Block, frozen=True, tag="code_execution_tool_result", kw_only=True):
    tool_use_id: str


class BashCodeExecutionResultBlock(Block, frozen=True, tag="bash_code_execution_tool_result", kw_only=True):
    tool_use_id: str


class TextEditorCodeExecutionResultBlock(
    Block, frozen=True, tag="text_editor_code_execution_tool_result", kw_only=True
):
    tool_use_id: str


class ToolSearchResultBlock(Block, frozen=True, tag="tool_search_tool_result", kw_only=True):
    tool_use_id: str


class ContainerUploadBlock(Block, frozen=True, tag="container_upload", kw_only=True):
    file_id: str


class McpToolUseBlock(Block, frozen=True, tag="mcp_tool_use", kw_only=True):
    id: str
    name: str
    server_name: str
    input: JsonObject


class McpToolResultBlock(Block, frozen=True, tag="mcp_tool_result", kw_only=True):
    tool_use_id: str


class McpToolListingBlock(Block, frozen=True, tag="mcp_tool_listing", kw_only=True):
    mcp_server_name: str


class AdvisorToolResultBlock(Block, frozen=True, tag="advisor_tool_result", kw_only=True):
    tool_use_id: str


class CompactionBlock(Block, frozen=True, tag="compaction", kw_only=True):
    content: str | None = None


class FallbackBlock(Block, frozen=True, tag="fallback", kw_only=True):
    """Marks where another model took over; kept in place by clients that echo it, no content of its own."""


class ToolAdditionBlock(Block, frozen=True, tag="tool_addition", kw_only=True):
    tool: JsonObject


class ToolRemovalBlock(Block, frozen=True, tag="tool_removal", kw_only=True):
    tool: JsonObject


ContentBlock: TypeAlias = (
    TextBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ServerToolUseBlock
    | WebSearchResultBlock
    | WebFetchResultBlock
    | CodeExecutionResultBlock
    | BashCodeExecutionResultBlock
    | TextEditorCodeExecutionResultBlock
    | ToolSearchResultBlock
    | ContainerUploadBlock
    | McpToolUseBlock
    | McpToolResultBlock
    | McpToolListingBlock
    | AdvisorToolResultBlock
    | CompactionBlock
    | FallbackBlock
    | ToolAdditionBlock
    | ToolRemovalBlock
)


def block_type(block: Block) -> str:
    """The block's `type` as the client wrote it."""
    return str(type(block).__struct_config__.tag)
