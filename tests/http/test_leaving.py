"""A client that leaves while its plain answer is made: the engine stops, and what was made is on record."""

from __future__ import annotations

import socket
import time

import msgspec
import pytest

from conftest import StartScripted


@pytest.mark.parametrize("padding", [0, 150_000], ids=["small", "large"])
@pytest.mark.parametrize("half", [False, True], ids=["closed", "half closed"])
def test_a_client_that_leaves_stops_its_plain_answer(scripted: StartScripted, padding: int, *, half: bool) -> None:
    server = scripted("rules:\n  - delay_ms: 20\n")
    body = msgspec.json.encode(
        {
            "model": "claude-opus-5-5",
            "max_tokens": 2000,
            "messages": [{"role": "user", "content": "x " * (padding // 2) + "Count"}],
        }
    )
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {server.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        end = time.monotonic() + 30
        engine = server.app.parts.models["scripted"].engine
        while not engine.health().seats_taken and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
        if half:
            client.shutdown(socket.SHUT_WR)
            server.settle()
    server.settle()
    (record,) = server.records()
    assert record.outcome == "client_closed"
    assert record.usage.output_tokens < 2000
