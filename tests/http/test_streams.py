"""Streams as bytes: the order of events, pings, early starts, and every way in which a stream can end badly."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from conftest import StartScripted
from running import Running

SLOW = "rules: [{match: slow, text: '" + "word " * 400 + "', delay_ms: 25}]"


def body(content: str, **options: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-5-5",
        "max_tokens": 400,
        "stream": True,
        "messages": [{"role": "user", "content": content}],
    } | options


def events(reply: httpx2.Response) -> Iterator[dict[str, Any]]:
    """Every event, checked to carry its name twice."""
    name = ""
    for line in reply.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = msgspec.json.decode(line.removeprefix("data: "))
            assert data["type"] == name
            yield data


def stream(server: Running, request: dict[str, Any]) -> Any:
    return httpx2.stream(
        "POST", f"{server.base_url}/v1/messages", json=request, headers={"x-api-key": server.key}, timeout=30
    )


@pytest.mark.behaviour(
    "client-surface-0-frames-are-named",
    "client-surface-0-usage-and-content-at-start",
    "client-surface-2.1-stream",
    "client-surface-3-message-start",
    "client-surface-3-message-delta",
    "client-surface-3-message-stop",
    "client-surface-3-start-first",
)
def test_the_grammar_of_events(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: hi, tokens: ['a', 'b']}]")
    with stream(server, body("hi")) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        seen = list(events(reply))
    assert [event["type"] for event in seen] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, delta = seen[0]["message"], seen[-2]
    assert start["content"] == []
    assert start["stop_reason"] is None
    assert start["usage"]["input_tokens"] == delta["usage"]["input_tokens"] > 0
    assert delta["usage"]["output_tokens"] == 3
    assert delta["delta"]["stop_reason"] == "end_turn"


@pytest.mark.behaviour("messages-and-inference-2.6-kept-alive")
@pytest.mark.behaviour("client-surface-3-ping")
def test_a_silent_engine_is_pinged_through(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: hi, tokens: ['a'], delay_ms: 700}]", ping_seconds=0.2)
    with stream(server, body("hi")) as reply:
        seen = [event["type"] for event in events(reply)]
    assert seen.count("ping") >= 3
    assert seen[-1] == "message_stop"


def test_a_queued_stream_starts_early_and_is_answered_in_its_turn(scripted: StartScripted) -> None:
    server = scripted(
        "rules: [{match: slow, text: '" + "w " * 20 + "', delay_ms: 50}, {match: quick, tokens: [q]}]",
        seats=1,
        early_start_seconds=0.2,
    )
    with stream(server, body("slow")) as first:
        began = time.monotonic()
        with stream(server, body("quick")) as second:
            waited = time.monotonic() - began
            assert second.status_code == 200
            reading = events(second)
            assert next(reading)["type"] == "message_start"
            rest = [event["type"] for event in reading]
        assert 0.15 < waited < 0.8
        assert rest[-1] == "message_stop"
        assert list(events(first))[-1]["type"] == "message_stop"


@pytest.mark.behaviour("messages-and-inference-2.5-error-event")
@pytest.mark.behaviour("client-surface-3-error", "client-surface-3-stream-error-late-only")
def test_a_full_queue_is_a_real_status_and_a_late_one_an_error_event(scripted: StartScripted) -> None:
    server = scripted(SLOW, seats=1, queue=1, queue_seconds=0.6, early_start_seconds=0.1)
    with stream(server, body("slow")) as held:
        holding = events(held)
        next(holding)
        with stream(server, body("waits")) as waiting:
            assert waiting.status_code == 200
            with stream(server, body("refused")) as refused:
                assert refused.status_code == 529
                assert msgspec.json.decode(refused.read())["error"]["type"] == "overloaded_error"
            seen = list(events(waiting))
    assert [event["type"] for event in seen] == ["message_start", "ping", "error"]
    assert seen[-1]["error"]["type"] == "overloaded_error"
    assert sorted(record.outcome for record in server.records()) == ["client_closed", "overloaded"]


@pytest.mark.behaviour("messages-and-inference-2.5-error-event", "messages-and-inference-4-error")
@pytest.mark.behaviour("client-surface-3-error")
@pytest.mark.parametrize("kind", ["stop", "hang", "crash"])
def test_an_engine_that_fails_ends_the_stream_with_an_error_event(scripted: StartScripted, kind: str) -> None:
    server = scripted(
        f"rules: [{{match: bad, text: 'one two three', fault: {{kind: {kind}, after: 2, down_ms: 400}}, times: 1}}]",
        engine_stall_seconds=0.3,
    )
    with stream(server, body("bad")) as reply:
        seen = list(events(reply))
    assert seen[-1]["type"] == "error"
    assert seen[-1]["error"] == {
        "type": "api_error",
        "message": "Internal server error: the model stopped before its answer was complete",
    }
    assert seen[-1]["request_id"] == reply.headers["request-id"]
    assert "".join(event["delta"]["text"] for event in seen if event["type"] == "content_block_delta") == "one two"
    ready = httpx2.get(f"{server.base_url}/health/ready")
    assert ready.status_code == (503 if kind == "crash" else 200)
    with stream(server, body("good", max_tokens=2)) as reply:
        assert list(events(reply))[-1]["type"] == "message_stop"
    assert httpx2.get(f"{server.base_url}/health/ready").status_code == 200
    assert [record.outcome for record in server.records()] == ["engine_failed", "max_tokens"]


def test_a_plain_answer_whose_engine_fails_is_a_500(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: bad, text: 'one two', fault: {kind: stop, after: 1}}]")
    reply = httpx2.post(
        f"{server.base_url}/v1/messages", json=body("bad", stream=False), headers={"x-api-key": server.key}
    )
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "api_error"


def test_a_client_that_goes_away_while_it_waits_for_a_plain_answer(scripted: StartScripted) -> None:
    server = scripted(SLOW)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    request = msgspec.json.encode(body("slow", stream=False))
    connection.request("POST", "/v1/messages", request, {"x-api-key": server.key})
    time.sleep(0.3)
    connection.close()
    server.settle(2)
    (record,) = server.records()
    assert record.outcome == "client_closed"
    assert 1 <= record.usage.output_tokens < 100


def test_a_client_that_goes_away_in_the_queue_leaves_no_trace(scripted: StartScripted) -> None:
    server = scripted(SLOW, seats=1)
    with stream(server, body("slow")) as held:
        holding = events(held)
        next(holding)
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(
                f"{server.base_url}/v1/messages",
                json=body("waits", stream=False),
                headers={"x-api-key": server.key},
                timeout=0.3,
            )
        time.sleep(0.1)
        (health,) = [model.engine.health() for model in server.app.parts.models.values()]
        assert health.waiting == 0
    assert len(server.records()) == 1


def test_a_reader_that_stalls_loses_its_generation(scripted: StartScripted) -> None:
    """It takes nothing: the buffers fill, the turn waits, and after the limit the engine is free again."""
    words = "x" * 2000 + " "
    server = scripted(
        f"rules: [{{match: much, text: '{words * 4000}', delay_ms: 0}}]", stall_seconds=0.5, ping_seconds=0.2
    )
    with socket.create_connection(("127.0.0.1", server.port)) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = msgspec.json.encode(body("much", max_tokens=4000))
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {server.key}\r\ncontent-length: {len(request)}\r\n\r\n"
        reader.sendall(head.encode() + request)
        server_side = time.monotonic()
        while server.idle() and time.monotonic() - server_side < 2:
            time.sleep(0.01)
        server.settle(5)
    (record,) = server.records()
    assert record.outcome == "stalled"
    assert 0 < record.usage.output_tokens < 4000


def test_characters_are_never_cut(scripted: StartScripted) -> None:
    text = "日本語 🙂🙃 é ümlaut 👩‍👩‍👧 قلب"
    server = scripted(f"rules: [{{match: hi, text: '{text}'}}]")
    with stream(server, body("hi")) as reply:
        assert "".join(e["delta"]["text"] for e in events(reply) if e["type"] == "content_block_delta") == text


@pytest.mark.behaviour("messages-and-inference-4-error")
def test_stopping_the_server_ends_open_streams_with_an_error_event(scripted: StartScripted) -> None:
    server = scripted(SLOW)
    with stream(server, body("slow")) as reply:
        reading = events(reply)
        next(reading)
        server.stop()
        seen = list(reading)
    assert seen[-1]["type"] == "error"
    assert seen[-1]["error"]["type"] == "overloaded_error"
    (record,) = server.records()
    assert record.outcome == "shutdown"
