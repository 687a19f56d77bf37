"""Of two things that are wrong, the one that is told is always the same: the order in `HttpApp._dispatch`.

Clients see it: a key is asked for before anything is said about a body, and a large body is turned away at the edge.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from running import Running, scripted_settings

PAGE = "https://app.example.com"
LIMIT = 1_000_000
USER = {"role": "user", "content": "Hello"}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
REQUEST: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [USER]}

#: One fault each, in the order of the checks: what it changes, and how it is told.
FAULTS: list[tuple[str, dict[str, Any], int, str]] = [
    ("path", {"path": "/v1/nothing"}, 404, "Not Found"),
    ("method", {"method": "DELETE"}, 405, "Method Not Allowed"),
    ("announced size", {"content-length": str(LIMIT + 1)}, 413, "Request exceeds the maximum"),
    ("cors", {"origin": PAGE}, 401, "CORS requests"),
    ("key", {"x-api-key": "wrong"}, 401, "invalid x-api-key"),
    ("permission", {"x-api-key": "admin"}, 403, "cannot be used for inference"),
    ("version", {"anthropic-version": "1999-01-01"}, 400, "anthropic-version: "),
    ("betas", {"anthropic-beta": "no such {thing}"}, 400, "anthropic-beta: "),
    ("content-type", {"content-type": "application/json; charset=utf-16"}, 400, "UTF-8"),
    ("content-encoding", {"content-encoding": "br"}, 400, "content-encoding"),
    ("json", {"broken": True}, 400, "not valid JSON"),
    ("shape", {"body": {"max_tokens": "5"}}, 400, "max_tokens: "),
    ("version's changes", {"body": {"temperature": 0.5}}, 400, "temperature"),
    ("model", {"body": {"model": "gpt-4"}}, 404, "model: gpt-4"),
    ("profile", {"body": {"tools": [TOOL], "tool_choice": {"type": "any"}}}, 400, "forced tool use is not supported"),
    ("rules", {"body": {"stop_sequences": [" "]}}, 400, "stop_sequences: each"),
    ("length", {"body": {"messages": [{"role": "user", "content": "x " * 300_000}]}}, 400, "prompt is too long"),
]
NAMES = [name for name, *_ in FAULTS]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("order")
    running = Running(scripted_settings(folder, "rules: []", body_bytes=LIMIT, profile="claude"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def admin_key(server: Running) -> str:
    return server.make_key(admin=True)


def answer(server: Running, admin_key: str, *changes: dict[str, Any]) -> tuple[int, str]:
    """What a request with these faults is told; of two that change the same, the first counts."""
    body, merged = dict(REQUEST), {"method": "POST", "path": "/v1/messages"}
    keys = {"wrong": "sk-ant-api03-wrong", "admin": admin_key}
    for change in reversed(changes):
        body |= change.get("body", {})
        merged |= {name: value for name, value in change.items() if name != "body"}
    content = b"{" if merged.pop("broken", None) else msgspec.json.encode(body)
    first = f"{merged.pop('method')} {merged.pop('path')} HTTP/1.1"
    headers = {
        "host": "x",
        "x-api-key": server.key,
        "anthropic-version": "2026-10-21",
        "content-length": str(len(content)),
        "connection": "close",
    } | merged
    headers["x-api-key"] = keys.get(headers["x-api-key"], headers["x-api-key"])
    head = "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""])
    reply = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + content)
        connection.shutdown(socket.SHUT_WR) if "content-length" in merged else None
        while part := connection.recv(65536):
            reply += part
    return int(reply.split()[1]), msgspec.json.decode(reply.partition(b"\r\n\r\n")[2])["error"]["message"]


@pytest.mark.parametrize("index", range(len(FAULTS)), ids=NAMES)
def test_each_fault_alone_is_told(server: Running, admin_key: str, index: int) -> None:
    _, change, status, words = FAULTS[index]
    told, message = answer(server, admin_key, change)
    assert told == status
    assert words in message


def _together(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a request can have both: one credential has one fault, and a body that is no JSON has no fields."""
    fields = {*one.get("body", {})} & {*other.get("body", {})}
    same = ({*one} & {*other}) - {"body"}
    return not fields and not same and not ("broken" in one and "body" in other)


PAIRS = [
    pytest.param(first, second, id=f"{NAMES[first]} before {NAMES[second]}")
    for first, second in itertools.combinations(range(len(FAULTS)), 2)
    if _together(FAULTS[first][1], FAULTS[second][1])
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_faults_the_earlier_one_is_told(server: Running, admin_key: str, first: int, second: int) -> None:
    told, message = answer(server, admin_key, FAULTS[first][1], FAULTS[second][1])
    assert (told, FAULTS[first][3] in message) == (FAULTS[first][2], True), message


def test_nearly_all_pairs_were_tried() -> None:
    """So that a change of the table cannot empty the test above."""
    assert len(PAIRS) > 125
