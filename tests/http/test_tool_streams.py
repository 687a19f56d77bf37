"""How calls and structured answers are streamed (contract messages-and-inference 4, client-surface 3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from running import Running

Start = Callable[..., Running]

ASK: Any = [{"role": "user", "content": "How is it?"}]
MODEL: Any = "claude-opus-5-5"
WEATHER: Any = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "near": {"type": "array"}},
    },
}
CLOCK: Any = {"name": "tell_time", "input_schema": {"type": "object", "properties": {}}}
MADE: Any = {"city": 'New "York", {USA}', "days": 2, "near": [{"a": 1}, "b, c"]}
#: A step for each word, so that an input comes in many of them.
CALL = f"""
rules:
  - text: I will look.
    delay_ms: 1
    calls: [{{name: get_weather, input: {json.dumps(MADE)}}}]
"""
LEGACY = "fine-grained-tool-streaming-2025-05-14"


def streamed(running: Running, tools: list[Any], tokens: int = 300, beta: str | None = None) -> list[Any]:
    options: Any = {} if beta is None else {"extra_headers": {"anthropic-beta": beta}}
    return list(
        running.client().messages.create(
            model=MODEL, max_tokens=tokens, messages=ASK, tools=tools, stream=True, **options
        )
    )


def pieces(events: list[Any]) -> list[str]:
    return [
        event.delta.partial_json
        for event in events
        if event.type == "content_block_delta" and event.delta.type == "input_json_delta"
    ]


@pytest.mark.behaviour("messages-and-inference-4-tool-use-block", "messages-and-inference-4-input-json-delta")
@pytest.mark.behaviour("messages-and-inference-3.6-tool-use", "client-surface-2.6-stop-tool-use")
@pytest.mark.behaviour("client-surface-3-input-json-delta")
def test_a_call_starts_empty_and_its_pieces_are_its_input(scripted: Start) -> None:
    events = streamed(scripted(CALL), [WEATHER])
    (start,) = [event for event in events if event.type == "content_block_start" and event.index == 1]
    assert (start.content_block.type, start.content_block.input) == ("tool_use", {})
    assert start.content_block.id.startswith("toolu_")
    assert json.loads("".join(pieces(events))) == MADE
    assert next(event.delta.stop_reason for event in events if event.type == "message_delta") == "tool_use"
    indices = [
        (event.type, event.index) for event in events if event.type in ("content_block_start", "content_block_stop")
    ]
    assert indices == [
        ("content_block_start", 0), ("content_block_stop", 0), ("content_block_start", 1), ("content_block_stop", 1),
    ]  # fmt: skip


@pytest.mark.behaviour("messages-and-inference-4-tool-input-buffered")
def test_every_piece_is_a_whole_member(scripted: Start) -> None:
    """A client may close what it has by then and has an object with whole values."""
    got, sofar = pieces(streamed(scripted(CALL), [WEATHER])), ""
    assert len(got) == len(MADE)
    for number, piece in enumerate(got, 1):
        sofar += piece
        seen = json.loads(sofar if sofar.endswith("}") and number == len(got) else sofar + "}")
        assert seen.items() <= MADE.items()
        assert len(seen) == number


@pytest.mark.behaviour("client-surface-3-partial-json")
def test_without_pieces_the_input_is_an_empty_object(scripted: Start) -> None:
    client = scripted("rules: [{calls: [{name: tell_time, input: {}}]}]").client()
    with client.messages.stream(model=MODEL, max_tokens=99, messages=ASK, tools=[CLOCK]) as stream:
        events: list[Any] = list(stream)
        message: Any = stream.get_final_message()
    assert "".join(pieces([event for event in events if event.type == "content_block_delta"])) in ("", "{}")
    assert message.content[0].input == {}


@pytest.mark.behaviour("client-surface-3-partial-json")
def test_the_sdks_accumulator_has_a_valid_snapshot_at_every_piece(scripted: Start) -> None:
    with scripted(CALL).client().messages.stream(model=MODEL, max_tokens=300, messages=ASK, tools=[WEATHER]) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "input_json"]
        message: Any = stream.get_final_message()
    assert snapshots[-1] == MADE == message.content[1].input


@pytest.mark.behaviour("messages-and-inference-4-eager")
def test_eager_input_comes_raw_word_by_word_and_may_be_cut(scripted: Start) -> None:
    running = scripted(CALL)
    eager = pieces(streamed(running, [WEATHER | {"eager_input_streaming": True}]))
    assert len(eager) > len(MADE)
    whole = "".join(eager)
    assert json.loads(whole) == MADE
    # What it costs up to the middle of the input is not known beforehand: some limit cuts it there.
    cuts = {
        "".join(pieces(streamed(running, [WEATHER | {"eager_input_streaming": True}], tokens)))
        for tokens in range(10, 90, 4)
    }
    assert all(whole.startswith(cut) for cut in cuts)
    assert any(cut and not cut.endswith("}") for cut in cuts)


@pytest.mark.behaviour("messages-and-inference-4-not-eager")
@pytest.mark.parametrize("tool", [WEATHER | {"eager_input_streaming": False}])
def test_false_keeps_the_buffer_also_with_the_old_header(scripted: Start, tool: Any) -> None:
    running = scripted(CALL)
    assert pieces(streamed(running, [tool], beta=LEGACY)) == pieces(streamed(running, [tool]))
    assert len(pieces(streamed(running, [tool], beta=LEGACY))) == len(MADE)


@pytest.mark.behaviour("messages-and-inference-4-not-eager")
def test_the_old_header_alone_makes_a_tool_eager(scripted: Start) -> None:
    running = scripted(CALL)
    assert pieces(streamed(running, [WEATHER], beta=LEGACY)) == pieces(
        streamed(running, [WEATHER | {"eager_input_streaming": True}])
    )


@pytest.mark.behaviour("messages-and-inference-4-toolset-old-header")
def test_a_toolset_refuses_the_old_header(scripted: Start) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"tools\.1: toolsets cannot be used"):
        streamed(scripted(CALL), [WEATHER, {"type": "computer_toolset_20260801"}], beta=LEGACY)


@pytest.mark.behaviour("client-surface-3-fine-grained")
def test_the_beta_accumulator_keeps_a_string_that_was_cut(scripted: Start) -> None:
    client = scripted(CALL).client()
    tool: Any = WEATHER | {"eager_input_streaming": True}
    cut = set()
    for tokens in range(10, 60):
        with client.beta.messages.stream(
            model=MODEL, max_tokens=tokens, messages=ASK, tools=[tool], betas=[LEGACY]
        ) as stream:
            message: Any = stream.get_final_message()
        if len(message.content) > 1:
            cut.add(message.content[1].input.get("city"))
    cut -= {None, MADE["city"]}
    assert cut  # a part of the string
    assert all(MADE["city"].startswith(part) for part in cut)


@pytest.mark.behaviour("messages-and-inference-4-toolset-members")
@pytest.mark.parametrize("members", [{"text": "ctrl+s", "repeat": 2}, {}])
def test_a_members_input_is_one_piece(scripted: Start, members: Any) -> None:
    name = "computer.key" if members else "computer.screenshot"
    script = f"rules: [{{delay_ms: 1, calls: [{{name: {name}, input: {json.dumps(members)}}}]}}]"
    events = streamed(scripted(script), [{"type": "computer_toolset_20260801"}])
    (piece,) = pieces(events)
    assert json.loads(piece) == members


class Report(BaseModel):
    title: str
    points: list[str]


@pytest.mark.behaviour("client-surface-3-structured-text")
@pytest.mark.parametrize("said", ["Gladly!", '{"title":"It","points":["a b","c"]}'])
def test_a_structured_answer_fits_its_type_when_its_block_ends(scripted: Start, said: str) -> None:
    client = scripted(f"rules: [{{delay_ms: 1, text: {json.dumps(said)}}}]").client()
    with client.messages.stream(model=MODEL, max_tokens=200, messages=ASK, output_format=Report) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert isinstance(message.parsed_output, Report)
    assert kinds.count("content_block_stop") == 1


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "none"}])
def test_a_stream_and_a_whole_answer_say_the_same_wherever_they_are_cut(scripted: Start, choice: Any) -> None:
    client = scripted(CALL.replace("delay_ms: 1", "delay_ms: 0")).client()
    asked: Any = {"model": MODEL, "messages": ASK, "tools": [WEATHER, CLOCK], "tool_choice": choice}
    reasons = set()
    for tokens in range(1, 60, 3):
        whole = client.messages.create(max_tokens=tokens, **asked)
        with client.messages.stream(max_tokens=tokens, **asked) as stream:
            message = stream.get_final_message()
        assert said(message) == said(whole)
        assert whole.usage.output_tokens == message.usage.output_tokens <= tokens
        assert whole.stop_reason == message.stop_reason
        reasons.add(whole.stop_reason)
    assert reasons == {"max_tokens", "end_turn" if choice["type"] == "none" else "tool_use"}


def said(message: Any) -> list[Any]:
    return [block.to_dict() | {"id": None} for block in message.content]


def test_a_stop_sequence_within_an_input_stops_nothing(scripted: Start) -> None:
    client = scripted(CALL).client()
    asked: Any = {"model": MODEL, "max_tokens": 300, "messages": ASK, "tools": [WEATHER]}
    message: Any = client.messages.create(**asked, stop_sequences=["York"])
    assert (message.content[1].input, message.stop_reason) == (MADE, "tool_use")
    message = client.messages.create(**asked, stop_sequences=["look"])
    assert ([block.type for block in message.content], message.stop_reason) == (["text"], "stop_sequence")
