"""Whether a client tries again: what the headers say, and what the official SDK then does."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import httpx2
import pytest
import uvicorn

from antiphon.core.clock import SystemClock
from antiphon.core.errors import (
    AntiphonError,
    EngineFailed,
    Internal,
    NotFound,
    Overloaded,
    RateLimited,
    ReceiptTimeout,
)
from antiphon.core.ids import Ids
from antiphon.core.records import Caller
from antiphon.http.app import HttpApp
from antiphon.http.cors import Cors
from antiphon.http.exchange import Exchange
from antiphon.http.protocol import uvicorn_config
from antiphon.http.routes import Route
from antiphon.observe.metrics import Metrics
from antiphon.observe.traces import Tracing
from antiphon.store.database import StoreUnavailable
from conftest import StartScripted
from running import SCOPE, Running

HELLO: Any = [{"role": "user", "content": "Hello"}]


class Failing:
    """The HTTP application, with one endpoint that fails as it is told to and counts how often it is asked."""

    def __init__(self) -> None:
        self.error: AntiphonError | Exception = NotFound("")
        self.asked = 0
        clock = SystemClock()
        app = HttpApp(
            table=[Route("/v1/messages", ("POST",), self._fail)],
            open_paths=frozenset(),
            door=self,
            cors=Cors([]),
            metrics=Metrics(),
            tracing=Tracing(None),
            clock=clock,
            ids=Ids(clock),
        )
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn_config(app, closing_seconds=1))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    async def identify(self, authorization: bytes | None, x_api_key: bytes | None) -> Caller:
        return Caller(SCOPE, "apikey_1", admin=False)

    def in_workspace(self, caller: Caller, named: bytes) -> Caller:
        return caller

    async def _fail(self, _: Exchange, __: Mapping[str, str]) -> None:
        self.asked += 1
        raise self.error

    def tries(self, error: Exception) -> int:
        """How often the SDK asks before it gives up; two retries are its default."""
        self.error, self.asked = error, 0
        with (
            anthropic.Anthropic(api_key="sk", base_url=self.base_url) as client,
            pytest.raises(anthropic.APIStatusError),
        ):
            client.messages.create(model="claude-opus-5-5", max_tokens=1, messages=HELLO)
        return self.asked

    def headers(self, error: Exception) -> httpx2.Headers:
        self.error = error
        return httpx2.post(f"{self.base_url}/v1/messages", json={}, headers={"x-api-key": "sk"}).headers

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def failing() -> Iterator[Failing]:
    server = Failing()
    yield server
    server.close()


@pytest.mark.behaviour("client-surface-1.4-retry-429")
@pytest.mark.behaviour("messages-and-inference-2.2-retries")
@pytest.mark.behaviour(
    "client-surface-1.4-should-retry-wins",
    "client-surface-1.4-retried-statuses",
    "client-surface-1.6-status-500",
)
@pytest.mark.parametrize(
    ("error", "should_retry", "tries"),
    [
        (ReceiptTimeout(), "true", 3),  # 400
        (NotFound("gone"), None, 1),  # 404
        (Internal("defect"), None, 3),  # 500
        (EngineFailed("crashed"), None, 3),  # 500
        (EngineFailed("never this request", retry_helps=False), "false", 1),  # 500
        (Overloaded(), None, 3),  # 529
        (RateLimited("too many", retry_after_s=1), None, 3),  # 429
        (RateLimited("larger than the limit"), "false", 1),  # 429
        (RuntimeError("a defect that nobody named"), None, 3),  # 500
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_sdk_tries_again_where_that_helps(
    failing: Failing, error: Exception, should_retry: str | None, tries: int
) -> None:
    assert failing.headers(error).get("x-should-retry") == should_retry
    assert failing.tries(error) == tries


@pytest.mark.behaviour("client-surface-1.4-retry-after")
@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Overloaded(), "1"),
        (Overloaded(retry_after_s=5), "5"),
        (Overloaded(retry_after_s=None), None),
        (RateLimited("too many", retry_after_s=12), "12"),
        (RateLimited("larger than the limit"), None),
        (Internal("defect"), None),
    ],
    ids=str,
)
def test_a_time_is_named_where_one_is_known(failing: Failing, error: Exception, seconds: str | None) -> None:
    assert failing.headers(error).get("retry-after") == seconds


@pytest.mark.behaviour("messages-and-inference-2.2-details", "messages-and-inference-2.4-body-timeout")
@pytest.mark.behaviour("client-surface-1.6-code-selects-class", "client-surface-1.6-code-body-timeout")
def test_a_slow_body_is_its_own_error_of_the_sdk(scripted: StartScripted) -> None:
    """Status and code together choose the class; as a 408 it would be another one."""
    server = scripted(receive_seconds=0.3)
    tried: list[bytes] = []
    client = server.client(max_retries=1, http_client=httpx2.Client(transport=_Stuck(server.port, tried)))
    with pytest.raises(anthropic.types.BetaRequestBodyTimeoutError) as error:
        client.messages.create(model="claude-opus-5-5", max_tokens=1, messages=HELLO)
    assert error.value.status_code == 400
    assert error.value.error_code == "request_body_timeout"
    assert len(tried) == 2


class _Stuck(httpx2.BaseTransport):
    """Sends the headers and half of the body, and waits for what the server makes of it."""

    def __init__(self, port: int, tried: list[bytes]) -> None:
        self._port = port
        self._tried = tried

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        head = b"POST /v1/messages HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in request.headers.raw)
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
            connection.sendall(head + b"\r\n" + body[: len(body) // 2])
            answer = b""
            while part := connection.recv(65536):
                answer += part
        self._tried.append(answer)
        top, _, content = answer.partition(b"\r\n\r\n")
        lines = [line.partition(b": ")[::2] for line in top.split(b"\r\n")[1:]]
        return httpx2.Response(int(top.split()[1]), headers=lines, content=content)


def full(server: Running) -> httpx2.Response:
    return httpx2.post(
        f"{server.base_url}/v1/messages",
        json={"model": "claude-opus-5-5", "max_tokens": 5, "messages": HELLO},
        headers={"x-api-key": server.key},
    )


@pytest.mark.behaviour("messages-and-inference-2.2-retry-after")
@pytest.mark.behaviour("client-surface-1.4-retry-after")
def test_a_full_server_and_a_stopping_one_say_when_to_come_back(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: slow, text: 'a b c d e f', delay_ms: 100}]", seats=1, queue=0)
    with server.client().messages.stream(
        model="claude-opus-5-5", max_tokens=10, messages=[{"role": "user", "content": "slow"}]
    ) as held:
        next(iter(held.text_stream))
        reply = full(server)
        assert (reply.status_code, reply.headers["retry-after"]) == (529, "1")
    server.app.drain()
    reply = full(server)
    assert reply.status_code == 529
    assert int(reply.headers["retry-after"]) in range(1, 6)
    assert "x-should-retry" not in reply.headers


def test_a_database_that_is_away_is_worth_another_try(failing: Failing) -> None:
    """The key cannot be checked: that is nobody's fault but the server's, and no 401."""
    assert failing.tries(StoreUnavailable("away")) == 3
