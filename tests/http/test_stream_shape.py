"""The form of answers and of their streams, field by field, and what the SDK's accumulator relies on.

Contract client-surface 2.6 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import msgspec
import pytest

from conftest import StartScripted
from running import Running, scripted_settings

USAGE = {
    "input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation",
    "output_tokens_details", "server_tool_use", "service_tier", "inference_geo", "speed",
}  # fmt: skip
MESSAGE = {
    "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "container", "usage",
}  # fmt: skip
SCRIPT = r"""
rules:
  - {match: lines, tokens: ["a\n\n", "event: x\r\n", "data: y\r", "\u2028 z"]}
  - {match: empty, tokens: []}
  - {match: bad, text: one two three, fault: {kind: stop, after: 2}}
  - {text: Good day to you.}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("shape"), SCRIPT))
    yield running
    running.close()


def asked(content: str = "Hello", **change: Any) -> dict[str, Any]:
    return {"model": "claude-opus-5-5", "max_tokens": 20, "messages": [{"role": "user", "content": content}]} | change


def post(server: Running, request: dict[str, Any]) -> httpx2.Response:
    reply = httpx2.post(f"{server.base_url}/v1/messages", json=request, headers={"x-api-key": server.key})
    assert reply.status_code == 200, reply.text
    return reply


