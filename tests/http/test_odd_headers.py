"""Headers that are nobody's business, and wrong keys without end (faults B12, B13)."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from antiphon.core.ids import secret
from antiphon.http.strangers import Strangers
from conftest import StartScripted
from running import Running, scripted_settings

REQUEST: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = Running(scripted_settings(tmp_path_factory.mktemp("headers"), "rules: []"))
    yield running
    running.close()


def post(server: Running, headers: list[tuple[str, str]], path: str = "/v1/messages") -> httpx2.Response:
    return httpx2.post(f"{server.base_url}{path}", json=REQUEST, headers=[("x-api-key", server.key), *headers])


MANY = 30_000  # characters; half of what all headers together may be


@pytest.mark.behaviour("client-surface-1.3-accept-encoding")
@pytest.mark.parametrize(
    "header",
    [
        ("range", "bytes=0-1"),
        ("range", "bytes=" + ",".join(["0-"] * (MANY // 3))),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-encoding", "*;q=0"),
        ("accept-encoding", ",".join(["gzip;q=0.1"] * (MANY // 11))),
        ("accept", "text/html"),
        ("accept", "*/*" + ";q=1" * (MANY // 4)),
        ("cookie", "; ".join(["a=b"] * (MANY // 5))),
        ("cookie", "=" * MANY),
        ("if-none-match", "*"),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("te", "trailers, deflate"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-http-method-override", "DELETE"),
        ("content-language", "x" * MANY),
        ("user-agent", "'; drop table keys; --" * 1_000),
        ("traceparent", "00-" + "z" * MANY),
        ("anthropic-beta", ""),
        ("anthropic-beta", ", ,,"),
        ("anthropic-beta", "unheard-of-2030-01-01"),
    ],
)
def test_what_nobody_asked_about_changes_nothing(server: Running, header: tuple[str, str]) -> None:
    reply = post(server, [header])
    assert reply.status_code == 200, reply.text
    assert "content-encoding" not in reply.headers
    assert "content-range" not in reply.headers
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (("anthropic-version", "1999-01-01"), 'anthropic-version: "1999-01-01" is not a valid version'),
        (("anthropic-version", ""), 'anthropic-version: "" is not a valid version'),
        (("anthropic-version", "2023-06-01, 2026-10-21"), 'anthropic-version: "2023-06-01, 2026-10-21" is not a valid version'),
        (("anthropic-version", "9" * MANY), f'anthropic-version: "{"9" * 40}" is not a valid version'),
        (("anthropic-beta", "no such {thing}"), "anthropic-beta: a name may hold letters, digits, `-`, `_` and `.`"),
        (("anthropic-beta", "a;b"), "anthropic-beta: a name may hold letters, digits, `-`, `_` and `.`"),
        (("anthropic-beta", ",".join(["x"] * 10_000)), "anthropic-beta: the header is longer than 4096 characters"),
        (("anthropic-beta", "," * 4097), "anthropic-beta: the header is longer than 4096 characters"),
    ],
)  # fmt: skip
def test_malformed_versions_and_betas_are_400_with_their_name(
    server: Running, path: str, header: tuple[str, str], message: str
) -> None:
    reply = post(server, [header], path)
    assert reply.status_code == 400
    assert reply.json()["error"] == {"type": "invalid_request_error", "message": message}


def test_an_unknown_beta_is_named_and_bounded(server: Running) -> None:
    betas = [("anthropic-beta", ",".join(f"new-{number}-{n}" for n in range(300))) for number in range(10)]
    reply = post(server, betas)
    assert reply.status_code == 200
    assert reply.headers["antiphon-ignored"].startswith("new-0-0,new-0-1,")
    assert len(reply.headers["antiphon-ignored"]) < 2_000


def test_wrong_keys_without_end_fill_neither_the_log_nor_the_database(scripted: StartScripted) -> None:
    """Every one is answered and counted; the database is asked for a few, and the log tells of a few."""
    server = scripted()
    tries = 2_000
    before = server.app.gate.figures()
    began = time.monotonic()
    with capture_logs() as lines, httpx2.Client() as client:
        for number in range(tries):
            key = f"sk-ant-api03-01{f'{number:022d}'.replace('0', 'z')}-{secret(68)}AA"
            reply = client.get(f"{server.base_url}/v1/models", headers={"x-api-key": key})
            assert reply.status_code == 401
        seconds = int(time.monotonic() - began) + 2
        assert client.get(f"{server.base_url}/v1/models", headers={"x-api-key": server.key}).status_code == 200
    after = server.app.gate.figures()
    assert after.refused - before.refused == tries
    assert after.loads == before.loads
    assert after.glances - before.glances <= seconds * 50
    told = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in told].count(200) == 1  # known callers are always told of
    assert len(told) <= seconds * 20 + 1
    assert f'antiphon_requests_total{{route="/v1/models",status="401"}} {tries}' in str(
        httpx2.get(f"{server.base_url}/metrics").text
    )


class _Clock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now_ms(self) -> int:
        return 0


def test_lines_of_strangers_are_counted_where_they_are_left_out() -> None:
    clock = _Clock()
    strangers = Strangers(clock)
    assert [strangers.line() for _ in range(50)] == [0] * 20 + [None] * 30
    clock.seconds = 1.0
    assert [strangers.line() for _ in range(21)] == [30] + [0] * 19 + [None]
    clock.seconds = 9.5
    assert strangers.line() == 1
