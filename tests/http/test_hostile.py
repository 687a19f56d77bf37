"""Connections that are not a client's: slow, endless, smuggling, or no HTTP at all. Others never notice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx2
import msgspec
import pytest

from antiphon.http import protocol
from running import Running, scripted_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("hostile"), "rules: []"))
    yield running
    running.close()


@pytest.fixture(autouse=True)
def others_are_served(server: Running) -> Iterator[None]:
    """The oracle: after every case a good request is answered (faults 7, I5)."""
    yield
    assert httpx2.get(f"{server.base_url}/v1/models", headers={"x-api-key": server.key}).status_code == 200
    server.settle()


def sent(server: Running, data: bytes, *, seconds: float = 10) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    envelope = msgspec.json.decode(body)
    assert envelope["type"] == "error"
    assert envelope["request_id"].encode() in head
    return int(head.split()[1]), envelope["error"]["message"]


def request(server: Running, *headers: bytes, body: bytes = b"", line: bytes = b"POST /v1/messages HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"host: x", b"x-api-key: " + server.key.encode(), *headers, b"", body])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nabc",
        b"POST /v1/messages HTTP/1.1\r\nhost : x\r\n\r\n",
    ],
)
def test_what_is_no_sound_request_is_answered_once_and_closed(server: Running, data: bytes) -> None:
    answer = sent(server, data)
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1 ") == 1  # a smuggled second request never appears
    assert b'"type":"error"' in answer


@pytest.mark.behaviour("messages-and-inference-2.1-other-statuses")
@pytest.mark.behaviour("client-surface-1.6-status-431")
def test_headers_that_are_too_many_or_too_large_are_431(server: Running) -> None:
    many = request(server, *(b"x-%d: 1" % n for n in range(protocol.HEADER_LINES + 1)))
    assert refusal(sent(server, many))[0] == 431
    large = request(server, b"x-large: " + b"a" * (protocol.HEADER_BYTES + 1))
    assert refusal(sent(server, large))[0] == 431
    endless = b"GET / HTTP/1.1\r\nx: " + b"a" * (2 * protocol.HEADER_BYTES)
    assert refusal(sent(server, endless))[0] == 431


def test_a_large_body_behind_small_headers_is_not_mistaken_for_headers(server: Running) -> None:
    body = b" " * (3 * protocol.HEADER_BYTES)
    answer = sent(server, request(server, b"connection: close", b"content-length: %d" % len(body), body=body))
    assert refusal(answer) == (400, "The request body is not valid JSON")


@pytest.mark.behaviour("messages-and-inference-2.1-other-statuses")
@pytest.mark.behaviour("client-surface-1.4-closed-slow-headers")
def test_headers_that_come_too_slowly_are_408_and_silence_is_closed(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    began = time.monotonic()
    assert refusal(sent(server, b"POST /v1/messages HTTP/1.1\r\nhost:"))[0] == 408
    assert sent(server, b"") == b""
    assert time.monotonic() - began < 5


def test_a_kept_connection_is_bounded_for_every_request_on_it(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(request(server, line=b"GET /v1/models?limit=1 HTTP/1.1"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v1/mod")
        assert refusal(connection.recv(65536))[0] == 408


def test_what_is_left_of_a_refused_body_has_a_deadline_too(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is out, nobody reads the body any more, and it comes a byte at a time."""
    monkeypatch.setattr(protocol, "REST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert refusal(connection.recv(65536))[0] == 404
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(500):
                connection.sendall(b" ")
                time.sleep(0.01)


def test_what_is_left_of_a_refused_body_may_still_come_and_the_connection_goes_on(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "REST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
        assert refusal(connection.recv(65536))[0] == 404
        connection.sendall(b"67890")
        time.sleep(1)  # past the deadline, which is over with the body
        connection.sendall(request(server, line=b"GET /v1/models?limit=1 HTTP/1.1"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_many_idle_connections_do_not_matter(server: Running) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        assert httpx2.get(f"{server.base_url}/health/live").status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_odd_paths_are_404_and_never_another_route(server: Running) -> None:
    for path in (
        b"//v1/models",
        b"/v1/..;/models",
        b"/v1/models/../messages",
        b"/v1//messages",
        b"/V1/messages",
        b"/%2e",
    ):
        answer = sent(server, request(server, b"connection: close", line=b"GET " + path + b" HTTP/1.1"))
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405"))