def events(server: Running, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream, pings left out; every frame is checked to the byte."""
    reply = post(server, request | {"stream": True})
    assert reply.headers["content-type"].split(";")[0] == "text/event-stream"
    assert reply.content.endswith(b"\n\n")
    found = []
    for frame in reply.content[:-2].split(b"\n\n"):
        matched = re.fullmatch(rb"event: ([a-z_]+)\ndata: (\{[^\n\r]*\})", frame)
        assert matched, frame
        found.append(msgspec.json.decode(matched[2]))
        assert found[-1]["type"] == matched[1].decode()
    return [event for event in found if event["type"] != "ping"]


# -- a plain answer


@pytest.mark.behaviour(
    "client-surface-2.3-answer-text",
    "client-surface-2.3-answer-citations-null",
    "client-surface-2.6-fields",
    "client-surface-2.6-stop-details-null",
    "client-surface-2.6-container-null",
    "client-surface-2.6-usage",
)
def test_a_plain_answer_has_every_field(server: Running) -> None:
    message = post(server, asked()).json()
    assert set(message) == MESSAGE
    assert set(message["usage"]) == USAGE
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "claude-opus-5-5")
    assert message["id"].startswith("msg_")
    assert message["content"] == [{"type": "text", "text": "Good day to you.", "citations": None}]
    assert message["stop_reason"] == "end_turn"
    assert [message[name] for name in ("stop_sequence", "stop_details", "container")] == [None] * 3


@pytest.mark.behaviour("client-surface-2.6-usage", "client-surface-2.6-usage-conditions")
def test_usage_says_how_it_was_served(server: Running) -> None:
    usage = post(server, asked(inference_geo="us", speed="fast", service_tier="auto")).json()["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] == 5
    assert (usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]) == (0, 0)
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
    assert (usage["service_tier"], usage["inference_geo"], usage["speed"]) == ("standard", "us", "standard")
    assert usage["server_tool_use"] is None


# -- a stream


@pytest.mark.behaviour(
    "client-surface-0-usage-and-content-at-start",
    "client-surface-2.6-stop-reason-only-late",
    "client-surface-3-message-start",
    "client-surface-3-start-alone",
)
def test_message_start_is_the_whole_message_but_for_its_content(server: Running) -> None:
    start = events(server, asked(inference_geo="us"))[0]
    plain = post(server, asked(inference_geo="us")).json()
    message = start["message"]
    assert set(start) == {"type", "message"}
    assert set(message) == MESSAGE
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], None, None)
    assert {**message["usage"], "output_tokens": 0} == {**plain["usage"], "output_tokens": 0}


@pytest.mark.behaviour(
    "client-surface-0-indexes-contiguous",
    "client-surface-3-block-start",
    "client-surface-3-block-delta",
    "client-surface-3-block-stop",
    "client-surface-3-text-delta",
    "client-surface-3-frames",
    "client-surface-3-no-done",
    "client-surface-3-indexes",
)
def test_blocks_are_numbered_from_nought_begin_empty_and_end_once(server: Running) -> None:
    blocks = [event for event in events(server, asked()) if event["type"].startswith("content_block")]
    assert blocks[0] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": "", "citations": None},
    }
    assert {event["index"] for event in blocks} == {0}
    for event in blocks[1:-1]:
        assert set(event) == {"type", "index", "delta"}
        assert set(event["delta"]) == {"type", "text"}
        assert event["delta"]["type"] == "text_delta"
    assert "".join(event["delta"]["text"] for event in blocks[1:-1]) == "Good day to you."
    assert blocks[-1] == {"type": "content_block_stop", "index": 0}


@pytest.mark.behaviour(
    "client-surface-2.6-stop-sequence",
    "client-surface-2.6-stop-details-null",
    "client-surface-2.6-container-null",
    "client-surface-3-message-delta",
    "client-surface-3-message-stop",
    "client-surface-3-no-done",
    "client-surface-3-delta-overwrites",
)
def test_message_delta_has_the_end_and_the_sums(server: Running) -> None:
    start, *_, delta, stop = events(server, asked(stop_sequences=[" day"]))
    assert set(delta) == {"type", "delta", "usage"}
    assert delta["delta"] == {
        "stop_reason": "stop_sequence",
        "stop_sequence": " day",
        "stop_details": None,
        "container": None,
    }
    assert delta["usage"] == {
        "input_tokens": start["message"]["usage"]["input_tokens"],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 2,
    }
    assert stop == {"type": "message_stop"}


def test_an_answer_of_nothing_has_no_block_events(server: Running) -> None:
    assert [event["type"] for event in events(server, asked("empty"))] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.behaviour("client-surface-0-frames-are-named", "client-surface-3-block-delta", "client-surface-3-frames")
def test_line_ends_in_an_answer_do_not_end_a_frame(server: Running) -> None:
    text = "a\n\nevent: x\r\ndata: y\r\u2028 z"
    told = events(server, asked("lines"))
    assert "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta") == text
    with server.client().messages.stream(**asked("lines")) as stream:
        assert stream.get_final_text() == text


# -- what the SDK makes of it


@pytest.mark.behaviour(
    "client-surface-2.6-stop-reason-only-late",
    "client-surface-3-start-first",
    "client-surface-3-text-concatenates",
    "client-surface-3-delta-overwrites",
    "client-surface-3-start-alone",
    "client-surface-7-stream-helper",
)
@pytest.mark.parametrize("change", [{}, {"inference_geo": "us", "speed": "fast"}, {"stop_sequences": [" day"]}])
@pytest.mark.parametrize("space", ["messages", "beta.messages"])
def test_what_the_sdk_gathers_is_the_plain_answer(server: Running, change: dict[str, Any], space: str) -> None:
    client = server.client()
    messages: Any = client.messages if space == "messages" else client.beta.messages
    plain = messages.create(**asked(**change)).to_dict()
    with messages.stream(**asked(**change)) as stream:
        snapshots = [(event.type, stream.current_message_snapshot.stop_reason) for event in stream]
        gathered = stream.get_final_message().to_dict()
    for message in (plain, gathered):
        del message["id"]
        for block in message["content"]:
            block.pop("parsed_output", None)
            assert block.pop("citations", None) is None
    assert gathered == plain
    ends = [kind for kind, reason in snapshots if reason is not None]
    assert ends == ["message_delta", "message_stop"]


@pytest.mark.behaviour(
    "client-surface-0-error-events-raise",
    "client-surface-1.4-mid-stream-never-retried",
    "client-surface-3-error",
    "client-surface-3-stream-error",
)
def test_an_error_amid_a_stream_is_raised_with_its_type_and_not_retried(server: Running) -> None:
    asks: list[httpx2.Response] = []
    hooks: Any = {"response": [asks.append]}
    client = server.client(max_retries=2, http_client=httpx2.Client(event_hooks=hooks))
    texts: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as failed, client.messages.stream(**asked("bad")) as stream:
        texts.extend(stream.text_stream)
    assert (failed.value.status_code, failed.value.type) == (200, "api_error")
    assert "".join(texts) == "one two"
    assert len(asks) == 1


@pytest.mark.behaviour("client-surface-1.6-types-served", "client-surface-1.6-status-500")
def test_a_plain_answer_that_fails_is_the_sdks_internal_server_error(server: Running) -> None:
    with pytest.raises(anthropic.InternalServerError) as failed:
        server.client().messages.create(**asked("bad"))
    assert (failed.value.status_code, failed.value.type) == (500, "api_error")


@pytest.mark.behaviour("client-surface-3-stream-error-late-only")
def test_a_refusal_before_the_first_byte_has_its_own_status(scripted: StartScripted) -> None:
    """Not a stream with an error in it: only so can a client retry it or tell its kind."""
    with pytest.raises(anthropic.BadRequestError), scripted().client().messages.stream(**asked(max_tokens=-1)):
        pass
