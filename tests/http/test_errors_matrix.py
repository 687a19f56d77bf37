"""Every error that is served: its status, its type, the SDK's class for it, and one envelope for all of them; and the
texts that clients meet (contract messages-and-inference 2)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from antiphon.gate.keys import NewKey, create_key
from antiphon.store import keys
from conftest import StartScripted
from running import SCOPE, Running, scripted_settings

HELLO: Any = [{"role": "user", "content": "Hello"}]
OLD = {"anthropic-version": "2023-06-01"}
ENDPOINTS = ["/v1/messages", "/v1/messages/count_tokens"]
MEGABYTES = 1024 * 1024
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
CALL: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    script = "rules: [{match: fails, text: 'one two', fault: {kind: stop, after: 1}}]"
    running = Running(scripted_settings(tmp_path_factory.mktemp("errors"), script))
    yield running
    running.close()


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Where the asked-for id's own rules bind."""
    running = Running(scripted_settings(tmp_path_factory.mktemp("bound"), "rules: []", profile="claude"))
    yield running
    running.close()


async def _made_key(server: Running, *, expires_ms: int | None = None, status: keys.Status = "active") -> NewKey:
    app = server.app
    made = await create_key(SCOPE, app.database, app.parts.ids, app.parts.clock, name="other", expires_ms=expires_ms)
    async with app.database.transaction() as connection:
        await keys.set_status(SCOPE, connection, made.record.id, status)
    await app.gate.load()
    return made


def envelope(error: anthropic.APIStatusError) -> dict[str, Any]:
    """The inner part of the error's body; the outer part is checked."""
    body: Any = error.body
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == error.request_id == error.response.headers["request-id"]
    assert body["request_id"].startswith("req_")
    assert set(body["error"]) - {"details"} == {"type", "message"}
    assert body["error"]["message"]
    assert error.response.headers["content-type"] == "application/json"
    return dict(body["error"])


def asked(server: Running, *, key: str | None = None, **change: Any) -> None:
    request: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": HELLO}
    server.client(**({"api_key": key} if key else {})).messages.create(**(request | change))


@pytest.mark.behaviour(
    "messages-and-inference-2.1-400",
    "messages-and-inference-2.1-401",
    "messages-and-inference-2.1-403",
    "messages-and-inference-2.1-404",
    "messages-and-inference-2.1-500",
    "messages-and-inference-2.2-envelope",
    "messages-and-inference-2.2-request-id",
)
@pytest.mark.parametrize(
    ("kind", "status", "type_", "ask"),
    [
        (anthropic.BadRequestError, 400, "invalid_request_error", lambda s: asked(s, max_tokens=-1)),
        (anthropic.AuthenticationError, 401, "authentication_error", lambda s: asked(s, key="sk-ant-api03-wrong")),
        (anthropic.PermissionDeniedError, 403, "permission_error", lambda s: asked(s, key=s.make_key(admin=True))),
        (anthropic.NotFoundError, 404, "not_found_error", lambda s: asked(s, model="gpt-4")),
        (anthropic.NotFoundError, 404, "not_found_error", lambda s: s.client().models.retrieve("gpt-4")),
        (anthropic.NotFoundError, 404, "not_found_error", lambda s: s.client().get("/v1/nothing", cast_to=object)),
        (anthropic.InternalServerError, 500, "api_error", lambda s: asked(s, messages=[{"role": "user", "content": "fails"}])),
    ],
)  # fmt: skip
def test_each_status_has_its_type_and_its_class(
    server: Running, kind: type[anthropic.APIStatusError], status: int, type_: str, ask: Callable[[Running], None]
) -> None:
    with pytest.raises(kind) as raised:
        ask(server)
    assert raised.value.status_code == status
    assert envelope(raised.value)["type"] == raised.value.type == type_


