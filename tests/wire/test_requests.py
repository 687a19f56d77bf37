"""Every documented block, tool and option is read with all of its fields, and comes out as it went in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from antiphon.core.errors import InvalidRequest
from antiphon.wire.parse import Parsed, parse_count_tokens, parse_messages
from antiphon.wire.request import CountTokensRequest, MessagesRequest
from antiphon.wire.tools import TOOL_TYPES

Parse = Callable[[bytes], Parsed[Any]]
MINIMAL: Any = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
COUNTED: Any = {name: value for name, value in MINIMAL.items() if name != "max_tokens"}
BLOCKS = [
    *(("user", block) for block in samples.USER_BLOCKS),
    *(("assistant", block) for block in samples.ASSISTANT_BLOCKS),
    *(("system", block) for block in samples.SYSTEM_BLOCKS),
]
#: A client's own JSON, which may hold anything.
OPAQUE = {
    "input",
    "input_schema",
    "schema",
    "input_examples",
    "definition",
    "trigger",
    "state_changes",
    "tool_changes",
    "url_sources",
    "tools",
    "configs",
}


def whole(part: dict[str, Any]) -> bytes:
    return msgspec.json.encode(part)


def given_back(sent: Any, read: Any) -> None:
    """All that was sent and is not null stands in what was read."""
    if isinstance(sent, dict):
        for name, value in sent.items():
            if value is not None:
                given_back(value, read[name])
    elif isinstance(sent, list):
        assert len(sent) == len(read)
        for one, other in zip(sent, read, strict=True):
            given_back(one, other)
    else:
        assert sent == read


def checked(parse: Parse, body: dict[str, Any]) -> None:
    parsed = parse(whole(body))
    assert parsed.ignored == ()
    assert parsed.raw == whole(body)
    given_back(body, msgspec.to_builtins(parsed.request))


@pytest.mark.behaviour(
    "client-surface-0-echo",
    "client-surface-2.3-message",
    "client-surface-2.3-cache-control-on-blocks",
    "client-surface-2.3-caller",
    "client-surface-2.3-complete",
    "client-surface-2.3-text",
    "client-surface-2.3-image",
    "client-surface-2.3-document",
    "client-surface-2.3-search-result",
    "client-surface-2.3-thinking",
    "client-surface-2.3-redacted-thinking",
    "client-surface-2.3-tool-use",
    "client-surface-2.3-tool-result",
    "client-surface-2.3-tool-result-null",
    "client-surface-2.3-server-tool-use",
    "client-surface-2.3-web-search-result",
    "client-surface-2.3-web-fetch-result",
    "client-surface-2.3-code-execution-result",
    "client-surface-2.3-bash-code-execution-result",
    "client-surface-2.3-text-editor-result",
    "client-surface-2.3-tool-search-result",
    "client-surface-2.3-container-upload",
    "client-surface-2.3-tool-reference",
    "client-surface-2.3-mcp-tool-use",
    "client-surface-2.3-mcp-tool-result",
    "client-surface-2.3-mcp-tool-listing",
    "client-surface-2.3-advisor",
    "client-surface-2.3-compaction",
    "client-surface-2.3-fallback",
    "client-surface-2.3-tool-changes",
    "client-surface-2.3-citations-read",
)
@pytest.mark.parametrize(("role", "block"), BLOCKS, ids=[f"{role}-{block['type']}" for role, block in BLOCKS])
def test_a_block_is_read_field_for_field(role: str, block: Any) -> None:
    checked(parse_messages, MINIMAL | {"messages": [{"role": role, "content": [block]}]})
    checked(parse_count_tokens, COUNTED | {"messages": [{"role": role, "content": [block]}]})


@pytest.mark.behaviour(
    "client-surface-2.1-tools",
    "client-surface-2.4-common",
    "client-surface-2.4-custom",
    "client-surface-2.4-bash",
    "client-surface-2.4-text-editor-20250124",
    "client-surface-2.4-text-editor-20250429",
    "client-surface-2.4-text-editor-20250728",
    "client-surface-2.4-memory",
    "client-surface-2.4-browser-toolset",
    "client-surface-2.4-computer-toolset",
    "client-surface-2.4-code-execution",
    "client-surface-2.4-web-search",
    "client-surface-2.4-web-fetch",
    "client-surface-2.4-tool-search",
    "client-surface-2.4-older-bash-and-editor",
    "client-surface-2.4-computer",
    "client-surface-2.4-advisor",
    "client-surface-2.4-mcp-toolset",
    "client-surface-2.4-complete",
    "client-surface-2.4-url-sources",
    "client-surface-7-memory-entry",
)
@pytest.mark.parametrize("tool", samples.TOOLS, ids=[str(tool.get("type", "untyped")) for tool in samples.TOOLS])
def test_a_tool_is_read_field_for_field(tool: Any) -> None:
    checked(parse_messages, MINIMAL | {"tools": [tool]})


@pytest.mark.behaviour(
    "client-surface-2.4-custom",
    "client-surface-2.4-bash",
    "client-surface-2.4-text-editor-20250124",
    "client-surface-2.4-text-editor-20250429",
    "client-surface-2.4-text-editor-20250728",
    "client-surface-2.4-memory",
    "client-surface-2.4-browser-toolset",
    "client-surface-2.4-computer-toolset",
    "client-surface-2.4-code-execution",
    "client-surface-2.4-web-search",
    "client-surface-2.4-web-fetch",
    "client-surface-2.4-tool-search",
    "client-surface-2.4-older-bash-and-editor",
    "client-surface-2.4-computer",
    "client-surface-2.4-advisor",
    "client-surface-2.4-mcp-toolset",
    "client-surface-2.4-all-variants",
)
def test_every_dated_tool_has_a_sample() -> None:
    assert {tool.get("type") for tool in samples.TOOLS} - {None, "custom"} == set(TOOL_TYPES)


OPTIONS = [
    (name, value) for name, values in (samples.COUNTED_OPTIONS | samples.ANSWER_OPTIONS).items() for value in values
]


@pytest.mark.behaviour(
    "client-surface-2.1-system",
    "client-surface-2.1-tool-choice-read",
    "client-surface-2.1-thinking-read",
    "client-surface-2.1-output-config-effort",
    "client-surface-2.1-output-config-task-budget",
    "client-surface-2.1-output-config-format-read",
    "client-surface-2.1-metadata",
    "client-surface-2.1-service-tier",
    "client-surface-2.1-speed",
    "client-surface-2.1-inference-geo",
    "client-surface-2.1-cache-control-read",
    "client-surface-2.1-container-read",
    "client-surface-2.1-diagnostics",
    "client-surface-2.1-context-management-read",
    "client-surface-2.1-compaction-read",
    "client-surface-2.1-mcp-servers-read",
    "client-surface-2.1-fallbacks-read",
    "client-surface-2.1-fallback-credit-read",
    "client-surface-2.1-billing-policy-self",
    "client-surface-2.1-thread-read",
    "client-surface-2.2-flags-are-not-demanded",
    "client-surface-2.5-clear-tool-uses-read",
    "client-surface-2.5-clear-thinking-read",
    "client-surface-2.5-compact-read",
    "client-surface-4.1-parameters",
)
@pytest.mark.parametrize(("name", "value"), OPTIONS, ids=[name for name, _ in OPTIONS])
def test_an_option_is_read_field_for_field(name: str, value: Any) -> None:
    checked(parse_messages, MINIMAL | {name: value})
    if name in samples.COUNTED_OPTIONS:
        checked(parse_count_tokens, COUNTED | {name: value})


@pytest.mark.behaviour("client-surface-2.1-complete")
def test_every_option_has_a_sample() -> None:
    sampled = {"model", "messages", "tools"} | set(samples.COUNTED_OPTIONS)
    assert sampled == set(CountTokensRequest.__struct_fields__)
    assert sampled | set(samples.ANSWER_OPTIONS) == set(MessagesRequest.__struct_fields__)


@pytest.mark.behaviour("client-surface-4.1-not-parameters")
@pytest.mark.parametrize("name", sorted(samples.ANSWER_OPTIONS))
def test_what_count_tokens_does_not_take_is_named(name: str) -> None:
    value = samples.ANSWER_OPTIONS[name][0]
    assert parse_count_tokens(whole(COUNTED | {name: value})).ignored == (name,)


@pytest.mark.behaviour("client-surface-0-echo", "client-surface-2.3-verbatim")
def test_a_whole_answer_is_taken_as_a_message() -> None:
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": "x", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
        "context_management": None,
        "input_transformations": [],
        "usage": {"input_tokens": 1, "output_tokens": 1, "cache_creation": None},
    }
    body = MINIMAL | {"messages": [*MINIMAL["messages"], answer, *MINIMAL["messages"]]}
    assert parse_messages(whole(body)).ignored == ()


@pytest.mark.behaviour("client-surface-2.3-beta-system-message")
def test_a_system_message_may_set_the_effort_and_say_nothing() -> None:
    message = {"role": "system", "output_config": {"effort": "low"}, "clear_at": "next_user_message"}
    checked(parse_messages, MINIMAL | {"messages": [*MINIMAL["messages"], message]})


def _objects(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        yield path
        for name, inner in value.items():
            if name not in OPAQUE or (name == "tools" and not path):
                yield from _objects(inner, (*path, name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _objects(inner, (*path, position))


FULL: Any = MINIMAL | {
    "messages": [
        {"role": "user", "content": samples.USER_BLOCKS},
        {"role": "assistant", "content": samples.ASSISTANT_BLOCKS},
        {"role": "system", "content": samples.SYSTEM_BLOCKS},
    ],
    "tools": samples.TOOLS,
    **{name: values[0] for name, values in (samples.COUNTED_OPTIONS | samples.ANSWER_OPTIONS).items()},
}


@pytest.mark.behaviour("client-surface-0-echo-unknown")
@given(st.sets(st.sampled_from(list(_objects(FULL))), min_size=1, max_size=6))
def test_an_unknown_field_is_named_wherever_it_stands(places: set[tuple[str | int, ...]]) -> None:
    body = msgspec.json.decode(whole(FULL))  # a copy that shares nothing
    for place in places:
        target = body
        for step in place:
            target = target[step]
        target["novel"] = 1
    named = parse_messages(whole(body)).ignored
    assert set(named) == {".".join(map(str, (*place, "novel"))) for place in places}


@pytest.mark.behaviour(
    "client-surface-2.1-thinking-budget-bounds",
    "client-surface-2.1-output-config-effort",
    "client-surface-2.1-service-tier",
    "client-surface-2.3-message",
)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "", "media_type": "image/bmp"}}]}]}, "messages.0.content.0.image.source.base64.media_type: Input should be 'image/gif', 'image/jpeg', 'image/png' or 'image/webp'"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "ftp"}}]}]}, "messages.0.content.0.image.source: Input tag 'ftp' found using 'type' does not match any of the expected tags: 'base64', 'url', 'file'"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text"}]}]}]}, "messages.0.content.0.tool_result.content.0.text.text: Field required"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type: Field required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: Input should be a string or a list of blocks"),
        ({"messages": {}}, "messages: Input should be a valid list"),
        ({"tools": [{"name": "n"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{"name": 5, "input_schema": {}}]}, "tools.0.custom.name: Input should be a valid string"),
        ({"tools": [{"type": "bash_20250124", "name": "shell"}]}, "tools.0.bash_20250124.name: Input should be 'bash'"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": "x"}]}, "tools.0.web_search_20250305.max_uses: Input should be a valid integer"),
        ({"tools": 5}, "tools: Input should be a valid list"),
        ({"tools": [5]}, "tools.0: Input should be an object"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"),
        ({"thinking": {"type": "on"}}, "thinking: Input tag 'on' found using 'type' does not match any of the expected tags: 'enabled', 'adaptive', 'between_tools', 'disabled'"),
        ({"service_tier": "fast"}, "service_tier: Input should be 'auto' or 'standard_only'"),
        ({"speed": 5}, "speed: Input should be a valid string"),
        ({"container": 5}, "container: Input should be a string or an object"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be 'high', 'low', 'max', 'medium' or 'xhigh'"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1d"}}, "cache_control.ttl: Input should be '1h' or '5m'"),
        ({"max_tokens": 1.5}, "max_tokens: Input should be a valid integer"),
        ({"system": [{"text": "x"}]}, "system.0.type: Field required"),
        ({"billing_policy": {}}, "billing_policy.type: Field required"),
        ({"compaction": {}, **{f"novel{n}": 1 for n in range(30)}}, "compaction.type: Field required"),
        ({"top_k": -1}, "top_k: Input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_place_and_what_would_do(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_messages(whole(MINIMAL | change))
    assert refused.value.message == message


@pytest.mark.behaviour("client-surface-2.4-all-variants")
def test_an_unknown_tool_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_messages(whole(MINIMAL | {"tools": [{"type": "bash_20300101", "name": "bash"}]}))
    assert refused.value.message.startswith("tools.0: Input tag 'bash_20300101' found using 'type' does not match")
    assert "'bash_20250124'" in refused.value.message


_GOOD = b'"model":"claude-opus-5-5","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":5,' + _GOOD + b"}",
        b'{"messages":5,"max_tokens":"x",' + _GOOD + b"}",
        b'{"tools":5,"tools":[],' + _GOOD + b"}",
        b"{" + _GOOD.replace(b'"role":"user"', b'"role":"tool","role":"user"') + b"}",
        b"{" + _GOOD.replace(b'"Hi"', b'[{"type":"image","type":"text","text":"Hi"}]') + b"}",
        b'{"thinking":{"type":"enabled","type":"disabled"},' + _GOOD + b"}",
    ],
)
def test_of_a_name_that_stands_there_twice_the_last_counts_whatever_the_first_was(body: bytes) -> None:
    assert parse_messages(body).request.messages[0].role == "user"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{" + _GOOD + b',"novel":1e400}', "The request body is not valid JSON"),
        (b"{" + _GOOD + b',"novel":{"deep":"\xff"}}', "The request body is not valid JSON"),
        (b"{" + _GOOD + b',"speed":1e400}', "speed: Input should be a number that is not so large"),
        (b'{"model":5,', "The request body is not valid JSON"),
        (b"[]", "The request body is not a JSON object"),
        (b'{"t\\u006fols":[{}],' + _GOOD + b"}", "tools.0.custom.name: Field required"),
    ],
)
def test_what_is_no_json_is_told_before_what_is_wrong_in_it(body: bytes, message: str) -> None:
    for parse in (parse_messages, parse_count_tokens):
        with pytest.raises(InvalidRequest) as refused:
            parse(body)
        assert refused.value.message == message


def test_what_says_nothing_of_its_type_is_refused_behind_any_number_of_unknown_fields() -> None:
    """Names are gathered only so far; the body is looked through to its end."""
    system = [{"type": "text", "text": "Hi", f"new{number}": 1} for number in range(30)]
    assert len(parse_messages(whole(MINIMAL | {"system": system})).ignored) == 20
    with pytest.raises(InvalidRequest, match=r"system\.30\.type: Field required"):
        parse_messages(whole(MINIMAL | {"system": [*system, {"text": "Hi"}]}))
