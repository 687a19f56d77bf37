"""Bodies on their way in: compressed, announced, unannounced, too large, in another charset."""

from __future__ import annotations

import gzip
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.core.errors import InvalidRequest, RequestTooLarge
from antiphon.http.decoding import Decoding, decoding_of
from conftest import StartScripted
from running import Running, scripted_settings

LIMIT = 200_000
REQUEST = {"model": "claude-opus-5-5", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello there"}]}
BODY = msgspec.json.encode(REQUEST)
ENDPOINTS = ["/v1/messages", "/v1/messages/count_tokens"]


def raw_deflate(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


def named(value: object) -> str:
    """A case's name: what it says of itself, not what it sends."""
    return value[:30] if isinstance(value, str) else ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("bodies"), "rules: []", body_bytes=LIMIT))
    yield running
    running.close()


def post(server: Running, content: Any, path: str = "/v1/messages", **headers: str) -> httpx2.Response:
    given = {"x-api-key": server.key} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.post(f"{server.base_url}{path}", content=content, headers=given)


def refused(reply: httpx2.Response) -> tuple[int, str, str | None]:
    """Status, type and machine-readable code of a well-formed envelope."""
    error = reply.json()["error"]
    assert reply.json()["request_id"] == reply.headers["request-id"]
    return reply.status_code, error["type"], error.get("details", {}).get("error_code")


INVALID = (400, "invalid_request_error", "request_body_encoding_invalid")
UNSUPPORTED = (400, "invalid_request_error", "request_body_encoding_unsupported")
CHARSET = (400, "invalid_request_error", "unsupported_charset")
OVER = (413, "request_too_large", None)
OVER_DECODED = (413, "request_too_large", "request_body_too_large_after_decoding")


@pytest.mark.behaviour("messages-and-inference-2.3-compressed")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY, 1)),
        ("x-gzip", gzip.compress(BODY, 0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
        ("identity, gzip", gzip.compress(BODY)),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY))),
        ("deflate,gzip", gzip.compress(zlib.compress(BODY))),  # in the order they were applied
        ("gzip", gzip.compress(BODY[:40]) + gzip.compress(b"") + gzip.compress(BODY[40:])),
    ],
    ids=named,
)
def test_a_compressed_body_is_the_body(server: Running, endpoint: str, encoding: str, sent: bytes) -> None:
    reply = post(server, sent, endpoint, content_encoding=encoding)
    assert reply.status_code == 200, reply.text
    plain = post(server, BODY, endpoint).json()
    assert reply.json().get("usage") == plain.get("usage")
    assert reply.json().get("input_tokens") == plain.get("input_tokens")


def test_encodings_may_come_in_headers_of_their_own(server: Running) -> None:
    headers = [("x-api-key", server.key), ("content-encoding", "deflate"), ("content-encoding", "gzip")]
    reply = httpx2.post(f"{server.base_url}/v1/messages", content=gzip.compress(zlib.compress(BODY)), headers=headers)
    assert reply.status_code == 200


def test_a_large_compressed_body_in_small_parts(server: Running) -> None:
    """Above what the event loop decodes itself."""
    large = msgspec.json.encode(REQUEST | {"messages": [{"role": "user", "content": "la " * 50_000}]})
    packed = gzip.compress(large, 0)
    parts = (packed[at : at + 7_000] for at in range(0, len(packed), 7_000))
    reply = post(server, parts, "/v1/messages/count_tokens", content_encoding="gzip")
    assert reply.json() == post(server, large, "/v1/messages/count_tokens").json()
    assert reply.status_code == 200


PACKED = gzip.compress(BODY)


