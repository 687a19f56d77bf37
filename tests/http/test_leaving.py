"""A client that leaves while its plain answer is made: the engine stops, and what was made is on record."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import msgspec
import pytest

from antiphon.core.records import UsageRecord
from antiphon.gate.spend.spending import Reservation
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


def test_what_an_answer_cost_counts_also_when_its_client_leaves_while_it_is_recorded(
    scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted("rules:\n  - text: one two three\n")
    journal, entrance = server.app.journal, server.app.parts.entrance
    begun, go_on = threading.Event(), threading.Event()
    append, told = journal.append, list[int]()
    settle = Reservation.settle

    async def slowly(record: UsageRecord) -> None:
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        await append(record)

    async def noted(reservation: Reservation, cost_nano: int = 0) -> None:
        told.append(cost_nano)
        await settle(reservation, cost_nano)

    monkeypatch.setattr(journal, "append", slowly)
    monkeypatch.setattr(Reservation, "settle", noted)
    body = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"Count"}]}'
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {server.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        assert begun.wait(30)
    end = time.monotonic() + 30
    while entrance.admission.open_turns and time.monotonic() < end:
        time.sleep(0.01)
    assert told == []  # the turn is over, and what it cost is still to come
    go_on.set()
    while not told and time.monotonic() < end:
        time.sleep(0.01)
    (record,) = server.records()
    assert record.cost.total_nano > 0
    assert told == [record.cost.total_nano]
