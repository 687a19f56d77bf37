"""The traps that broke other servers (contract platform-and-tools 13), a test for each, named after it.

A tool block's stop reason (trap 7) is proven with Claude Code itself (`tests/clients/test_claude_code_tools.py`). Not
here yet: web search (trap 14, with the server tools).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from conftest import StartScripted
from running import Running, scripted_settings

USER: Any = {"role": "user", "content": "Hello"}
TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(
        scripted_settings(tmp_path_factory.mktemp("traps"), "rules: [{match: '', tokens: [One, ' two']}]")
    )
    yield running
    running.close()


def post(server: Running, path: str = "/v1/messages", **change: Any) -> httpx2.Response:
    request = {"model": "claude-opus-5-5", "max_tokens": 20, "messages": [USER]} | change
    return httpx2.post(f"{server.base_url}{path}", json=request, headers={"x-api-key": server.key})


def count(server: Running, **change: Any) -> int:
    reply = post(server, "/v1/messages/count_tokens", **change)
    assert reply.status_code == 200, reply.text
    return int(reply.json()["input_tokens"])


@pytest.mark.behaviour("client-surface-2.1-messages-roles", "client-surface-2.3-system-message")
def test_trap_1_a_system_message_amid_the_conversation(server: Running) -> None:
    amid = [USER, {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Yes."}, USER]
    assert post(server, messages=amid).status_code == 200
    assert count(server, messages=amid) > count(server, messages=[USER, amid[2], USER])


def test_trap_2_the_attribution_block_does_not_reach_the_prompt(server: Running) -> None:
    block = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.223; cch=1f2e3"}
    prompt = {"type": "text", "text": "You are a coding agent."}
    assert count(server, system=[block, prompt]) == count(server, system=[prompt])
    assert count(server, system=[prompt, block]) > count(server, system=[prompt])  # only first and apart


@pytest.mark.behaviour("client-surface-2.1-context-management-read")
def test_trap_3_context_management_is_accepted(server: Running) -> None:
    edits = {"edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}]}
    assert post(server, context_management=edits).status_code == 200


@pytest.mark.behaviour(
    "client-surface-2.3-tool-use-written",
    "client-surface-2.3-tool-reference-named",
    "client-surface-2.4-common",
)
def test_trap_4_tool_extras_are_accepted(server: Running) -> None:
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    tools = [
        TOOL | {"input_schema": closed, "strict": True, "eager_input_streaming": True, "allowed_callers": ["direct"]},
        TOOL | {"name": "later", "defer_loading": True},
    ]
    called = [
        USER,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}, "caller": None}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": "look"}]}]},
    ]  # fmt: skip
    assert post(server, tools=tools, messages=called).status_code == 200


@pytest.mark.behaviour("client-surface-0-usage-and-content-at-start")
def test_trap_5_message_start_carries_the_true_input_tokens(server: Running) -> None:
    with server.client().messages.stream(model="claude-opus-5-5", max_tokens=5, messages=[USER]) as stream:
        first = next(iter(stream))
    assert first.type == "message_start"
    assert first.message.usage.input_tokens == count(server)


def test_trap_6_and_7_blocks_open_and_close_in_order_and_the_stop_sequence_is_told(server: Running) -> None:
    with server.client().messages.stream(
        model="claude-opus-5-5",
        max_tokens=5,
        messages=[USER],
        stop_sequences=[" two"],
    ) as stream:
        kinds = [event.type for event in stream if event.type != "text"]
        final = stream.get_final_message()
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", " two")


@pytest.mark.behaviour("client-surface-2.3-thinking-let-be")
def test_trap_8_thinking_blocks_are_accepted_back_whatever_their_signature(server: Running) -> None:
    replayed = [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "", "signature": "EqQB-foreign=="},
                {"type": "redacted_thinking", "data": "EmwKAhgB"},
                {"type": "text", "text": "Yes.", "citations": None},
            ],
        },
        USER,
    ]
    assert post(server, messages=replayed, thinking={"type": "adaptive"}).status_code == 200


@pytest.mark.behaviour("client-surface-2.1-system", "client-surface-2.1-tools", "client-surface-2.3-text-counts")
def test_trap_9_counting_sees_system_and_tools_and_bears_a_burst(server: Running) -> None:
    bare = count(server)
    assert count(server, system="Be very kind.") > bare
    assert count(server, tools=[TOOL]) > bare
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda _: count(server), range(50)))
    assert counts == [bare] * 50


def test_trap_10_a_large_max_tokens_is_clamped_and_overflow_is_worded_as_clients_expect(
    scripted: StartScripted,
) -> None:
    server = scripted()
    assert post(server, max_tokens=199_000).status_code == 200
    refused = post(server, messages=[{"role": "user", "content": "x" * 250_000}], max_tokens=64_000)
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert message.startswith("prompt is too long: 2500")
    assert message.endswith(" tokens > 199999 maximum")


def test_trap_11_a_schema_that_no_grammar_can_hold_is_no_error(server: Running) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "maxLength": 524_288, "pattern": "(?=a)b"}}}
    assert post(server, tools=[TOOL | {"input_schema": schema}]).status_code == 200


@pytest.mark.behaviour("client-surface-0-beta-query-is-let-be")
def test_trap_12_a_doubled_v1_a_beta_query_and_head(server: Running) -> None:
    assert post(server, "/v1/v1/messages").status_code == 200
    assert post(server, "/v1/messages?beta=true").status_code == 200
    assert httpx2.head(f"{server.base_url}/").status_code == 200


@pytest.mark.behaviour("client-surface-0-pings-are-skipped", "client-surface-3-ping")
def test_trap_13_a_stream_says_something_at_once(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: '', tokens: [late], delay_ms: 900}]", ping_seconds=0.2)
    with server.client().messages.stream(model="claude-opus-5-5", max_tokens=5, messages=[USER]) as stream:
        raw = stream.response.iter_lines()
        assert [next(raw) for _ in range(4)][3] == "event: ping"
        assert sum(line == "event: ping" for line in raw) >= 2


def test_trap_15_every_claude_id_is_served(server: Running) -> None:
    for model in ("claude-haiku-4-5-20251001", "claude-3-5-haiku-20241022", "claude-haiku-5-5", "claude-new-9"):
        assert post(server, model=model).json()["model"] == model
    assert post(server, model="gpt-4o").status_code == 404