@pytest.mark.behaviour(
    "messages-and-inference-2.3-encoding-refused",
    "messages-and-inference-2.4-encoding-invalid",
    "messages-and-inference-2.4-encoding-unsupported",
)
@pytest.mark.behaviour("client-surface-1.6-codes-encoding")
@pytest.mark.parametrize(
    ("encoding", "sent", "answer"),
    [
        ("gzip", b"", INVALID),
        ("gzip", b"x", INVALID),
        ("gzip", BODY, INVALID),
        ("gzip", zlib.compress(BODY), INVALID),
        ("gzip", PACKED[:5], INVALID),
        ("gzip", PACKED[:-1], INVALID),
        ("gzip", PACKED[:-8] + b"\0" * 8, INVALID),  # checksum and length
        ("gzip", PACKED + b"\0", INVALID),
        ("gzip", PACKED + BODY, INVALID),
        ("gzip", PACKED + b"\x1f\x8b", INVALID),
        ("gzip", PACKED[:12] + b"\xff" * 20 + PACKED[32:], INVALID),
        ("deflate", b"", INVALID),
        ("deflate", PACKED, INVALID),
        ("deflate", zlib.compress(BODY)[:-1], INVALID),
        ("deflate", zlib.compress(BODY) + b"x", INVALID),
        ("deflate", raw_deflate(BODY)[:-3], INVALID),
        ("deflate", raw_deflate(BODY) + b"x", INVALID),
        ("deflate", b"\x78\xbb" + b"\0\0\0\0" + raw_deflate(BODY), INVALID),  # wants a dictionary
        ("gzip, gzip", PACKED, INVALID),
        ("gzip, gzip", gzip.compress(PACKED[:-1]), INVALID),
        ("br", BODY, UNSUPPORTED),
        ("zstd", b"\x28\xb5\x2f\xfd", UNSUPPORTED),
        ("compress", BODY, UNSUPPORTED),
        ("gzip, br", PACKED, UNSUPPORTED),
        ("gzip;q=1", PACKED, UNSUPPORTED),
        ("gzip, gzip, gzip", gzip.compress(gzip.compress(PACKED)), UNSUPPORTED),
        (", ".join(["gzip"] * 5_000), PACKED, UNSUPPORTED),
        ("é", BODY, UNSUPPORTED),
        ("gzip", gzip.compress(b"nope"), (400, "invalid_request_error", None)),
        ("gzip", gzip.compress(b""), (400, "invalid_request_error", None)),
    ],
    ids=named,
)
def test_what_cannot_be_decoded_is_400_by_its_code(
    server: Running, encoding: str, sent: bytes, answer: tuple[int, str, str | None]
) -> None:
    for endpoint in ENDPOINTS:
        reply = httpx2.post(
            f"{server.base_url}{endpoint}",
            content=sent,
            headers=[(b"x-api-key", server.key.encode()), (b"content-encoding", encoding.encode("latin-1"))],
        )
        assert refused(reply) == answer


EMPTY_BLOCK = b"\0\0\0\xff\xff"  # of deflate: it gives nothing, and more may follow


def empty_blocks(count: int) -> bytes:
    """A gzip stream that goes on and on and gives nothing."""
    return PACKED[:10] + EMPTY_BLOCK * count


@pytest.mark.behaviour(
    "messages-and-inference-2.3-too-large-decoded",
    "messages-and-inference-2.4-too-large-after-decoding",
)
@pytest.mark.behaviour("client-surface-1.6-code-too-large-after-decoding")
@pytest.mark.parametrize(
    ("encoding", "bomb", "answer"),
    [
        ("gzip", gzip.compress(b" " * (LIMIT + 1)), OVER_DECODED),
        ("deflate", zlib.compress(b" " * 50_000_000), OVER_DECODED),
        ("deflate", raw_deflate(b" " * 50_000_000), OVER_DECODED),
        ("gzip, gzip", gzip.compress(gzip.compress(b" " * 100_000_000)), OVER_DECODED),
        ("gzip, gzip", gzip.compress(empty_blocks(2_000_000)), OVER_DECODED),  # much between, nothing in the end
        ("gzip", gzip.compress(b"") * 9_000, INVALID),
        ("gzip, gzip", gzip.compress(gzip.compress(b"") * 9_000), INVALID),
        ("gzip", gzip.compress(b" ") * 9_000, INVALID),
        ("gzip", empty_blocks(30_000), INVALID),
    ],
    ids=named,
)
def test_a_bomb_is_refused_before_it_has_grown(
    server: Running, encoding: str, bomb: bytes, answer: tuple[int, str, str | None]
) -> None:
    assert len(bomb) < LIMIT
    assert refused(post(server, bomb, content_encoding=encoding)) == answer


