"""How an answer looks and why it ended, whole and as a stream of events (contract messages-and-inference 3.5, 3.6, 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from running import Running, scripted_settings, text_of

SCRIPT = """
rules:
  - {match: 'Say little', tokens: ['One', ' two', ' STOP', ' three']}
  - {match: 'Say nothing', tokens: []}
  - {match: 'Say slowly', tokens: ['One', ' two'], delay_ms: 300}
"""
KEYS = {
    "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "container", "usage",
}  # fmt: skip
USAGE = {
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens",
    "output_tokens_details", "server_tool_use", "service_tier", "inference_geo", "speed",
}  # fmt: skip
WINDOW = 200_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("stops"), SCRIPT, ping_seconds=0.1))
    yield running
    running.close()


def saying(text: str, **change: Any) -> dict[str, Any]:
    return {"model": "claude-opus-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": text}]} | change


LITTLE, NOTHING = saying("Say little."), saying("Say nothing.")
FULL = saying("x" * (WINDOW - 30), max_tokens=1000)
#: An answer for each way in which a text can end: the request, the reason and the sequence.
ENDINGS = [
    (LITTLE, "end_turn", None),
    (LITTLE | {"max_tokens": 2}, "max_tokens", None),
    (LITTLE | {"stop_sequences": ["nowhere", "STOP"]}, "stop_sequence", "STOP"),
    (NOTHING, "end_turn", None),
    (FULL, "model_context_window_exceeded", None),
]


def whole(server: Running, request: dict[str, Any]) -> dict[str, Any]:
    reply = httpx2.post(f"{server.base_url}/v1/messages", json=request, headers={"x-api-key": server.key}, timeout=60)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def lines(server: Running, request: dict[str, Any]) -> list[str]:
    """A stream's lines, to its end."""
    headers = {"x-api-key": server.key}
    with httpx2.stream(
        "POST", f"{server.base_url}/v1/messages", json=request | {"stream": True}, headers=headers, timeout=60
    ) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        return list(reply.iter_lines())


def events(server: Running, request: dict[str, Any]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line[6:]) for line in lines(server, request) if line.startswith("data: ")]


# -- the answer


