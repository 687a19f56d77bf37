"""Refuses, by path, options that promise something no part of Antiphon keeps yet.

Options that only allow or hint (adaptive thinking, `cache_control`, context management, effort, task budgets) are
accepted without effect, so that real clients run; these may not be, because the client would rely on them.
"""

from __future__ import annotations

from antiphon.core.errors import InvalidRequest
from antiphon.wire.blocks import (
    Block,
    BlocksSource,
    BrowserStateBlock,
    CompactionBlock,
    DocumentBlock,
    FallbackBlock,
    RedactedThinkingBlock,
    ResultBlock,
    SearchResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    block_type,
)
from antiphon.wire.options import ThinkingBetweenTools, ThinkingEnabled
from antiphon.wire.request import Conversation, MessagesRequest
from antiphon.wire.sources import PlainText
from antiphon.wire.tools import TOOL_TYPES, Toolset, TypedTool

_SERVED_BLOCKS = (
    TextBlock,
    ThinkingBlock,
    RedactedThinkingBlock,
    ToolUseBlock,
    ToolResultBlock,
    FallbackBlock,
)
_SERVED_IN_RESULTS = (TextBlock, ToolReferenceBlock, BrowserStateBlock, SearchResultBlock, DocumentBlock)


def refuse_unkept(request: Conversation) -> None:
    """Check every option that promises something.

    Raises:
        InvalidRequest: one of them is used; names its path.
    """
    _refuse_options(request)
    if isinstance(request, MessagesRequest):
        _refuse_answer_options(request)
    for index, tool in enumerate(request.tools):
        if isinstance(tool, TypedTool | Toolset) and TOOL_TYPES[tool.type].runs == "server":
            _refuse(f"tools.{index}.type", f"the server tool `{tool.type}` is")
    for number, message in enumerate(request.messages):
        if not isinstance(message.content, str):
            for position, block in enumerate(message.content):
                _refuse_block(f"messages.{number}.content.{position}", block)


def _refuse_options(request: Conversation) -> None:
    if isinstance(request.thinking, ThinkingEnabled):
        _refuse("thinking.budget_tokens", "thinking with a budget is")
    if isinstance(request.thinking, ThinkingBetweenTools):
        _refuse("thinking.type", "thinking between tools is")
    if request.mcp_servers:
        _refuse("mcp_servers", "the MCP connector is")
    if request.billing_policy is not None and request.billing_policy.bill_to == "user_profile":
        _refuse("billing_policy.bill_to", "billing to a user profile is")
    if request.thread is not None:
        # The SDK's tool runner resends everything without a thread when it meets this code (client-surface 7.4).
        raise InvalidRequest(
            "message threads are not supported by this server; send the full history without `thread`",
            path="thread",
            details={"error_code": "thread_unsupported_request"},
        )


def _refuse_answer_options(request: MessagesRequest) -> None:
    """Options that count_tokens ignores or does not know."""
    if request.container is not None:
        _refuse("container", "containers are")
    if request.compaction is not None:
        _refuse("compaction", "compaction is")
    if request.fallbacks and request.fallbacks != "default":
        # `default` is ignored where a model has no fallbacks (contract messages-and-inference 3.6).
        _refuse("fallbacks", "fallback to other models is")
    token = request.fallback_credit_token
    if token is not None and (isinstance(token, str) or token.mode != "best_effort"):
        _refuse("fallback_credit_token", "fallback credit is")


def _refuse_block(path: str, block: Block) -> None:
    if isinstance(block, CompactionBlock) and block.content is None and block.encrypted_content is None:
        return  # a compaction that failed stands for nothing (contract client-surface 2.3)
    if not isinstance(block, _SERVED_BLOCKS):
        _refuse(path, f"`{block_type(block)}` blocks are")
    if isinstance(block, ToolResultBlock) and block.content is not None and not isinstance(block.content, str):
        for position, part in enumerate(block.content):
            _refuse_result(f"{path}.content.{position}", part)


def _refuse_result(path: str, part: ResultBlock) -> None:
    if not isinstance(part, _SERVED_IN_RESULTS):
        _refuse(path, f"`{block_type(part)}` blocks are")
    if isinstance(part, DocumentBlock | SearchResultBlock) and part.citations is not None and part.citations.enabled:
        _refuse(f"{path}.citations.enabled", "citing is")
    if not isinstance(part, DocumentBlock):
        return
    if not isinstance(part.source, PlainText | BlocksSource):
        _refuse(f"{path}.source", "documents that are no text are")
    if isinstance(part.source, BlocksSource) and not isinstance(part.source.content, str):
        for place, each in enumerate(part.source.content):
            if not isinstance(each, TextBlock):
                _refuse(f"{path}.source.content.{place}", f"`{block_type(each)}` blocks are")


def _refuse(path: str, what: str) -> None:
    raise InvalidRequest(f"{what} not supported by this server yet", path=path)
