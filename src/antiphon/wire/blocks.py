"""Content blocks that a request may hold, with every documented field (contract `client-surface.md` 2.3).

A block of an answer comes back in the next request field for field, nulls included, so whatever an answer may hold is
taken here. Types and fields that nothing serves yet are read all the same: what the server cannot do is refused by its
name and path (`plan.promises`), not as something unknown.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from antiphon.wire.server_results import (
    AdvisorContent,
    BashContent,
    CodeContent,
    EditorContent,
    ToolSearchContent,
    WebFetchError,
    WebSearchContent,
)
from antiphon.wire.sources import (
    Base64Pdf,
    Citation,
    CitationsConfig,
    FileSource,
    ImageSource,
    PlainText,
    UrlSource,
)

#: A JSON object that is the client's own (a tool's input, a schema): carried whole, never looked into here.
JsonObject: TypeAlias = dict[str, Any]


class CacheControl(msgspec.Struct, frozen=True):
    """A cache breakpoint (contract `messages-and-inference.md` 7.1)."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Root of all blocks."""


class MarkableBlock(Block, frozen=True, kw_only=True):
    """A block that may end a cached prefix."""

    cache_control: CacheControl | None = None


class ToolCaller(msgspec.Struct, frozen=True):
    """Who made a call: `direct` is the model; otherwise code that it wrote, by that tool's id."""

    type: str
    tool_id: str | None = None


class TextBlock(MarkableBlock, frozen=True, tag="text", kw_only=True):
    text: str
    citations: tuple[Citation, ...] | None = None


class ThinkingBlock(Block, frozen=True, tag="thinking", kw_only=True):
    thinking: str
    signature: str = ""
    cache_control: CacheControl | None = None
    """Read to be refused (`plan.rules`); so in the next one."""


class RedactedThinkingBlock(Block, frozen=True, tag="redacted_thinking", kw_only=True):
    data: str
    cache_control: CacheControl | None = None


class ToolUseBlock(MarkableBlock, frozen=True, tag="tool_use", kw_only=True):
    id: str
    name: str
    input: JsonObject
    caller: ToolCaller | None = None
    toolset_name: str | None = None


class Transformations(msgspec.Struct, frozen=True):
    """What may be done to an image that is too large (contract messages-and-inference 11.1)."""

    oversized_image: Literal["downsize", "error"] | None = None


class ImageBlock(MarkableBlock, frozen=True, tag="image", kw_only=True):
    source: ImageSource
    transformations: Transformations | None = None


class BlocksSource(msgspec.Struct, frozen=True, tag="content", tag_field="type"):
    """A document given as a text, or as blocks that are cited whole."""

    content: str | tuple[TextBlock | ImageBlock, ...]


DocumentSource: TypeAlias = Base64Pdf | PlainText | BlocksSource | UrlSource | FileSource


class DocumentBlock(MarkableBlock, frozen=True, tag="document", kw_only=True):
    source: DocumentSource
    title: str | None = None
    context: str | None = None
    citations: CitationsConfig | None = None


class SearchResultBlock(MarkableBlock, frozen=True, tag="search_result", kw_only=True):
    source: str
    title: str
    content: tuple[TextBlock, ...]
    citations: CitationsConfig | None = None


class ToolReferenceBlock(MarkableBlock, frozen=True, tag="tool_reference", kw_only=True):
    tool_name: str


class Tab(msgspec.Struct, frozen=True):
    tab_id: int | str
    title: str
    url: str
    active: bool | None = None


class BrowserStateBlock(MarkableBlock, frozen=True, tag="browser_state", kw_only=True):
    tabs: tuple[Tab, ...] = ()
    state_changes: tuple[JsonObject, ...] | None = None


ResultBlock: TypeAlias = (
    TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | BrowserStateBlock
)


class ToolResultBlock(MarkableBlock, frozen=True, tag="tool_result", kw_only=True):
    """What the client's tool returned. `content` is null when it returned nothing."""

    tool_use_id: str
    content: str | tuple[ResultBlock, ...] | None = None
    is_error: bool | None = None
    toolset_name: str | None = None


