"""Rules of a conversation whose breach has a text that clients may know, and those about who may say what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from running import Running, scripted_settings

USER: Any = {"role": "user", "content": "Hello"}
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("rules"), "rules: []"))
    yield running
    running.close()


def told(server: Running, change: dict[str, Any]) -> str:
    """What both endpoints say about the same breach."""
    said: set[str] = set()
    for path, more in (("/v1/messages", {"max_tokens": 5}), ("/v1/messages/count_tokens", {})):
        body = {"model": "claude-opus-5-5", "messages": [USER], **more, **change}
        reply = httpx2.post(f"{server.base_url}{path}", json=body, headers={"x-api-key": server.key}, timeout=30)
        assert reply.status_code == 400, reply.text
        said.add(reply.json()["error"]["message"])
    (message,) = said
    return message


def called(*content: Any) -> dict[str, Any]:
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": list(content)}
    return {
        "tools": [TOOL],
        "messages": [USER, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}],
    }


def found(text: str) -> dict[str, Any]:
    return {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": text}]}


@pytest.mark.behaviour("messages-and-inference-2.7-all-deferred")
def test_some_tool_must_be_there_from_the_start(server: Running) -> None:
    deferred = TOOL | {"defer_loading": True}
    assert told(server, {"tools": [deferred]}) == "tools: At least one tool must have defer_loading=false."


@pytest.mark.behaviour("messages-and-inference-2.7-unknown-reference")
def test_a_reference_names_a_tool_that_is_there(server: Running) -> None:
    message = told(server, called({"type": "tool_reference", "tool_name": "gone"}))
    assert message == "messages.2.content.0.content.0: Tool reference 'gone' not found in available tools"


@pytest.mark.behaviour("messages-and-inference-2.7-prefill-blank")
def test_a_beginning_does_not_end_in_a_blank(server: Running) -> None:
    begun = {"messages": [USER, {"role": "assistant", "content": "so "}]}
    assert told(server, begun) == "messages: final assistant content cannot end with trailing whitespace"


@pytest.mark.behaviour("messages-and-inference-2.7-blank-stop")
def test_a_stop_sequence_is_not_blank(server: Running) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [USER], "stop_sequences": ["ok", " "]}
    reply = httpx2.post(f"{server.base_url}/v1/messages", json=body, headers={"x-api-key": server.key})
    assert reply.json()["error"]["message"] == "stop_sequences: each stop sequence must contain non-whitespace"


@pytest.mark.behaviour("messages-and-inference-3.1-search-result-text-is-not-empty")
@pytest.mark.parametrize(("text", "ending"), [("", "must be non-empty"), (" ", "must contain non-whitespace text")])
def test_the_text_of_a_search_result_says_something(server: Running, text: str, ending: str) -> None:
    path = "messages.0.content.0.content.0.text"
    message = told(server, {"messages": [{"role": "user", "content": [found(text)]}]})
    assert message == f"{path}: messages: text content blocks {ending}"
    message = told(server, called(found(text)))
    assert message == f"messages.2.content.0.content.0.content.0.text: messages: text content blocks {ending}"


def test_calls_have_ids_of_their_own(server: Running) -> None:
    twice = called()
    twice["messages"][1]["content"] *= 2
    assert told(server, twice) == "messages.1.content.1: `tool_use` ids must be unique"


@pytest.mark.parametrize("extra", [{"clear_at": "never"}, {"output_config": {"effort": "low"}}])
def test_only_a_system_message_changes_the_conditions(server: Running, extra: dict[str, Any]) -> None:
    message = told(server, {"messages": [USER | extra]})
    assert message == "messages.0: `clear_at` and `output_config` belong to system messages"


@pytest.mark.behaviour("messages-and-inference-1-sampling-removed-when-counting")
@pytest.mark.parametrize(("name", "default"), [("temperature", 1), ("top_p", 1), ("top_k", 0)])
def test_a_count_has_no_sampling_parameters_from_the_newest_version_on(
    server: Running, name: str, default: int
) -> None:
    for version, status in (("2023-06-01", 200), ("2026-10-21", 400)):
        reply = httpx2.post(
            f"{server.base_url}/v1/messages/count_tokens",
            json={"model": "claude-opus-5-5", "messages": [USER], name: default},
            headers={"x-api-key": server.key, "anthropic-version": version},
        )
        assert reply.status_code == status, reply.text
        if status == 400:
            assert reply.json()["error"]["message"].startswith(f"{name}: ")


@pytest.mark.behaviour("messages-and-inference-1-workspace-header-must-match")
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/models"])
def test_a_workspace_that_is_named_is_the_key_s_own(server: Running, path: str) -> None:
    headers = {"x-api-key": server.key, "anthropic-workspace-id": "wrkspc_other"}
    method = "GET" if path == "/v1/models" else "POST"
    reply = httpx2.request(method, server.base_url + path, headers=headers)
    assert (reply.status_code, reply.json()["error"]["type"]) == (403, "permission_error")
    assert reply.headers["anthropic-workspace-id"] == "wrkspc_default"
