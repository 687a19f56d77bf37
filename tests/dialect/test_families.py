"""How each family writes tools, calls and results."""

from __future__ import annotations

import json
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.errors import InvalidRequest
from antiphon.dialect import dialect_named
from antiphon.dialect.base import Turn
from antiphon.dialect.hermes import Hermes
from antiphon.dialect.json_text import json_text
from antiphon.wire.parse import parse_messages

TOOL: dict[str, Any] = {
    "name": "weather",
    "description": "Tells the wéather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLS: list[dict[str, Any]] = [
    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Zürich", "days": [1, 2]}},
    {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
]
RESULTS: list[dict[str, Any]] = [
    {"type": "tool_result", "tool_use_id": "t1", "content": "12 °C"},
    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "no"}], "is_error": True},
    {"type": "tool_result", "tool_use_id": "t3", "content": None},
    {"type": "text", "text": "And now?"},
]


def turns(dialect: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> list[Turn]:
    body = {"model": "m", "max_tokens": 1, "messages": messages, "tools": tools or []}
    return dialect_named(dialect).turns(parse_messages(json.dumps(body).encode()).request)


def exchange(dialect: str) -> list[str]:
    said: list[dict[str, Any]] = [{"type": "text", "text": "Let me see."}, *CALLS]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": RESULTS},
    ]
    return [turn.text for turn in turns(dialect, messages)]


def test_hermes_writes_calls_and_results_as_qwen_was_trained_on() -> None:
    _, call, result = exchange("hermes")
    assert call == (
        "Let me see.\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
    )
    assert result == (
        "<tool_response>\n12 °C\n</tool_response>\n"
        "<tool_response>\nError: no\n</tool_response>\n"
        "<tool_response>\n\n</tool_response>\n"
        "And now?"
    )


def test_hermes_trusts_only_its_own_marks() -> None:
    made = turns("hermes", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": CALLS}], [TOOL])
    for turn in made:
        for piece in turn.pieces:
            if "weather" in piece.text or piece.text == "hi":
                assert not piece.trusted and piece.path


def test_hermes_describes_tools_in_qwens_words() -> None:
    described = turns("hermes", [{"role": "user", "content": "hi"}], [TOOL, TOOL | {"name": "b", "description": None}])
    definition = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the wéather.",
            "parameters": TOOL["input_schema"],
        },
    }
    text = described[0].text
    assert text.startswith("# Tools\n\nYou may call one or more functions")
    assert f"\n<tools>\n{json.dumps(definition, ensure_ascii=False)}\n{{" in text
    assert "\n</tools>\n\nFor each function call" in text
    assert '"name": "b", "parameters"' in text


def test_plain_reads_like_notes() -> None:
    _, call, result = exchange("plain")
    assert call == (
        'Let me see.\nTool call: {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}}\n'
        'Tool call: {"name": "weather", "arguments": {}}'
    )
    assert result == "Tool result: 12 °C\nTool error: no\nTool result: \nAnd now?"
    described = turns("plain", [{"role": "user", "content": "hi"}], [TOOL])[0].text
    assert '{"name": "weather", "description": "Tells the wéather.", "parameters"' in described


@pytest.mark.parametrize("dialect", ["hermes", "plain"])
@pytest.mark.parametrize(
    ("kind", "name", "argument"),
    [
        ("bash_20250124", "bash", "restart"),
        ("text_editor_20250728", "str_replace_based_edit_tool", "insert_text"),
        ("text_editor_20250124", "str_replace_editor", "undo_edit"),
        ("memory_20250818", "memory", "new_path"),
    ],
)
def test_tools_the_api_defines_are_described(dialect: str, kind: str, name: str, argument: str) -> None:
    text = turns(dialect, [{"role": "user", "content": "hi"}], [{"type": kind, "name": name}])[0].text
    assert f'"name": "{name}"' in text and f'"{argument}"' in text


def test_tools_that_the_server_runs_are_refused_by_path() -> None:
    with pytest.raises(InvalidRequest, match=r"tools\.1\.type: the tool `web_search_20250305`"):
        turns(
            "hermes", [{"role": "user", "content": "hi"}], [TOOL, {"type": "web_search_20250305", "name": "web_search"}]
        )
    with pytest.raises(InvalidRequest, match=r"tools\.0\.type: the tool `mcp_toolset`"):
        turns("plain", [{"role": "user", "content": "hi"}], [{"type": "mcp_toolset", "mcp_server_name": "s"}])


@pytest.mark.behaviour("client-surface-2.3-tool-reference-named")
def test_a_reference_to_a_tool_is_named() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "look"}]}
    assert "The tool look can be used." in turns("hermes", [{"role": "user", "content": [result]}])[0].text


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_json_is_written_as_templates_write_it(value: Any) -> None:
    assert json_text(value) == json.dumps(value, ensure_ascii=False)


def test_json_too_deep_to_write_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested"):
        json_text(deep)


@pytest.mark.real
def test_calls_are_what_qwens_own_template_writes(qwen_file: Any) -> None:
    from antiphon.engine.vocabulary import read_vocabulary

    source = read_vocabulary(qwen_file).chat_template or ""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    functions = [{"name": call["name"], "arguments": call["input"]} for call in CALLS]
    theirs = environment.from_string(source).render(
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": functions},
            {"role": "tool", "content": "12 °C"},
            {"role": "tool", "content": "13 °C"},
        ]
    )
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "12 °C"},
        {"type": "tool_result", "tool_use_id": "t2", "content": "13 °C"},
    ]
    said: list[dict[str, Any]] = [{"type": "text", "text": "Let me see."}, *CALLS]
    ours = turns(
        "hermes",
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": said},
            {"role": "user", "content": results},
        ],
    )
    for turn in ours:
        # But for the sentence that is ours.
        text = turn.text.removesuffix(Hermes.after_results)
        assert f"<|im_start|>{turn.role}\n{text}<|im_end|>\n" in theirs
    assert ours[-1].text.endswith(Hermes.after_results)