class ServerToolUseBlock(MarkableBlock, frozen=True, tag="server_tool_use", kw_only=True):
    id: str
    name: str
    input: JsonObject
    caller: ToolCaller | None = None


class ServerResultBlock(MarkableBlock, frozen=True, kw_only=True):
    """What a tool that the server ran gave back."""

    tool_use_id: str


class WebSearchResultBlock(ServerResultBlock, frozen=True, tag="web_search_tool_result", kw_only=True):
    content: WebSearchContent
    caller: ToolCaller | None = None


class FetchedPage(msgspec.Struct, frozen=True, tag="web_fetch_result", tag_field="type", kw_only=True):
    url: str
    content: DocumentBlock
    retrieved_at: str | None = None


class WebFetchResultBlock(ServerResultBlock, frozen=True, tag="web_fetch_tool_result", kw_only=True):
    content: FetchedPage | WebFetchError
    caller: ToolCaller | None = None


class CodeExecutionResultBlock(ServerResultBlock, frozen=True, tag="code_execution_tool_result", kw_only=True):
    content: CodeContent


class BashCodeExecutionResultBlock(ServerResultBlock, frozen=True, tag="bash_code_execution_tool_result", kw_only=True):
    content: BashContent


class TextEditorCodeExecutionResultBlock(
    ServerResultBlock, frozen=True, tag="text_editor_code_execution_tool_result", kw_only=True
):
    content: EditorContent


class ToolSearchResultBlock(ServerResultBlock, frozen=True, tag="tool_search_tool_result", kw_only=True):
    content: ToolSearchContent


class AdvisorToolResultBlock(ServerResultBlock, frozen=True, tag="advisor_tool_result", kw_only=True):
    content: AdvisorContent


class ContainerUploadBlock(MarkableBlock, frozen=True, tag="container_upload", kw_only=True):
    file_id: str


class McpToolUseBlock(MarkableBlock, frozen=True, tag="mcp_tool_use", kw_only=True):
    id: str
    name: str
    server_name: str
    input: JsonObject


class McpToolResultBlock(MarkableBlock, frozen=True, tag="mcp_tool_result", kw_only=True):
    tool_use_id: str
    content: str | tuple[TextBlock, ...] | None = None
    is_error: bool | None = None


class McpListedTool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    input_schema: JsonObject
    description: str | None = None


class McpToolListingBlock(Block, frozen=True, tag="mcp_tool_listing", kw_only=True):
    mcp_server_name: str
    tools: tuple[McpListedTool, ...]


class CompactionBlock(MarkableBlock, frozen=True, tag="compaction", kw_only=True):
    """Stands for all that came before it; null content is a compaction that failed, and stands for nothing."""

    content: str | None = None
    encrypted_content: str | None = None
    signature: str | None = None
    tool_changes: tuple[JsonObject, ...] | None = None


class ModelName(msgspec.Struct, frozen=True):
    model: str


class FallbackBlock(Block, frozen=True, tag="fallback", kw_only=True, rename={"from_": "from"}):
    """Marks where another model took over; kept in place by clients that echo it, no content of its own."""

    from_: ModelName
    to: ModelName
    trigger: JsonObject | None = None


class NamedTool(msgspec.Struct, frozen=True, tag="tool_reference", tag_field="type"):
    name: str


class NamedMcpTool(msgspec.Struct, frozen=True, tag="mcp_tool_reference", tag_field="type"):
    server_name: str
    name: str


class NamedMcpToolset(msgspec.Struct, frozen=True, tag="mcp_toolset_reference", tag_field="type"):
    server_name: str


class InlineTool(msgspec.Struct, frozen=True, tag="tool_definition", tag_field="type"):
    """A whole entry of `tools`, read as one when it is served."""

    definition: JsonObject


class ToolAdditionBlock(MarkableBlock, frozen=True, tag="tool_addition", kw_only=True):
    tool: NamedTool | NamedMcpTool | NamedMcpToolset | InlineTool


class ToolRemovalBlock(MarkableBlock, frozen=True, tag="tool_removal", kw_only=True):
    tool: NamedTool | NamedMcpTool | NamedMcpToolset


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
