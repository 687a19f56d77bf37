"""Every documented block, tool and option of a request with all of its fields (contract client-surface 2.1 to 2.5)."""

from __future__ import annotations

from typing import Any

CACHE: Any = {"type": "ephemeral", "ttl": "1h"}
DIRECT: Any = {"type": "direct"}
BY_CODE: Any = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}

_PLACE: Any = {"cited_text": "x", "document_index": 0, "document_title": None, "file_id": None}
CITATIONS: Any = [
    {"type": "char_location", **_PLACE, "start_char_index": 0, "end_char_index": 1},
    {"type": "page_location", **_PLACE, "start_page_number": 1, "end_page_number": 2},
    {"type": "content_block_location", **_PLACE, "start_block_index": 0, "end_block_index": 1},
    {"type": "web_search_result_location", "cited_text": "x", "encrypted_index": "e", "title": None, "url": "u"},
    {
        "type": "search_result_location",
        "cited_text": "x",
        "search_result_index": 0,
        "source": "s",
        "title": None,
        "start_block_index": 0,
        "end_block_index": 1,
    },
]
IMAGE: Any = {
    "type": "image",
    "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"},
    "transformations": {"oversized_image": "error"},
    "cache_control": CACHE,
}
TEXT: Any = {"type": "text", "text": "x", "citations": CITATIONS, "cache_control": CACHE}
DOCUMENT: Any = {
    "type": "document",
    "source": {"type": "base64", "data": "aGk=", "media_type": "application/pdf"},
    "title": "t",
    "context": "c",
    "citations": {"enabled": True},
    "cache_control": CACHE,
}
SEARCH_RESULT: Any = {
    "type": "search_result",
    "source": "s",
    "title": "t",
    "content": [TEXT],
    "citations": {"enabled": True},
    "cache_control": CACHE,
}


def _result(kind: str, content: Any, **more: Any) -> Any:
    return {"type": kind, "tool_use_id": "srvtoolu_1", "content": content, "cache_control": CACHE, **more}


