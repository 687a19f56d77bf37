"""The API's own rules about a conversation, whatever model answers (contract messages-and-inference 2.7, 3, 5.2).

Model-dependent rules (prefill, sampling by generation, windows by id) are the profile's and not here.
"""

from __future__ import annotations

from antiphon.core.errors import InvalidRequest
from antiphon.wire.blocks import (
    Block,
    ContentBlock,
    FallbackBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolAdditionBlock,
    ToolRemovalBlock,
    ToolResultBlock,
    ToolUseBlock,
    block_type,
)
from antiphon.wire.request import Conversation, InputMessage, MessagesRequest, Role
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
    "assistant": (ToolResultBlock, ToolAdditionBlock, ToolRemovalBlock),
    "user": (
        ToolUseBlock,
        ThinkingBlock,
        RedactedThinkingBlock,
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
    if isinstance(request, MessagesRequest):
        _check_options(request)
    _check_tools(request)
    if request.system is not None and not isinstance(request.system, str):
        for index, block in enumerate(request.system):
            _check_text(block.text, "system", f"system.{index}.text")
    for number, message in enumerate(request.messages):
        _check_message(message, number)
    _check_order(request.messages)
    _check_calls(request.messages)
    _check_prefill(request.messages[-1], len(request.messages) - 1)


def _check_options(request: MessagesRequest) -> None:
    for index, sequence in enumerate(request.stop_sequences):
        if not sequence.strip():
            raise InvalidRequest("each stop sequence must contain non-whitespace", path=f"stop_sequences.{index}")
    if request.max_tokens == 0:
        # Cache pre-warming; what it may not be combined with: contract 7.8.
        if request.stream:
            raise InvalidRequest("max_tokens must be at least 1 when streaming", path="max_tokens")
        if isinstance(request.tool_choice, AnyChoice | NamedChoice):
            raise InvalidRequest("max_tokens must be at least 1 when tool use is forced", path="max_tokens")


def _check_tools(request: Conversation) -> None:
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


def _check_message(message: InputMessage, number: int) -> None:
    path = f"messages.{number}"
    if isinstance(message.content, str):
        _check_text(message.content, "messages", f"{path}.content")
        return
    if not message.content and message.role != "assistant":
        raise InvalidRequest(f"{message.role} messages must have non-empty content", path=path)
    for position, block in enumerate(message.content):
        where = f"{path}.content.{position}"
        only, never = _ONLY[message.role], _NEVER[message.role]
        if (only and not isinstance(block, only)) or isinstance(block, never):
            raise InvalidRequest(f"`{block_type(block)}` blocks are not allowed in {message.role} messages", path=where)
        if isinstance(block, TextBlock):
            _check_text(block.text, "messages", f"{where}.text")


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
        before = messages[number - 1].role if number else None
        after = messages[number + 1].role if number + 1 < len(messages) else None
        if before is None or before == "assistant" or after == "user":
            raise InvalidRequest(
                "a system message must follow a user turn and be last or be followed by an assistant turn",
                path=f"messages.{number}.role",
            )


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
            for block in _blocks(message):
                if isinstance(block, ToolUseBlock):
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


def _check_prefill(last: InputMessage, number: int) -> None:
    if last.role != "assistant":
        return
    text = last.content if isinstance(last.content, str) else ""
    blocks = _blocks(last)
    if blocks and isinstance(blocks[-1], TextBlock):
        text = blocks[-1].text
    if text != text.rstrip():
        raise InvalidRequest("final assistant content cannot end with trailing whitespace", path=f"messages.{number}")
