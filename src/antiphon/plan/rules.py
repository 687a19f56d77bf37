"""The API's own rules about a conversation, whatever model answers (contract messages-and-inference 2.7, 3, 5.2).

Model-dependent rules (prefill, sampling by generation, windows by id) are the profile's and not here.
"""

from __future__ import annotations

from antiphon.core.errors import InvalidRequest
from antiphon.plan import toolrules
from antiphon.wire.blocks import (
    Block,
    ContentBlock,
    DocumentBlock,
    FallbackBlock,
    ImageBlock,
    McpToolListingBlock,
    McpToolResultBlock,
    McpToolUseBlock,
    RedactedThinkingBlock,
    SearchResultBlock,
    ServerResultBlock,
    ServerToolUseBlock,
    TextBlock,
    ThinkingBlock,
    ToolAdditionBlock,
    ToolReferenceBlock,
    ToolRemovalBlock,
    ToolResultBlock,
    ToolUseBlock,
    block_type,
)
from antiphon.wire.options import ThinkingDisabled, ThinkingEnabled
from antiphon.wire.request import ABSENT, Conversation, InputMessage, MessagesRequest, Role
from antiphon.wire.tools import AnyChoice, CustomTool, NamedChoice, TypedTool

_MAX_MESSAGES = 100_000
_MAX_NAME = 128
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_ONLY: dict[Role, tuple[type[Block], ...]] = {
    "system": (TextBlock, ToolAdditionBlock, ToolRemovalBlock),
    "assistant": (),
    "user": (),
}
_NEVER: dict[Role, tuple[type[Block], ...]] = {
    "system": (),
    # Documents in assistant turns are refused from a version on (`wire.versions`); until then they are let pass.
    "assistant": (ToolResultBlock, ImageBlock, SearchResultBlock, ToolAdditionBlock, ToolRemovalBlock),
    "user": (
        ToolUseBlock,
        ThinkingBlock,
        RedactedThinkingBlock,
        ServerToolUseBlock,
        ServerResultBlock,
        McpToolUseBlock,
        McpToolResultBlock,
        McpToolListingBlock,
        FallbackBlock,
        ToolAdditionBlock,
        ToolRemovalBlock,
    ),
}


def check(request: Conversation) -> None:
    """Check a request against the rules.

    Raises:
        InvalidRequest: the first rule that is broken, with the path.
    """
    if not request.messages:
        raise InvalidRequest("at least one message is required", path="messages")
    if len(request.messages) > _MAX_MESSAGES:
        raise InvalidRequest(f"at most {_MAX_MESSAGES} messages are allowed", path="messages")
    if isinstance(request.thinking, ThinkingDisabled) and request.thinking.display is not None:
        raise InvalidRequest("Extra inputs are not permitted", path="thinking.disabled.display")
    if isinstance(request, MessagesRequest):
        _check_options(request)
    tools = _check_tools(request) | toolrules.check(request)
    if request.system is not None and not isinstance(request.system, str):
        for index, block in enumerate(request.system):
            _check_text(block.text, "system", f"system.{index}.text")
    for number, message in enumerate(request.messages):
        _check_message(message, tools, number)
    _check_order(request.messages)
    _check_calls(request.messages)
    _check_prefill(request.messages[-1])
    if _formatted(request):
        _check_format(request.messages)


def _check_options(request: MessagesRequest) -> None:
    for sequence in request.stop_sequences or ():
        if not sequence.strip():
            raise InvalidRequest("each stop sequence must contain non-whitespace", path="stop_sequences")
    if isinstance(request.thinking, ThinkingEnabled) and request.thinking.budget_tokens >= request.max_tokens > 0:
        raise InvalidRequest("`max_tokens` must be greater than `thinking.budget_tokens`")
    if request.fallbacks is not None and request.fallback_credit_token is not None:
        raise InvalidRequest("may not be combined with `fallbacks`", path="fallback_credit_token")
    if request.max_tokens == 0:
        # Cache pre-warming; what it may not be combined with: contract 7.8.
        if request.stream:
            raise InvalidRequest("max_tokens must be at least 1 when streaming", path="max_tokens")
        if isinstance(request.tool_choice, AnyChoice | NamedChoice):
            raise InvalidRequest("max_tokens must be at least 1 when tool use is forced", path="max_tokens")
        if isinstance(request.thinking, ThinkingEnabled):
            raise InvalidRequest("max_tokens must be at least 1 when thinking is enabled", path="max_tokens")
        if _formatted(request):
            raise InvalidRequest("max_tokens must be at least 1 with structured outputs", path="max_tokens")