@pytest.mark.anyio
async def test_what_is_held_while_decoding_is_bounded() -> None:
    """Some 400 KB that become 100 MB, and a limit of 2 MB: no more than that is ever held."""
    limit = 2_000_000
    bomb = gzip.compress(b"\0" * 100_000_000, 1)
    decoding = decoding_of([b"gzip"], limit)
    assert decoding is not None
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge):
            await decoding.feed(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit + 500_000


@pytest.mark.anyio
async def test_more_than_a_little_is_decoded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    gather = Decoding._gather

    def watched(self: Decoding, pieces: Iterator[bytes], enough: int) -> bool:
        threads.add(threading.get_ident())
        return gather(self, pieces, enough)

    monkeypatch.setattr(Decoding, "_gather", watched)

    async def decode(encoding: bytes, sent: bytes) -> bytes:
        threads.clear()
        decoding = decoding_of([encoding], 10_000_000)
        assert decoding is not None
        await decoding.feed(sent)
        return decoding.finish()

    here = {threading.get_ident()}
    assert await decode(b"gzip", gzip.compress(b"x" * 20_000)) == b"x" * 20_000
    assert threads == here
    assert await decode(b"gzip", gzip.compress(b"x" * 500_000)) == b"x" * 500_000
    assert len(threads) == 2
    assert await decode(b"gzip", gzip.compress(b"x" * 50_000, 0)) == b"x" * 50_000
    assert not threads & here
    assert await decode(b"gzip, gzip", gzip.compress(gzip.compress(b"x"))) == b"x"
    assert not threads & here


@given(data=st.binary(max_size=200_000), level=st.integers(0, 9), cut=st.integers(1, 70_000), twice=st.booleans())
@settings(max_examples=50, deadline=None)
@pytest.mark.anyio
async def test_however_a_body_is_cut_it_comes_out_whole(data: bytes, level: int, cut: int, twice: bool) -> None:
    sent = gzip.compress(zlib.compress(data, level) if twice else data, level)
    decoding = decoding_of([b"deflate", b"gzip"] if twice else [b"gzip"], 250_000)
    assert decoding is not None
    for at in range(0, len(sent), cut):
        await decoding.feed(sent[at : at + cut])
    assert decoding.finish() == data


@given(data=st.binary(max_size=300), encoding=st.sampled_from([b"gzip", b"deflate", b"gzip,deflate"]))
@settings(max_examples=200, deadline=None)
@pytest.mark.anyio
async def test_noise_is_a_refusal_and_never_another_error(data: bytes, encoding: bytes) -> None:
    decoding = decoding_of([encoding], 1_000)
    assert decoding is not None
    try:
        await decoding.feed(data)
        decoding.finish()
    except InvalidRequest as error:
        assert error.details == {"error_code": "request_body_encoding_invalid"}
    except RequestTooLarge as error:
        assert error.details == {"error_code": "request_body_too_large_after_decoding"}


@pytest.mark.behaviour("messages-and-inference-1-content-type", "messages-and-inference-2.4-charset")
@pytest.mark.behaviour("client-surface-1.3-content-type", "client-surface-1.6-code-charset")
@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        ("application/json; charset=utf-8", None),
        ("application/json;charset=UTF-8", None),
        ('Application/JSON; Charset="Utf-8"', None),
        ("application/json; charset=utf8; profile=x", None),
        ("application/json; charset=iso-8859-1", CHARSET),
        ("application/json; charset=utf-16", CHARSET),
        ('application/json; profile=x; charset="latin1"', CHARSET),
        ("application/json; charset=", CHARSET),
        ("text/plain; charset=windows-1252", CHARSET),
        ("text/plain", None),
        ("application/x-www-form-urlencoded", None),  # what `curl -d` says
        ("application/json; boundary", None),
        ("", None),
        (";", None),
        ("json", None),
        ("application/json;" + ";" * 4_000, None),
        ("multipart/form-data; boundary=x", (400, "invalid_request_error", None)),
        ("Multipart/Mixed", (400, "invalid_request_error", None)),
    ],
)
def test_content_types(server: Running, content_type: str, answer: tuple[int, str, str | None] | None) -> None:
    for endpoint in ENDPOINTS:
        reply = post(server, BODY, endpoint, content_type=content_type)
        if answer is None:
            assert reply.status_code == 200, reply.text
        else:
            assert refused(reply) == answer


def test_a_missing_content_type_is_tolerated(server: Running) -> None:
    reply = post(server, BODY)
    assert "content-type" not in reply.request.headers
    assert reply.status_code == 200


def test_a_form_with_files_is_told_what_is_wanted(server: Running) -> None:
    reply = httpx2.post(
        f"{server.base_url}/v1/messages",
        files={"file": ("../../etc/passwd", b"x" * 1000), "other": b"y"},
        headers={"x-api-key": server.key},
    )
    assert refused(reply) == (400, "invalid_request_error", None)
    assert "application/json" in reply.json()["error"]["message"]


class Talk:
    """A connection that is spoken over by hand."""

    def __init__(self, server: Running, *headers: str, key: str | None = None, path: str = "/v1/messages") -> None:
        self.connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        lines = [f"POST {path} HTTP/1.1", "host: x", f"x-api-key: {key or server.key}", *headers, "", ""]
        self.connection.sendall("\r\n".join(lines).encode())

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def rest(self) -> bytes:
        """What comes until the server closes."""
        answer = b""
        while part := self.connection.recv(65536):
            answer += part
        return answer