#: Blocks that a user's message may hold.
USER_BLOCKS: list[Any] = [
    TEXT,
    IMAGE,
    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
    {"type": "image", "source": {"type": "file", "file_id": "file_1"}, "transformations": None, "cache_control": None},
    DOCUMENT,
    {"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}, "title": None},
    {"type": "document", "source": {"type": "content", "content": "x"}, "context": None, "citations": None},
    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}, IMAGE]}},
    {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
    {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    SEARCH_RESULT,
    {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [
            {"type": "text", "text": "x"},
            IMAGE,
            DOCUMENT,
            SEARCH_RESULT,
            {"type": "tool_reference", "tool_name": "n", "cache_control": CACHE},
            {
                "type": "browser_state",
                "tabs": [{"tab_id": 1, "title": "t", "url": "u", "active": True}],
                "state_changes": [{"type": "tab_opened", "tab_id": 2}],
                "cache_control": CACHE,
            },
        ],
        "is_error": True,
        "toolset_name": "browser",
        "cache_control": CACHE,
    },
    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x", "is_error": None, "toolset_name": None},
    {"type": "tool_result", "tool_use_id": "toolu_1", "content": None},
    {"type": "container_upload", "file_id": "file_1", "cache_control": CACHE},
]

#: Blocks of an answer, as they are passed back.
ASSISTANT_BLOCKS: list[Any] = [
    {"type": "text", "text": "x", "citations": None},
    {"type": "thinking", "thinking": "x", "signature": "s"},
    {"type": "redacted_thinking", "data": "d"},
    {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "n",
        "input": {"own": [1]},
        "caller": DIRECT,
        "toolset_name": "browser",
        "cache_control": CACHE,
    },
    {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {}, "caller": None, "toolset_name": None},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}, "caller": BY_CODE},
    {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "code_execution",
        "input": {},
        "caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_2"},
        "cache_control": CACHE,
    },
    _result(
        "web_search_tool_result",
        [{"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e", "page_age": None}],
        caller=DIRECT,
    ),
    _result("web_search_tool_result", {"type": "web_search_tool_result_error", "error_code": "unavailable"}),
    _result(
        "web_fetch_tool_result",
        {"type": "web_fetch_result", "url": "u", "content": DOCUMENT, "retrieved_at": "2026-01-01T00:00:00Z"},
        caller=None,
    ),
    _result("web_fetch_tool_result", {"type": "web_fetch_tool_result_error", "error_code": "url_too_long"}),
    _result(
        "code_execution_tool_result",
        {
            "type": "code_execution_result",
            "stdout": "o",
            "stderr": "",
            "return_code": 0,
            "content": [{"type": "code_execution_output", "file_id": "file_1"}],
        },
    ),
    _result(
        "code_execution_tool_result",
        {
            "type": "encrypted_code_execution_result",
            "encrypted_stdout": "o",
            "stderr": "",
            "return_code": 0,
            "content": [],
        },
    ),
    _result("code_execution_tool_result", {"type": "code_execution_tool_result_error", "error_code": "unavailable"}),
    _result(
        "bash_code_execution_tool_result",
        {
            "type": "bash_code_execution_result",
            "stdout": "o",
            "stderr": "",
            "return_code": 0,
            "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
        },
    ),
    _result(
        "bash_code_execution_tool_result",
        {"type": "bash_code_execution_tool_result_error", "error_code": "output_file_too_large"},
    ),
    _result(
        "text_editor_code_execution_tool_result",
        {
            "type": "text_editor_code_execution_view_result",
            "content": "x",
            "file_type": "text",
            "num_lines": 1,
            "start_line": 1,
            "total_lines": None,
        },
    ),
    _result(
        "text_editor_code_execution_tool_result",
        {"type": "text_editor_code_execution_create_result", "is_file_update": False},
    ),
    _result(
        "text_editor_code_execution_tool_result",
        {
            "type": "text_editor_code_execution_str_replace_result",
            "lines": ["x"],
            "old_start": 1,
            "old_lines": 1,
            "new_start": 1,
            "new_lines": None,
        },
    ),
    _result(
        "text_editor_code_execution_tool_result",
        {
            "type": "text_editor_code_execution_tool_result_error",
            "error_code": "file_not_found",
            "error_message": None,
        },
    ),
    _result(
        "tool_search_tool_result",
        {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "n"}],
        },
    ),
    _result(
        "tool_search_tool_result",
        {"type": "tool_search_tool_result_error", "error_code": "unavailable", "error_message": "m"},
    ),
    {"type": "container_upload", "file_id": "file_1"},
    {
        "type": "mcp_tool_use",
        "id": "mcptoolu_1",
        "name": "n",
        "server_name": "s",
        "input": {},
        "cache_control": None,
    },
    _result("mcp_tool_result", [{"type": "text", "text": "x"}], is_error=False),
    _result("mcp_tool_result", "x", is_error=False),
    {
        "type": "mcp_tool_listing",
        "mcp_server_name": "s",
        "tools": [{"name": "n", "input_schema": {"own": 1}, "description": None}],
    },
    _result("advisor_tool_result", {"type": "advisor_result", "text": "x", "stop_reason": "end_turn"}),
    _result("advisor_tool_result", {"type": "advisor_redacted_result", "encrypted_content": "e", "stop_reason": None}),
    _result("advisor_tool_result", {"type": "advisor_tool_result_error", "error_code": "overloaded"}),
    {
        "type": "compaction",
        "content": "x",
        "encrypted_content": "e",
        "signature": "s",
        "tool_changes": [{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "n"}}],
        "cache_control": CACHE,
    },
    {"type": "compaction", "content": None, "encrypted_content": None, "signature": None, "tool_changes": None},
    {
        "type": "fallback",
        "from": {"model": "claude-opus-5-5"},
        "to": {"model": "claude-opus-5"},
        "trigger": {"type": "refusal", "category": None},
    },
]