@pytest.mark.behaviour("messages-and-inference-3.5-message", "messages-and-inference-3.5-usage")
@pytest.mark.parametrize("request_body", [LITTLE, NOTHING, LITTLE | {"max_tokens": 0}])
def test_an_answer_has_these_fields_and_no_others(server: Running, request_body: dict[str, Any]) -> None:
    message = whole(server, request_body)
    assert set(message) == KEYS
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "claude-opus-5-5")
    for block in message["content"]:
        assert set(block) == {"type", "text", "citations"}
    usage = message["usage"]
    assert set(usage) == USAGE
    assert set(usage["cache_creation"]) == {"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}
    assert usage["service_tier"] == "standard"
    for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"):
        assert type(usage[name]) is int


@pytest.mark.behaviour("messages-and-inference-3.5-total-input")
def test_the_input_is_the_sum_of_three(server: Running) -> None:
    usage = whole(server, LITTLE)["usage"]
    counted = server.client().messages.count_tokens(model="claude-opus-5-5", messages=LITTLE["messages"])
    parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    assert sum(usage[name] for name in parts) == counted.input_tokens
    assert usage["cache_creation_input_tokens"] == sum(usage["cache_creation"].values())


@pytest.mark.behaviour("messages-and-inference-3.5-output-is-never-nothing")
def test_an_empty_answer_costs_something(server: Running) -> None:
    message = whole(server, NOTHING)
    assert message["content"] == []
    assert message["usage"]["output_tokens"] > 0


# -- why it ended


@pytest.mark.behaviour(
    "messages-and-inference-3.6-never-null",
    "messages-and-inference-3.6-no-details",
    "messages-and-inference-3.3-stop-sequences",
    "messages-and-inference-3.6-end-turn",
    "messages-and-inference-3.6-max-tokens",
    "messages-and-inference-3.6-stop-sequence",
    "messages-and-inference-3.6-empty-end-turn",
    "messages-and-inference-3.6-window-exceeded",
)
@pytest.mark.parametrize(("request_body", "reason", "sequence"), ENDINGS)
def test_why_a_whole_answer_ended(
    server: Running, request_body: dict[str, Any], reason: str, sequence: str | None
) -> None:
    message = whole(server, request_body)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert (message["stop_details"], message["container"]) == (None, None)


@pytest.mark.behaviour(
    "messages-and-inference-3.6-null-at-the-start",
    "messages-and-inference-3.6-no-details",
    "messages-and-inference-4-message-delta",
    "messages-and-inference-3.3-stop-sequences",
    "messages-and-inference-3.6-end-turn",
    "messages-and-inference-3.6-max-tokens",
    "messages-and-inference-3.6-stop-sequence",
    "messages-and-inference-3.6-empty-end-turn",
    "messages-and-inference-3.6-window-exceeded",
)
@pytest.mark.parametrize(("request_body", "reason", "sequence"), ENDINGS)
def test_why_a_stream_ended(server: Running, request_body: dict[str, Any], reason: str, sequence: str | None) -> None:
    seen = events(server, request_body)
    start = seen[0]["message"]
    assert (start["stop_reason"], start["stop_sequence"], start["content"]) == (None, None, [])
    (delta,) = [event for event in seen if event["type"] == "message_delta"]
    assert delta["delta"] == {
        "stop_reason": reason, "stop_sequence": sequence, "stop_details": None, "container": None,
    }  # fmt: skip
    last = whole(server, request_body)["usage"]
    assert delta["usage"] == {name: last[name] for name in delta["usage"]}
    assert delta["usage"]["output_tokens"] == last["output_tokens"]


@pytest.mark.behaviour("messages-and-inference-3.3-stop-sequences")
def test_a_stop_sequence_is_not_part_of_the_answer(server: Running) -> None:
    message = server.client().messages.create(**LITTLE, stop_sequences=["STOP"])
    assert text_of(message) == "One two "


@pytest.mark.behaviour("messages-and-inference-3.6-window-exceeded")
def test_the_window_ends_an_answer_without_a_beta(server: Running) -> None:
    usage = whole(server, FULL)["usage"]
    assert usage["input_tokens"] + usage["output_tokens"] == WINDOW


# -- events


@pytest.mark.behaviour(
    "messages-and-inference-4-order",
    "messages-and-inference-4-message-start",
    "messages-and-inference-4-index",
    "messages-and-inference-4-text-delta",
)
def test_the_order_of_events(server: Running) -> None:
    seen = [event for event in events(server, LITTLE) if event["type"] != "ping"]
    assert [event["type"] for event in seen] == [
        "message_start", "content_block_start", *["content_block_delta"] * 4, "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    start, block = seen[0]["message"], seen[1]
    assert set(start) == KEYS
    assert set(start["usage"]) == USAGE
    assert start["usage"]["input_tokens"] == whole(server, LITTLE)["usage"]["input_tokens"]
    assert block == {
        "type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": None},
    }  # fmt: skip
    assert [event["delta"] for event in seen[2:6]] == [
        {"type": "text_delta", "text": text} for text in ("One", " two", " STOP", " three")
    ]
    assert {event["index"] for event in seen if "index" in event} == {0}
    assert seen[-1] == {"type": "message_stop"}


@pytest.mark.behaviour("messages-and-inference-4-no-block")
def test_an_answer_of_nothing_opens_no_block(server: Running) -> None:
    seen = [event["type"] for event in events(server, NOTHING) if event["type"] != "ping"]
    assert seen == ["message_start", "message_delta", "message_stop"]


@pytest.mark.behaviour("messages-and-inference-4-names", "messages-and-inference-4-no-done")
def test_every_event_is_its_name_and_an_object_of_that_type(server: Running) -> None:
    given = lines(server, LITTLE)
    frames = [given[place : place + 3] for place in range(0, len(given), 3)]
    assert len(given) % 3 == 0
    for name, data, blank in frames:
        assert name.startswith("event: ")
        assert msgspec.json.decode(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")
        assert blank == ""
    assert frames[-1][0] == "event: message_stop"


@pytest.mark.behaviour("messages-and-inference-4-ping")
def test_pings_may_come_anywhere_and_the_sdk_passes_over_them(server: Running) -> None:
    slow = saying("Say slowly.")
    kinds = [event["type"] for event in events(server, slow)]
    first, last = kinds.index("content_block_start"), kinds.index("content_block_stop")
    assert "ping" in kinds[:first]
    assert "ping" in kinds[first:last]
    with server.client().messages.stream(**slow) as stream:
        assert list(stream.text_stream) == ["One", " two"]
        assert stream.get_final_message().stop_reason == "end_turn"


@pytest.mark.behaviour("messages-and-inference-4-usage-is-cumulative")
def test_the_last_usage_is_the_whole_and_not_the_rest(server: Running) -> None:
    seen = events(server, LITTLE)
    (delta,) = [event for event in seen if event["type"] == "message_delta"]
    assert delta["usage"]["output_tokens"] == 5  # four tokens and the end
    assert delta["usage"]["input_tokens"] == seen[0]["message"]["usage"]["input_tokens"] > 0
