"""Names the fields of a body that nothing here knows: on top, in messages, in blocks and in tools.

Unknown fields are tolerated, because clients run ahead of servers; they are named in the log and in
`antiphon-ignored`, so that a field without effect can be seen. What is known is what the contract lists
(client-surface 2.1, 2.3, 2.4), also where a later part is to give it an effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

#: Names after which no more are gathered: a header has no room for them.
_MOST = 20
_TOP = frozenset(
    [
        "model",
        "max_tokens",
        "messages",
        "system",
        "stream",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "metadata",
        "service_tier",
        "speed",
        "inference_geo",
        "cache_control",
        "container",
        "diagnostics",
        "context_management",
        "compaction",
        "mcp_servers",
        "fallbacks",
        "fallback_credit_token",
        "billing_policy",
        "thread",
        "betas",
        "user_profile_id",
        "anthropic_version",
        "anthropic_beta",
    ]
)
_MESSAGE = (
    frozenset(["role", "content", "clear_at", "output_config"])
    | frozenset(
        # A reply may be passed back whole (client-surface 2.3).
        [
            "id",
            "type",
            "model",
            "stop_reason",
            "stop_sequence",
            "stop_details",
            "container",
            "usage",
            "diagnostics",
            "context_management",
        ]
    )
    | {"input_transformations"}
)
_COMMON = frozenset(["type", "cache_control"])
_RESULT = _COMMON | frozenset(["tool_use_id", "content", "caller"])
_BLOCKS: Mapping[str, frozenset[str]] = {
    "text": _COMMON | {"text", "citations", "parsed_output"},
    "image": _COMMON | {"source", "transformations"},
    "document": _COMMON | {"source", "title", "context", "citations"},
    "search_result": _COMMON | {"source", "title", "content", "citations"},
    "thinking": _COMMON | {"thinking", "signature"},
    "redacted_thinking": _COMMON | {"data"},
    "tool_use": _COMMON | {"id", "name", "input", "caller", "toolset_name"},
    "tool_result": _COMMON | {"tool_use_id", "content", "is_error", "toolset_name"},
    "server_tool_use": _COMMON | {"id", "name", "input", "caller"},
    "web_search_tool_result": _RESULT,
    "web_fetch_tool_result": _RESULT,
    "code_execution_tool_result": _RESULT,
    "bash_code_execution_tool_result": _RESULT,
    "text_editor_code_execution_tool_result": _RESULT,
    "tool_search_tool_result": _RESULT,
    "container_upload": _COMMON | {"file_id"},
    "mcp_tool_use": _COMMON | {"id", "name", "server_name", "input"},
    "mcp_tool_result": _COMMON | {"tool_use_id", "content", "is_error"},
    "mcp_tool_listing": _COMMON | {"mcp_server_name", "tools"},
    "advisor_tool_result": _RESULT,
    "compaction": _COMMON | {"content", "encrypted_content", "signature", "tool_changes"},
    "fallback": _COMMON | {"from", "to", "trigger"},
    "tool_addition": _COMMON | {"tool"},
    "tool_removal": _COMMON | {"tool"},
    "tool_reference": _COMMON | {"tool_name"},
    "browser_state": _COMMON | {"tabs", "state_changes"},
}
_TOOL = frozenset(
    [
        "type",
        "name",
        "description",
        "input_schema",
        "cache_control",
        "defer_loading",
        "strict",
        "allowed_callers",
        "input_examples",
        "eager_input_streaming",
        "max_characters",
        "configs",
        "max_uses",
        "allowed_domains",
        "blocked_domains",
        "user_location",
        "response_inclusion",
        "citations",
        "max_content_tokens",
        "url_sources",
        "use_cache",
        "display_width_px",
        "display_height_px",
        "display_number",
        "enable_zoom",
        "model",
        "caching",
        "max_tokens",
        "mcp_server_name",
        "default_config",
        "tools",
    ]
)


def unknown_fields(body: bytes) -> tuple[str, ...]:
    """Dotted paths of unknown fields, at most 20, in the body's order. The body is one that was parsed already."""
    request = msgspec.json.decode(body)
    found: list[str] = []
    for path in _walk(request):
        found.append(path)
        if len(found) == _MOST:
            break
    return tuple(found)


def _walk(request: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in request if name not in _TOP)
    for index, tool in enumerate(request.get("tools") or ()):
        yield from (f"tools.{index}.{name}" for name in tool if name not in _TOOL)
    system = request.get("system")
    if isinstance(system, list):
        yield from _blocks(system, "system")
    for number, message in enumerate(request["messages"]):
        path = f"messages.{number}"
        yield from (f"{path}.{name}" for name in message if name not in _MESSAGE)
        if isinstance(message["content"], list):
            yield from _blocks(message["content"], f"{path}.content")


def _blocks(blocks: list[dict[str, Any]], path: str) -> Iterator[str]:
    for position, block in enumerate(blocks):
        known = _BLOCKS.get(block["type"], frozenset())
        if not known.issuperset(block):
            yield from (f"{path}.{position}.{name}" for name in block if name not in known)
        if block["type"] == "tool_result" and isinstance(block.get("content"), list):
            yield from _blocks(block["content"], f"{path}.{position}.content")