#: Blocks of a system message amid the conversation.
SYSTEM_BLOCKS: list[Any] = [
    {"type": "text", "text": "x"},
    {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "n"}, "cache_control": CACHE},
    {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": "n", "input_schema": {}}}},
    {
        "type": "tool_removal",
        "tool": {"type": "mcp_tool_reference", "server_name": "s", "name": "n"},
        "cache_control": CACHE,
    },
    {"type": "tool_removal", "tool": {"type": "mcp_toolset_reference", "server_name": "s"}},
]

_COMMON: Any = {"cache_control": CACHE, "defer_loading": False, "strict": False, "allowed_callers": ["direct"]}
_EXAMPLES: Any = {**_COMMON, "input_examples": [{"own": 1}]}
_SCREEN: Any = {**_EXAMPLES, "name": "computer", "display_width_px": 1, "display_height_px": 1, "display_number": None}
_WEB: Any = {**_COMMON, "max_uses": 1, "allowed_domains": ["a.example"], "blocked_domains": None}
_SEARCH: Any = {
    **_WEB,
    "name": "web_search",
    "user_location": {"type": "approximate", "city": "c", "region": None, "country": "DE", "timezone": None},
}
_FETCH: Any = {
    **_WEB,
    "name": "web_fetch",
    "citations": {"enabled": True},
    "max_content_tokens": 1,
    "url_sources": {
        "user_input": {"type": "all"},
        "client_tool_results": {"type": "only", "tools": [{"type": "tool_reference", "name": "n"}]},
        "server_tool_results": {"type": "except", "tools": [{"type": "tool_reference", "name": "n"}]},
    },
}
_CUSTOM: Any = {
    **_EXAMPLES,
    "name": "own_tool",
    "input_schema": {"type": "object", "own": 1},
    "description": "d",
    "eager_input_streaming": None,
}
_MEMBERS: Any = {"cache_control": CACHE, "configs": {"screenshot": {"enabled": False, "defer_loading": None}}}

TOOLS: list[Any] = [
    _CUSTOM,
    _CUSTOM | {"type": None},
    _CUSTOM | {"type": "custom"},
    {"type": "bash_20241022", "name": "bash", **_EXAMPLES},
    {"type": "bash_20250124", "name": "bash", **_EXAMPLES},
    {"type": "text_editor_20241022", "name": "str_replace_editor", **_EXAMPLES},
    {"type": "text_editor_20250124", "name": "str_replace_editor", **_EXAMPLES},
    {"type": "text_editor_20250429", "name": "str_replace_based_edit_tool", **_EXAMPLES},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9, **_EXAMPLES},
    {"type": "memory_20250818", "name": "memory", **_EXAMPLES},
    {"type": "computer_20241022", **_SCREEN},
    {"type": "computer_20250124", **_SCREEN},
    {"type": "computer_20251124", "enable_zoom": True, **_SCREEN},
    {"type": "browser_toolset_20260801", **_MEMBERS},
    {"type": "computer_toolset_20260801", **_MEMBERS},
    *(
        {"type": f"code_execution_{date}", "name": "code_execution", **_COMMON}
        for date in ("20250522", "20250825", "20260120", "20260521")
    ),
    {"type": "web_search_20250305", **_SEARCH},
    {"type": "web_search_20260209", **_SEARCH},
    {"type": "web_search_20260318", "response_inclusion": "full", **_SEARCH},
    {"type": "web_fetch_20250910", **_FETCH},
    {"type": "web_fetch_20260209", **_FETCH},
    {"type": "web_fetch_20260309", "use_cache": True, **_FETCH},
    {"type": "web_fetch_20260318", "use_cache": None, "response_inclusion": "excluded", **_FETCH},
    *(
        {"type": f"{name}{date}", "name": name, **_COMMON}
        for name in ("tool_search_tool_bm25", "tool_search_tool_regex")
        for date in ("", "_20251119")
    ),
    {
        "type": "advisor_20260301",
        "name": "advisor",
        "model": "claude-opus-5-5",
        "caching": None,
        "max_tokens": 5,
        "max_uses": 1,
        **_COMMON,
    },
    {
        "type": "mcp_toolset",
        "mcp_server_name": "s",
        "default_config": {"enabled": True, "defer_loading": False},
        "tools": [{"own": 1}],
        **_MEMBERS,
    },
]

