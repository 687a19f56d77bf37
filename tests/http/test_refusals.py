"""What is refused, with which status, type and path: before any seat or token is taken."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from conftest import StartScripted
from running import Running

USER = {"role": "user", "content": "Hello"}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "seen"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from running import scripted_settings

    running = Running(scripted_settings(tmp_path_factory.mktemp("refusals"), "rules: []"))
    yield running
    running.close()


def post(server: Running, change: dict[str, Any], path: str = "/v1/messages") -> httpx2.Response:
    request = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [USER]} | change
    return httpx2.post(f"{server.base_url}{path}", json=request, headers={"x-api-key": server.key}, timeout=30)


def told(reply: httpx2.Response) -> str:
    """The message of a well-formed envelope."""
    body = reply.json()
    assert body["type"] == "error"
    assert body["request_id"] == reply.headers["request-id"]
    assert reply.headers["content-type"] == "application/json"
    return str(body["error"]["message"])


IMAGE: Any = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
SEARCHED: Any = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}


def result(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": content}]}


def says(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.behaviour("messages-and-inference-3.1-roles", "messages-and-inference-3.3-blank-stop-refused")
@pytest.mark.behaviour("client-surface-2.1-messages-required", "client-surface-2.1-messages-roles")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 5}, "model: Input should be a valid string"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"max_tokens": 1.5}, "max_tokens: Input should be a valid integer"),
        ({"temperature": 1.1}, "temperature: Input should be less than or equal to 1"),
        ({"messages": "hi"}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be 'assistant', 'system' or 'user'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text.text: Field required"),
        (says(""), "messages.0.content: messages: text content blocks must be non-empty"),
        (says(" \n"), "messages.0.content: messages: text content blocks must contain non-whitespace text"),
        ({"system": [{"type": "text", "text": ""}]}, "system.0.text: system: text content blocks must be non-empty"),
        ({"stop_sequences": ["ok", " "]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"max_tokens": 0, "stream": True}, "max_tokens: max_tokens must be at least 1 when streaming"),
        ({"messages": [USER, {"role": "assistant", "content": "so "}]}, "messages: final assistant content cannot end with trailing whitespace"),
        ({"messages": [{"role": "assistant", "content": "so"}]}, 'messages: first message must use the "user" role'),
        ({"messages": [{"role": "system", "content": "so"}, USER]}, "messages.0.role: a system message must follow a user turn and be last or be followed by an assistant turn"),
        ({"tools": [{"name": "look"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [TOOL | {"name": "no good"}]}, "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools: At least one tool must have defer_loading=false."),
        ({"tools": [TOOL], "messages": [USER, CALL, result([{"type": "tool_reference", "tool_name": "gone"}])]}, "messages.2.content.0.content.0: Tool reference 'gone' not found in available tools"),
        ({"tools": [TOOL], "messages": [USER, CALL, result([SEARCHED, {"type": "text", "text": "x"}])]}, "messages.2.content.0.content: if one block is a `search_result`, all must be"),
        ({"thinking": {"type": "disabled", "display": "omitted"}}, "thinking.disabled.display: Extra inputs are not permitted"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1024}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        ({"fallbacks": "default", "fallback_credit_token": "t"}, "fallback_credit_token: may not be combined with `fallbacks`"),
        ({"messages": [USER, {"role": "system"}]}, "messages.1.content: Field required"),
        ({"messages": [USER, {"role": "assistant", "content": [IMAGE]}, USER]}, "messages.1.content.0: `image` blocks are not allowed in assistant messages"),
        ({"messages": [USER, {"role": "assistant", "content": [SEARCHED]}, USER]}, "messages.1.content.0: `search_result` blocks are not allowed in assistant messages"),
        ({"messages": [{"role": "user", "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]}]}, "messages.0.content.0: `server_tool_use` blocks are not allowed in user messages"),
        ({"tools": [TOOL], "messages": [USER, CALL]}, "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. Each `tool_use` block must have a corresponding `tool_result` block in the next message."),
        ({"tools": [TOOL], "messages": [USER, CALL, USER]}, "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. Each `tool_use` block must have a corresponding `tool_result` block in the next message."),
        ({"messages": [RESULT]}, "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t1. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_path_and_in_the_apis_words(
    server: Running, change: dict[str, Any], message: str
) -> None:
    reply = post(server, change)
    assert (reply.status_code, told(reply)) == (400, message)


@pytest.mark.behaviour("messages-and-inference-3.3-container")
@pytest.mark.behaviour(
    "client-surface-2.1-container-read",
    "client-surface-2.1-mcp-servers-read",
    "client-surface-2.4-web-search",
)
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, "tools.0.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}, "thinking.budget_tokens"),
        ({"mcp_servers": [{"type": "url", "name": "a", "url": "https://a"}]}, "mcp_servers"),
        ({"container": "container_1"}, "container"),
        ({"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}, "billing_policy.bill_to"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}}]}]}, "messages.0.content.0"),
    ],
)  # fmt: skip
def test_a_promise_that_is_not_kept_yet_is_refused_by_path(server: Running, change: dict[str, Any], path: str) -> None:
    for endpoint in ("/v1/messages", "/v1/messages/count_tokens"):
        reply = post(server, change, endpoint)
        if endpoint.endswith("count_tokens") and path == "container":
            continue  # no field of that endpoint
        assert reply.status_code == 400
        assert told(reply).startswith(f"{path}: ")
        assert "not supported by this server yet" in told(reply)


@pytest.mark.behaviour("messages-and-inference-2.2-details", "messages-and-inference-2.4-thread-unsupported")
@pytest.mark.behaviour("client-surface-0-thread-refused-by-code", "client-surface-1.6-code-thread-unsupported")
def test_threads_are_refused_with_the_code_that_makes_the_sdk_do_without(server: Running) -> None:
    reply = post(server, {"thread": {"type": "create"}})
    assert reply.status_code == 400
    assert reply.json()["error"]["details"] == {"error_code": "thread_unsupported_request"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("compaction", {"type": "summarize"}),
        ("fallbacks", [{"model": "claude-opus-5"}]),
        ("fallback_credit_token", "t"),
        ("fallback_credit_token", {"token": "t", "mode": "strict"}),
    ],
)
def test_a_promise_about_the_answer_is_refused_where_one_is_asked_for(
    server: Running, option: str, value: object
) -> None:
    assert told(post(server, {option: value})).startswith(f"{option}: ")
    counted = httpx2.post(
        f"{server.base_url}/v1/messages/count_tokens",
        json={"model": "claude-opus-5-5", "messages": [USER], option: value},
        headers={"x-api-key": server.key},
    )
    assert counted.status_code == 200


@pytest.mark.behaviour("messages-and-inference-4-eager-option")
@pytest.mark.behaviour(
    "client-surface-2.1-messages-prefill",
    "client-surface-2.1-tool-choice-auto",
    "client-surface-2.1-thinking-hints",
    "client-surface-2.1-output-config-effort",
    "client-surface-2.1-metadata",
    "client-surface-2.1-service-tier",
    "client-surface-2.1-cache-control-read",
    "client-surface-2.3-tool-result-null",
    "client-surface-2.4-custom",
    "client-surface-2.4-bash",
    "client-surface-2.4-text-editor-20250728",
)
@pytest.mark.parametrize(
    "change",
    [
        {"tools": [TOOL], "tool_choice": {"type": "auto"}},
        {"tools": [TOOL | {"cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}, TOOL | {"name": "later", "defer_loading": True}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}]},
        {"tools": [TOOL], "messages": [USER, CALL, RESULT]},
        {"tools": [TOOL], "messages": [USER, CALL, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": None, "is_error": True}]}]},
        {"thinking": {"type": "adaptive"}},
        {"thinking": {"type": "disabled"}},
        {"output_config": {"effort": "high"}},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        {"messages": [USER, {"role": "system", "content": "Be brief."}]},
        {"messages": [USER, USER, {"role": "assistant", "content": "So"}]},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "So", "citations": None}]}, USER]},
        {"metadata": {"user_id": "u"}, "service_tier": "auto", "inference_geo": "us", "temperature": 0.5, "top_p": 0.9, "top_k": 5},
        {"something_new": {"deep": [1]}},
    ],
)  # fmt: skip
def test_what_only_allows_or_hints_is_accepted_and_counted(server: Running, change: dict[str, Any]) -> None:
    reply = post(server, change)
    assert reply.status_code == 200, reply.text
    counted = post(server, change, "/v1/messages/count_tokens")
    assert counted.json() == {"input_tokens": reply.json()["usage"]["input_tokens"]}
    assert reply.headers.get("antiphon-ignored") == ("something_new" if "something_new" in change else None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is empty; a JSON object is expected"),
        (b"nope", "The request body is not valid JSON"),
        (b"[1]", "The request body is not a JSON object"),
        (b'{"model": "x",}', "The request body is not valid JSON"),
        (b'{"model": NaN}', "The request body is not valid JSON"),
        (b'{"model": "\xff"}', "The request body is not valid JSON"),
        (b"\xef\xbb\xbf{}", "The request body is not valid JSON"),
        (b'{"messages": ' + b"[" * 100_000, "The request body is nested too deeply"),
    ],
)
def test_a_body_that_is_no_request_is_400_and_never_500(server: Running, body: bytes, message: str) -> None:
    reply = httpx2.post(f"{server.base_url}/v1/messages", content=body, headers={"x-api-key": server.key})
    assert (reply.status_code, told(reply)) == (400, message)


@pytest.mark.behaviour("client-surface-0-methods")
def test_paths_and_methods(server: Running) -> None:
    def ask(method: str, path: str) -> httpx2.Response:
        return httpx2.request(method, f"{server.base_url}{path}", headers={"authorization": f"Bearer {server.key}"})

    assert ask("HEAD", "/").status_code == 200
    assert ask("GET", "/").json()["name"] == "antiphon"
    assert ask("GET", "/v1/v1/models").status_code == 200  # a base URL that already ended in /v1
    assert ask("GET", "/v1/models?beta=true").status_code == 200
    assert ask("GET", "/v1/nothing").status_code == 404
    assert ask("GET", "/health/live").json() == {"status": "ok", "components": {}}
    wrong = ask("GET", "/v1/messages")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert told(wrong)


@pytest.mark.behaviour(
    "messages-and-inference-1-credential",
    "messages-and-inference-1-x-api-key",
    "messages-and-inference-1-bearer",
)
@pytest.mark.behaviour(
    "client-surface-0-key-as-bearer",
    "client-surface-0-older-version",
    "client-surface-0-request-id",
    "client-surface-0-scope-ids",
    "client-surface-1.2-none-is-401",
    "client-surface-1.8-json",
)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "KEY"}, 200),
        ({"authorization": "Bearer KEY"}, 200),
        ({"authorization": "bearer KEY"}, 200),
        ({"authorization": "Bearer KEY", "x-api-key": "KEY"}, 200),
        ({"authorization": "Bearer KEY", "x-api-key": "other"}, 401),
        ({"authorization": "Basic KEY"}, 401),
        ({"x-api-key": "KEYx"}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "KEY", "anthropic-version": "2023-06-01"}, 200),
        ({"x-api-key": "KEY", "anthropic-version": "2026-10-21"}, 200),
        ({"x-api-key": "KEY", "anthropic-version": "1999-01-01"}, 400),
        ({"x-api-key": "KEY", "anthropic-beta": "unheard-of-2030-01-01"}, 200),
    ],
)
def test_both_headers_are_one_identity(server: Running, headers: dict[str, str], status: int) -> None:
    sent = {name: value.replace("KEY", server.key) for name, value in headers.items()}
    for method, path, body in (
        ("GET", "/v1/models", None),
        ("POST", "/v1/messages", {"model": "claude-opus-5-5", "max_tokens": 1, "messages": [USER]}),
        ("POST", "/v1/messages/count_tokens", {"model": "claude-opus-5-5", "messages": [USER]}),
    ):
        reply = httpx2.request(method, f"{server.base_url}{path}", json=body, headers=sent)
        assert reply.status_code == status
        assert reply.headers["request-id"].startswith("req_")
        assert ("anthropic-workspace-id" in reply.headers) == (status != 401)
        assert ("anthropic-organization-id" in reply.headers) == (status != 401)


def test_a_sender_that_is_too_slow_is_told_so_and_sent_away(scripted: StartScripted) -> None:
    server = scripted(receive_seconds=0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sender:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {server.key}\r\ncontent-length: 1000\r\n\r\n"
        sender.sendall(head.encode() + b'{"model"')
        answer = b""
        while part := sender.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"error_code":"request_body_timeout"' in answer
    assert b"x-should-retry: true\r\n" in answer
    assert b"connection: close\r\n" in answer


def test_a_body_without_an_announced_length_is_bounded_too(scripted: StartScripted) -> None:
    server = scripted(body_bytes=50_000)

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    reply = httpx2.post(f"{server.base_url}/v1/messages", content=parts(), headers={"x-api-key": server.key})
    assert reply.status_code == 413
    assert reply.json()["error"]["type"] == "request_too_large"


def test_an_unknown_encoding_is_refused_by_its_code(server: Running) -> None:
    reply = httpx2.post(
        f"{server.base_url}/v1/messages", content=b"x", headers={"x-api-key": server.key, "content-encoding": "br"}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["details"] == {"error_code": "request_body_encoding_unsupported"}


def test_a_large_body_is_planned_without_holding_others_up(server: Running) -> None:
    """Two megabytes of conversation are counted while small requests go on being answered."""
    text = "The quick brown fox. " * 100_000
    began = time.monotonic()
    reply = post(server, says(text) | {"max_tokens": 1})
    assert reply.status_code == 400
    assert "prompt is too long" in told(reply)
    assert time.monotonic() - began < 30