def status_line(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("key", [None, "sk-ant-api03-wrong"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_announced_over_the_limit_is_refused_unread_whoever_asks(
    server: Running, endpoint: str, key: str | None
) -> None:
    with Talk(server, f"content-length: {LIMIT + 1}", key=key, path=endpoint) as talk:
        answer = talk.connection.recv(65536)
        assert status_line(answer) == b"HTTP/1.1 413 Request Entity Too Large"
        assert b"connection: close\r\n" in answer
        assert b'"type":"request_too_large"' in answer
        assert talk.rest() == b""
    with Talk(server, "content-length: 99999999999999999", key=key, path=endpoint) as talk:
        assert status_line(talk.connection.recv(65536)).startswith(b"HTTP/1.1 413")


def test_the_limit_itself_is_allowed(server: Running) -> None:
    filled = BODY + b" " * (LIMIT - len(BODY))
    assert post(server, filled).status_code == 200
    assert post(server, gzip.compress(filled), content_encoding="gzip").status_code == 200
    assert refused(post(server, filled + b" ")) == OVER
    assert refused(post(server, gzip.compress(filled + b" "), content_encoding="gzip")) == OVER_DECODED
    assert post(server, iter([filled])).status_code == 200


def test_an_unannounced_body_is_refused_as_soon_as_it_is_over(server: Running) -> None:
    """The sender has not finished, and never will."""
    chunk = b"%x\r\n" % 50_000 + b" " * 50_000 + b"\r\n"
    with Talk(server, "transfer-encoding: chunked") as talk:
        for _ in range(4):
            talk.connection.sendall(chunk)
        talk.connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            talk.connection.recv(1)  # just at the limit
        talk.connection.settimeout(10)
        talk.connection.sendall(chunk)
        answer = talk.rest()
    assert status_line(answer).startswith(b"HTTP/1.1 413")
    assert b"connection: close\r\n" in answer


def test_the_compressed_size_is_bounded_too(server: Running) -> None:
    """Nothing comes out of it, and still it may not go on for ever."""
    stream = empty_blocks(LIMIT // 5 + 1)
    assert refused(post(server, stream, content_encoding="gzip")) == OVER
    assert refused(post(server, iter([stream]), content_encoding="gzip")) == OVER


def test_who_sends_too_much_finds_the_answer_before_the_end_of_the_connection(server: Running) -> None:
    """The whole body is on its way when the refusal comes: the connection is not reset under it."""
    size = 30_000_000
    with Talk(server, f"content-length: {size}") as talk:
        talk.connection.sendall(b" " * size)
        answer = talk.rest()
    assert status_line(answer).startswith(b"HTTP/1.1 413")


def test_expect_100_continue(server: Running) -> None:
    announced = (f"content-length: {len(BODY)}", "expect: 100-continue", "connection: close")
    with Talk(server, *announced) as talk:
        assert talk.connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        talk.connection.sendall(BODY)
        assert status_line(talk.rest()) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("headers", "key", "status"),
    [
        ((f"content-length: {LIMIT + 1}",), None, b"413"),
        (("content-length: 100",), "wrong", b"401"),
        (("content-length: 100", "anthropic-version: 1999-01-01"), None, b"400"),
        (("content-length: 100", "content-encoding: br"), None, b"400"),
        (("content-length: 100", "content-type: text/plain; charset=utf-16"), None, b"400"),
    ],
)
def test_who_asks_first_is_refused_before_the_body_and_its_connection_closed(
    server: Running, headers: tuple[str, ...], key: str | None, status: bytes
) -> None:
    """Whether a body follows is the client's choice: nothing after this can be told apart."""
    with Talk(server, *headers, "expect: 100-continue", key=key) as talk:
        answer = talk.connection.recv(65536)
        talk.connection.shutdown(socket.SHUT_WR)
        answer += talk.rest()
    assert answer.split()[1] == status
    assert b"connection: close\r\n" in answer
    assert b"100 Continue" not in answer


def test_a_compressed_body_has_the_same_deadline(scripted: StartScripted) -> None:
    server = scripted(receive_seconds=0.3)
    with Talk(server, f"content-length: {len(PACKED)}", "content-encoding: gzip") as talk:
        talk.connection.sendall(PACKED[:-1])
        answer = talk.rest()
    assert status_line(answer) == b"HTTP/1.1 400 Bad Request"
    assert b'"error_code":"request_body_timeout"' in answer