@pytest.mark.behaviour("messages-and-inference-2.1-401")
def test_a_key_is_refused_however_it_came_to_be_wrong(server: Running) -> None:
    """Missing, malformed, unknown, expired, revoked: one status and one type."""
    now = server.app.parts.clock.now_ms()
    good = server.inside(_made_key(server))
    wrong = [
        server.inside(_made_key(server, expires_ms=now - 1)).key,
        server.inside(_made_key(server, status="archived")).key,
        good.key[:-1],
        good.key[:-6] + "xxxxAA",
        "sk-ant-api03",
    ]
    asked(server, key=good.key)
    for key in wrong:
        with pytest.raises(anthropic.AuthenticationError) as raised:
            asked(server, key=key)
        assert envelope(raised.value)["type"] == "authentication_error"
    bare = httpx2.post(f"{server.base_url}/v1/messages", json={})
    assert bare.status_code == 401
    assert bare.json()["error"] == {"type": "authentication_error", "message": "x-api-key header is required"}


@pytest.mark.behaviour("messages-and-inference-2.1-529", "messages-and-inference-2.2-envelope")
def test_a_full_server_is_529_and_overloaded(scripted: StartScripted) -> None:
    server = scripted("rules: [{match: slow, text: 'a b c d e f', delay_ms: 100}]", seats=1, queue=0)
    slow: Any = [{"role": "user", "content": "slow"}]
    with server.client().messages.stream(model="claude-opus-5-5", max_tokens=10, messages=slow) as held:
        next(iter(held.text_stream))
        with pytest.raises(anthropic.OverloadedError) as refused:
            asked(server)
    assert refused.value.status_code == 529
    assert envelope(refused.value)["type"] == "overloaded_error"