#: Options, each with values that together have all of its fields. Those of count_tokens come first.
COUNTED_OPTIONS: dict[str, list[Any]] = {
    "system": ["x", [TEXT], None],
    "tool_choice": [
        {"type": "auto", "disable_parallel_tool_use": True},
        {"type": "any", "disable_parallel_tool_use": None},
        {"type": "tool", "name": "own_tool", "disable_parallel_tool_use": False},
        {"type": "none"},
    ],
    "thinking": [
        {
            "type": "enabled",
            "budget_tokens": 1024,
            "display": "summarized",
            "block_binding": {"prefix_mismatch_behavior": "drop_block"},
        },
        {"type": "adaptive", "display": "omitted", "block_binding": None},
        {"type": "adaptive", "display": "updates"},
        {"type": "between_tools"},
        {"type": "disabled"},
    ],
    "output_config": [
        {
            "effort": effort,
            "format": {"type": "json_schema", "schema": {"own": 1}},
            "task_budget": {"type": "tokens", "total": 9, "remaining": None},
        }
        for effort in ("low", "medium", "high", "xhigh", "max", None)
    ],
    "output_format": [{"type": "json_schema", "schema": {}}],
    "cache_control": [CACHE, {"type": "ephemeral"}, None],
    "speed": ["standard", "fast", None],
    "context_management": [
        {
            "edits": [
                {"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 1}},
                {"type": "clear_thinking_20251015", "keep": {"type": "all"}},
                {"type": "clear_thinking_20251015", "keep": "all"},
                {
                    "type": "clear_tool_uses_20250919",
                    "trigger": {"type": "input_tokens", "value": 100_000},
                    "keep": {"type": "tool_uses", "value": 3},
                    "clear_at_least": {"type": "input_tokens", "value": 5},
                    "clear_tool_inputs": ["n"],
                    "exclude_tools": ["n"],
                },
                {
                    "type": "compact_20260112",
                    "trigger": {"type": "input_tokens", "value": 150_000},
                    "pause_after_compaction": False,
                    "instructions": "x",
                },
            ]
        },
        None,
    ],
    "compaction": [{"type": "summarize", "instructions": "x"}, None],
    "mcp_servers": [
        [
            {
                "type": "url",
                "name": "s",
                "url": "https://a.example",
                "authorization_token": "t",
                "tool_configuration": {"enabled": True, "allowed_tools": ["n"]},
            }
        ]
    ],
    "billing_policy": [{"type": "billing_policy", "bill_to": "self"}, None],
    "thread": [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}, None],
}
ANSWER_OPTIONS: dict[str, list[Any]] = {
    "max_tokens": [0, 1],
    "stream": [True, False, None],
    "stop_sequences": [["x"], [], None],
    "temperature": [0, 0.5, 1],
    "top_p": [0.5],
    "top_k": [5],
    "metadata": [{"user_id": "u"}, {"user_id": None}],
    "service_tier": ["auto", "standard_only"],
    "inference_geo": ["us", "global", None],
    "container": [
        "c",
        {
            "id": None,
            "skills": [{"type": kind, "skill_id": "s", "version": "latest"} for kind in ("custom", "anthropic")],
        },
        None,
    ],
    "diagnostics": [{"previous_message_id": "msg_1"}, {"previous_message_id": None}, None],
    "fallbacks": [
        [
            {
                "model": "claude-opus-5",
                "max_tokens": 5,
                "thinking": {"type": "adaptive"},
                "output_config": {"effort": "low"},
                "speed": "fast",
            }
        ],
        "default",
    ],
    "fallback_credit_token": ["t", {"token": "t", "mode": "best_effort"}],
}
