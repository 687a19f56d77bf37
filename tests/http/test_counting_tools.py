"""A count is the input of the same request, whatever of tools, results, toolsets and formats it holds (contract
messages-and-inference 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import Usage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from running import Running, scripted_settings

MODEL: Any = "claude-opus-5-5"
SCHEMA: Any = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
CUSTOM: Any = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
TOOLS: list[Any] = [
    CUSTOM,
    CUSTOM | {"name": "keep", "strict": True},
    CUSTOM | {"name": "raw", "eager_input_streaming": True, "input_examples": [{"a": "x"}]},
    CUSTOM | {"name": "later", "defer_loading": True},
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    {"type": "memory_20250818", "name": "memory", "cache_control": {"type": "ephemeral"}},
    {"type": "browser_toolset_20260801"},
    {"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}},
]
CHOICES: list[Any] = [
    {"type": "auto"}, {"type": "any"}, {"type": "none"}, {"type": "tool", "name": "look"},
    {"type": "auto", "disable_parallel_tool_use": True},
]  # fmt: skip
FORMAT: Any = {"type": "json_schema", "schema": SCHEMA}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
CONTENTS = st.one_of(
    st.none(),
    TEXTS,
    st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=2),
    st.builds(
        lambda text: [
            {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": text}]}
        ],
        TEXTS,
    ),
    st.just([{"type": "tool_reference", "tool_name": "look"}]),
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    others = draw(st.lists(st.sampled_from(TOOLS[1:]), unique_by=str, max_size=4))
    asked: dict[str, Any] = {"tools": [CUSTOM, *others], "messages": [{"role": "user", "content": draw(TEXTS)}]}
    for turn in range(draw(st.integers(0, 2))):
        calls = [
            {"type": "tool_use", "id": f"t{turn}_{place}", "name": "look", "input": {"a": draw(TEXTS)}}
            for place in range(draw(st.integers(1, 3)))
        ]
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": draw(CONTENTS),
                "is_error": draw(st.booleans()),
            }
            for call in calls
        ]
        said = [{"type": "text", "text": draw(TEXTS)}] if draw(st.booleans()) else []
        asked["messages"] += [{"role": "assistant", "content": [*said, *calls]}, {"role": "user", "content": results}]
    if draw(st.booleans()):
        asked["tool_choice"] = draw(st.sampled_from(CHOICES))
    if draw(st.booleans()):
        asked["output_config"] = {"format": FORMAT}
    if draw(st.booleans()):
        asked["system"] = draw(TEXTS)
    return asked


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("counting-tools"), "rules: [{text: Hm.}]"))
    yield running
    running.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests())
def test_a_count_is_the_bill(server: Running, asked: dict[str, Any]) -> None:
    client = server.client()
    counted = client.messages.count_tokens(model=MODEL, **asked).input_tokens
    assert whole(client.messages.create(model=MODEL, max_tokens=5, **asked).usage) == counted
    with client.messages.stream(model=MODEL, max_tokens=5, **asked) as stream:
        assert whole(stream.get_final_message().usage) == counted


def whole(usage: Usage) -> int:
    """The prompt's tokens, those of the cache included."""
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return usage.input_tokens + cached


@pytest.mark.behaviour("messages-and-inference-8-forced-tool-choice")
def test_a_forced_choice_is_counted(server: Running) -> None:
    client = server.client()
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "tools": [CUSTOM]}
    for choice in CHOICES:
        counted = client.messages.count_tokens(**asked, tool_choice=choice)
        usage = client.messages.create(**asked, tool_choice=choice, max_tokens=50).usage
        assert counted.input_tokens == usage.input_tokens > 0


@pytest.mark.behaviour("messages-and-inference-8-output-format")
def test_a_format_is_counted_and_no_grammar_made_for_it(server: Running) -> None:
    """A schema is new to the server until it is asked for an answer: the kept grammars tell."""
    schema = SCHEMA | {"properties": SCHEMA["properties"] | {"never_seen_before": {"type": "null"}}}
    asked: Any = {
        "model": MODEL, "messages": [{"role": "user", "content": "Hello"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }  # fmt: skip
    client = server.client()
    kept = made(server)
    counted = client.messages.count_tokens(**asked)
    assert made(server) == kept
    usage = client.messages.create(**asked, max_tokens=50).usage
    assert made(server) == kept + 1
    assert counted.input_tokens == usage.input_tokens


def made(server: Running) -> int:
    """How many grammars the server keeps."""
    (model,) = server.app.parts.models.values()
    return len(model.planner._constraints._lowered)