def _check_tools(request: Conversation) -> frozenset[str]:
    """Check the definitions, and tell the names that can be referred to."""
    seen: set[str] = set()
    for index, tool in enumerate(request.tools):
        name = tool.name if isinstance(tool, CustomTool | TypedTool) else None
        if name is None:
            continue
        path = f"tools.{index}.custom.name" if isinstance(tool, CustomTool) else f"tools.{index}.name"
        if not 1 <= len(name) <= _MAX_NAME or not _NAME_CHARACTERS.issuperset(name):
            raise InvalidRequest("String should match pattern '^[a-zA-Z0-9_-]{1,128}$'", path=path)
        if name in seen:
            raise InvalidRequest("Tool names must be unique.", path="tools")
        seen.add(name)
        if isinstance(tool, CustomTool) and tool.input_schema.get("type") != "object":
            raise InvalidRequest("Input should be 'object'", path=f"tools.{index}.custom.input_schema.type")
    if isinstance(request.tool_choice, NamedChoice) and request.tool_choice.name not in seen:
        raise InvalidRequest(f"Tool '{request.tool_choice.name}' not found in provided tools", path="tool_choice")
    return frozenset(seen)


def _check_message(message: InputMessage, tools: frozenset[str], number: int) -> None:
    path = f"messages.{number}"
    if message.role != "system" and (message.clear_at, message.output_config) != (None, None):
        raise InvalidRequest("`clear_at` and `output_config` belong to system messages", path=path)
    if isinstance(message.content, str):
        _check_text(message.content, "messages", f"{path}.content")
        return
    if message.content is ABSENT and message.output_config is None:
        raise InvalidRequest("Field required", path=f"{path}.content")
    if not message.content and message.role != "assistant" and message.output_config is None:
        raise InvalidRequest(f"{message.role} messages must have non-empty content", path=path)
    for position, block in enumerate(message.content):
        where = f"{path}.content.{position}"
        only, never = _ONLY[message.role], _NEVER[message.role]
        if (only and not isinstance(block, only)) or isinstance(block, never):
            raise InvalidRequest(f"`{block_type(block)}` blocks are not allowed in {message.role} messages", path=where)
        if isinstance(block, ThinkingBlock | RedactedThinkingBlock) and block.cache_control is not None:
            raise InvalidRequest("Extra inputs are not permitted", path=f"{where}.{block_type(block)}.cache_control")
        if isinstance(block, TextBlock):
            _check_text(block.text, "messages", f"{where}.text")
        elif isinstance(block, SearchResultBlock):
            _check_found(block, where)
        elif isinstance(block, ToolResultBlock):
            _check_result(block, tools, where)


def _check_result(block: ToolResultBlock, tools: frozenset[str], path: str) -> None:
    parts = block.content if block.content is not None and not isinstance(block.content, str) else ()
    for position, part in enumerate(parts):
        if isinstance(part, SearchResultBlock):
            _check_found(part, f"{path}.content.{position}")
        if isinstance(part, ToolReferenceBlock) and part.tool_name not in tools:
            raise InvalidRequest(
                f"Tool reference '{part.tool_name}' not found in available tools", path=f"{path}.content.{position}"
            )
    if len({isinstance(part, SearchResultBlock) for part in parts}) > 1:
        raise InvalidRequest("if one block is a `search_result`, all must be", path=f"{path}.content")


def _check_found(block: SearchResultBlock, path: str) -> None:
    for position, text in enumerate(block.content):
        _check_text(text.text, "messages", f"{path}.content.{position}.text")


def _check_text(text: str, field: str, path: str) -> None:
    if not text:
        raise InvalidRequest(f"{field}: text content blocks must be non-empty", path=path)
    if text.isspace():
        raise InvalidRequest(f"{field}: text content blocks must contain non-whitespace text", path=path)


