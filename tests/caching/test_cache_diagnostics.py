"""Where two requests part, as the API tells it (contract messages-and-inference 7.9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from asking import FIVE, MODEL, block, long, said, serving, tool, user

from running import Running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("diagnostics")) as running:
        yield running


@pytest.fixture
def client(server: Running) -> anthropic.Anthropic:
    return server.client()


BASE: Any = {
    "model": MODEL,
    "max_tokens": 4,
    "tools": [tool("look", long("diagnosed"))],
    "system": [block(long("system"), FIVE)],
    "messages": [user(long("first")), said("Yes."), user("And?")],
}


def _told(client: anthropic.Anthropic, previous: str | None, **change: Any) -> tuple[str, Any]:
    """The answer's id, and its diagnostics as they came."""
    message = client.messages.create(**BASE | change, diagnostics={"previous_message_id": previous})
    return message.id, message.to_dict()["diagnostics"]


@pytest.mark.behaviour("messages-and-inference-7.9-null", "messages-and-inference-7.9-absent")
def test_there_is_nothing_to_tell(client: anthropic.Anthropic) -> None:
    """Where it was not asked for, on the first turn, and where the second goes on from the first."""
    assert "diagnostics" not in client.messages.create(**BASE).to_dict()
    first, told = _told(client, None)
    assert told is None
    grown = [*BASE["messages"], said("So."), user("Thanks.")]
    second, told = _told(client, first, messages=grown)
    assert told is None
    assert _told(client, second, messages=[*grown, said("Well."), user("Bye.")])[1] is None


@pytest.mark.behaviour(
    "messages-and-inference-7.9-missed-tokens",
    "client-surface-2.1-diagnostics-reason",
    "client-surface-2.6-diagnostics-reasons",
)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"model": "claude-opus-4-8"}, "model_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-model")),
        pytest.param({"speed": "fast"}, "model_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-model")),
        pytest.param({"tools": [tool("look", "Else.")]}, "tools_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-tools")),
        pytest.param({"tools": [*BASE["tools"], tool("dig")]}, "tools_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-tools")),
        pytest.param({"tools": []}, "tools_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-tools")),
        pytest.param({"system": [block("Else.", FIVE)]}, "system_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-system")),
        pytest.param({"system": [*BASE["system"], block("More.")]}, "system_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-system")),
        pytest.param({"messages": [user("Else.")]}, "messages_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-messages")),
        pytest.param({"tool_choice": {"type": "none"}}, "messages_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-messages")),
        pytest.param({"system": [block("Else.", FIVE)], "messages": [user("Else.")]}, "system_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-earliest")),
        pytest.param({"tools": [tool("dig")], "system": [block("Else.", FIVE)]}, "tools_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-earliest")),
        pytest.param({"model": "claude-opus-4-8", "tools": [tool("dig")]}, "model_changed", marks=pytest.mark.behaviour("messages-and-inference-7.9-earliest")),
    ],
)  # fmt: skip
def test_the_earliest_difference_is_told(change: Any, reason: str, client: anthropic.Anthropic) -> None:
    first, _ = _told(client, None)
    message = client.messages.create(**BASE | change, diagnostics={"previous_message_id": first})
    assert message.diagnostics is not None
    assert message.diagnostics.cache_miss_reason is not None
    assert message.diagnostics.cache_miss_reason.type == reason
    usage = message.usage
    whole = usage.input_tokens + (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    missed = message.to_dict()["diagnostics"]["cache_miss_reason"]["cache_missed_input_tokens"]
    assert 0 < missed <= whole
    if reason == "model_changed":
        assert missed == whole


@pytest.mark.behaviour("messages-and-inference-7.9-missed-tokens")
def test_the_later_two_part_the_less_was_missed(client: anthropic.Anthropic) -> None:
    first, _ = _told(client, None)
    missed = [
        _told(client, first, **change)[1]["cache_miss_reason"]["cache_missed_input_tokens"]
        for change in (
            {"tools": [tool("look", long("diagnosis"))]},
            {"system": [block(long("System"), FIVE)]},
            {"messages": [user(long("First")), *BASE["messages"][1:]]},
            {"messages": [*BASE["messages"][:-1], user("Or?")]},
        )
    ]
    assert missed == sorted(missed, reverse=True)
    assert len(set(missed)) == 4


@pytest.mark.behaviour("messages-and-inference-7.9-not-found", "messages-and-inference-7.9-scope")
def test_an_answer_of_nobody_or_of_another_workspace_is_not_found(server: Running, client: anthropic.Anthropic) -> None:
    not_found = {"cache_miss_reason": {"type": "previous_message_not_found"}}
    assert _told(client, "msg_gone")[1] == not_found
    first, _ = _told(client, None)
    assert _told(server.client(api_key=server.make_key(workspace="Elsewhere")), first)[1] == not_found
    assert _told(server.client(api_key=server.make_key()), first)[1] is None
    # An answer that did not ask for it is not kept.
    assert _told(client, client.messages.create(**BASE).id)[1] == not_found


@pytest.mark.behaviour("messages-and-inference-7.9-streams")
def test_a_stream_tells_it_at_its_start(client: anthropic.Anthropic) -> None:
    first, _ = _told(client, None)
    changed: Any = BASE | {"messages": [user("Else.")], "diagnostics": {"previous_message_id": first}}
    with client.messages.stream(**changed) as stream:
        start = next(iter(stream))
        assert start.type == "message_start"
        assert start.message.diagnostics is not None
        assert start.message.diagnostics.cache_miss_reason is not None
        assert start.message.diagnostics.cache_miss_reason.type == "messages_changed"
        stream.until_done()


def test_no_mark_is_needed_to_ask(client: anthropic.Anthropic) -> None:
    plain: Any = {"tools": [], "system": "Be kind."}
    first, _ = _told(client, None, **plain)
    assert _told(client, first, **plain)[1] is None
    assert _told(client, first, **plain | {"system": "Be terse."})[1]["cache_miss_reason"]["type"] == "system_changed"