@pytest.mark.behaviour("messages-and-inference-2.1-400-for-other-4xx", "messages-and-inference-2.2-envelope")
def test_statuses_of_no_documented_type_have_the_same_envelope(server: Running) -> None:
    reply = httpx2.put(f"{server.base_url}/v1/messages", headers={"x-api-key": server.key})
    assert reply.status_code == 405
    body = reply.json()
    assert (body["type"], body["request_id"]) == ("error", reply.headers["request-id"])
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.behaviour("messages-and-inference-2.2-path")
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text.text"),
        ({"messages": [*HELLO, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": 5, "input": {}}]}]}, "messages.1.content.0.tool_use.name"),
        ({"tools": [TOOL, TOOL | {"name": "not good"}]}, "tools.1.custom.name"),
        ({"tools": [TOOL | {"input_schema": {"type": "array"}}]}, "tools.0.custom.input_schema.type"),
        ({"system": [{"type": "text", "text": " "}]}, "system.0.text"),
        ({"max_tokens": 1.5}, "max_tokens"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_dotted_path(server: Running, change: dict[str, Any], path: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        asked(server, **change)
    assert envelope(raised.value)["message"].startswith(f"{path}: ")


# -- sizes


@pytest.mark.behaviour(
    "messages-and-inference-2.3-messages", "messages-and-inference-2.3-count-tokens", "messages-and-inference-2.1-413"
)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_body_may_have_32_megabytes_and_not_a_byte_more(server: Running, path: str) -> None:
    """One over is refused as soon as it is announced; the limit itself is read, to the last blank."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {server.key}\r\ncontent-length: {32 * MEGABYTES + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sender:
        sender.sendall(head.encode())
        answer = sender.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"type":"request_too_large"' in answer
    body = b'{"model":"claude-opus-5-5","max_tokens":1,"messages":[{"role":"user","content":"Hello"}]}'
    filled = body + b" " * (32 * MEGABYTES - len(body))
    reply = httpx2.post(f"{server.base_url}{path}", content=filled, headers={"x-api-key": server.key}, timeout=60)
    assert reply.status_code == 200, reply.text


@pytest.mark.behaviour("messages-and-inference-2.1-413-class")
def test_the_sdk_has_a_class_of_its_own_for_413(scripted: StartScripted) -> None:
    """Its list of types has no such one: the status alone chooses the class."""
    server = scripted(body_bytes=10_000)
    with pytest.raises(anthropic.ContentTooLargeError) as raised:
        asked(server, messages=[{"role": "user", "content": "x" * 20_000}])
    assert raised.value.status_code == 413
    assert envelope(raised.value)["type"] == "request_too_large"


# -- texts


def message_of(server: Running, path: str, request: dict[str, Any]) -> str:
    """What a request is told that must be refused with 400."""
    reply = httpx2.post(f"{server.base_url}{path}", json=request, headers={"x-api-key": server.key} | OLD, timeout=60)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["type"] == "invalid_request_error"
    return str(reply.json()["error"]["message"])


PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."
WITHOUT_TEXT = [{"role": "user", "content": [{"type": "text", "text": ""}]}]
BLANK = [{"role": "user", "content": [{"type": "text", "text": " \n\t"}]}]
MANUAL = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    ("model", "change", "text"),
    [
        pytest.param("claude-opus-4-6", {"messages": [*HELLO, {"role": "assistant", "content": "So"}]}, PREFILL, marks=pytest.mark.behaviour("messages-and-inference-2.7-prefill")),
        *(pytest.param(model, MANUAL, 'thinking: "thinking.type.enabled" is not supported for this model', marks=pytest.mark.behaviour("messages-and-inference-2.7-thinking-enabled")) for model in ("claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-opus-5-5", "claude-haiku-5-5")),
        *(pytest.param(model, {"thinking": {"type": "adaptive"}}, "thinking: adaptive thinking is not supported on this model", marks=pytest.mark.behaviour("messages-and-inference-2.7-thinking-adaptive")) for model in ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")),
        *(pytest.param(model, {"thinking": {"type": "disabled"}}, 'thinking: "thinking.type.disabled" is not supported for this model', marks=pytest.mark.behaviour("messages-and-inference-2.7-thinking-disabled")) for model in ("claude-fable-5", "claude-mythos-5-2", "claude-opus-5-5")),
        pytest.param("claude-opus-5-5", {"tools": [TOOL], "messages": [*HELLO, CALL, *HELLO]}, "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. Each `tool_use` block must have a corresponding `tool_result` block in the next message.", marks=pytest.mark.behaviour("messages-and-inference-2.7-unanswered-call")),
        pytest.param("claude-opus-5-5", {"messages": WITHOUT_TEXT}, "messages.0.content.0.text: messages: text content blocks must be non-empty", marks=pytest.mark.behaviour("messages-and-inference-2.7-empty-text")),
        pytest.param("claude-opus-5-5", {"messages": BLANK}, "messages.0.content.0.text: messages: text content blocks must contain non-whitespace text", marks=pytest.mark.behaviour("messages-and-inference-2.7-blank-text")),
    ],
)  # fmt: skip
def test_texts_that_clients_meet(bound: Running, path: str, model: str, change: dict[str, Any], text: str) -> None:
    """To the letter, behind the path of what they are about."""
    request = {"model": model, "messages": HELLO} | ({"max_tokens": 2000} if path == ENDPOINTS[0] else {}) | change
    assert message_of(bound, path, request) == text


@pytest.mark.behaviour("messages-and-inference-2.7-too-long")
def test_a_prompt_that_is_too_long_is_told_with_its_length(bound: Running) -> None:
    messages = [{"role": "user", "content": "x" * 250_000}]
    request = {"model": "claude-haiku-4-5", "messages": messages}
    tokens = httpx2.post(
        f"{bound.base_url}{ENDPOINTS[1]}", json=request, headers={"x-api-key": bound.key}, timeout=60
    ).json()["input_tokens"]
    told = message_of(bound, ENDPOINTS[0], request | {"max_tokens": 1})
    assert told == f"prompt is too long: {tokens} tokens > 199999 maximum"


@pytest.mark.behaviour("messages-and-inference-2.6-no-server-rule")
def test_a_long_plain_answer_is_no_fault_for_the_server(server: Running) -> None:
    """Its SDK alone refuses to wait for more than 21,333 tokens without a stream."""
    with pytest.raises(ValueError, match="Streaming is required"):
        server.client().messages.create(model="claude-opus-5-5", max_tokens=21_334, messages=HELLO)
    told = server.client(timeout=60).messages.create(model="claude-opus-5-5", max_tokens=21_334, messages=HELLO)
    assert told.usage.output_tokens == 21_334