def _check_order(messages: tuple[InputMessage, ...]) -> None:
    """Where a `system` message may stand: after a user turn, before an assistant turn or last (contract 3.2)."""
    if messages[0].role == "assistant":
        raise InvalidRequest('first message must use the "user" role', path="messages")
    for number, message in enumerate(messages):
        if message.role != "system":
            continue
        after = messages[number + 1].role if number + 1 < len(messages) else None
        if number == 0 or after == "user" or _waits_for_user(messages[number - 1]):
            raise InvalidRequest(
                "a system message must follow a user turn and be last or be followed by an assistant turn",
                path=f"messages.{number}.role",
            )


def _waits_for_user(message: InputMessage) -> bool:
    """An assistant turn is over; one that ends in a server tool's result goes on."""
    blocks = _blocks(message)
    return message.role == "assistant" and not (blocks and isinstance(blocks[-1], ServerResultBlock))


def _blocks(message: InputMessage) -> tuple[ContentBlock, ...]:
    return () if isinstance(message.content, str) else message.content


def _check_calls(messages: tuple[InputMessage, ...]) -> None:
    """Every call is answered at once, in the very next user turn, before anything else in it (contract 5.2)."""
    open_calls: dict[str, int] = {}
    other_seen = False
    for number, message in enumerate(messages):
        if message.role == "assistant":
            if not open_calls or messages[number - 1].role != "assistant":
                _require_answered(open_calls)
                other_seen = False
            for position, block in enumerate(_blocks(message)):
                if isinstance(block, ToolUseBlock):
                    if block.id in open_calls:
                        raise InvalidRequest(
                            "`tool_use` ids must be unique", path=f"messages.{number}.content.{position}"
                        )
                    open_calls[block.id] = number
            continue
        if message.role == "system":
            _require_answered(open_calls)
            continue
        if isinstance(message.content, str):
            _require_answered(open_calls)
        other_seen = _check_results(message, number, open_calls, other_seen)
    _require_answered(open_calls)


def _check_results(message: InputMessage, number: int, open_calls: dict[str, int], other_seen: bool) -> bool:
    for position, block in enumerate(_blocks(message)):
        path = f"messages.{number}.content.{position}"
        if not isinstance(block, ToolResultBlock):
            other_seen = True
            continue
        if block.tool_use_id not in open_calls:
            raise InvalidRequest(
                f"unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each `tool_result` "
                "block must have a corresponding `tool_use` block in the previous message.",
                path=path,
            )
        if other_seen:
            raise InvalidRequest("`tool_result` blocks must come before any other block", path=path)
        del open_calls[block.tool_use_id]
    return other_seen


def _require_answered(open_calls: dict[str, int]) -> None:
    if open_calls:
        number = next(iter(open_calls.values()))
        raise InvalidRequest(
            "`tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(open_calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
            "message.",
            path=f"messages.{number}",
        )


def _formatted(request: Conversation) -> bool:
    """Whether the answer must fit a schema."""
    asked = request.output_config is not None and request.output_config.format is not None
    return asked or request.output_format is not None


def _check_format(messages: tuple[InputMessage, ...]) -> None:
    """What a format goes with neither: an answer that was begun, and citations (contract 6)."""
    if _waits_for_user(messages[-1]):
        raise InvalidRequest("assistant message prefill is not supported with structured outputs")
    for number, message in enumerate(messages):
        for position, block in enumerate(_blocks(message)):
            path = f"messages.{number}.content.{position}"
            _check_uncited(block, path)
            if isinstance(block, ToolResultBlock) and isinstance(block.content, tuple):
                for place, part in enumerate(block.content):
                    _check_uncited(part, f"{path}.content.{place}")


def _check_uncited(block: Block, path: str) -> None:
    if isinstance(block, DocumentBlock | SearchResultBlock) and block.citations is not None and block.citations.enabled:
        raise InvalidRequest("citations are not supported with structured outputs", path=f"{path}.citations.enabled")


def _check_prefill(last: InputMessage) -> None:
    if last.role != "assistant":
        return
    text = last.content if isinstance(last.content, str) else ""
    blocks = _blocks(last)
    if blocks and isinstance(blocks[-1], TextBlock):
        text = blocks[-1].text
    if text != text.rstrip():
        raise InvalidRequest("final assistant content cannot end with trailing whitespace", path="messages")
