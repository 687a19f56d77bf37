"""Headers of a request and of its answer, and what each version of the API takes (contract messages-and-inference 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

import samples
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE
from running import Running, scripted_settings

USER: Any = {"role": "user", "content": "Hello"}
MESSAGES, COUNT, MODELS = "/v1/messages", "/v1/messages/count_tokens", "/v1/models"
OLD, NEW = "2023-06-01", "2026-10-21"
DOCUMENT: Any = {"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}}
SEARCH: Any = {
    "type": "search_result", "source": "s", "title": "t",
    "content": [{"type": "text", "text": "x", "citations": samples.CITATIONS}],
}  # fmt: skip
BETAS = [
    "interleaved-thinking-2025-05-14",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "model-context-window-exceeded-2025-08-26",
    "fast-mode-2026-02-01",
    "output-300k-2026-03-24",
    "compact-2026-01-12",
    "compact-2026-09-04",
    "message-threads-2026-08-12",
    "mid-conversation-tool-changes-2026-07-01",
    "mid-conversation-output-config-2026-07-01",
    "mid-conversation-system-clear-at-2026-08-21",
    "inline-tools-2026-09-15",
    "mcp-client-2025-11-20",
    "mcp-client-2026-09-15",
    "server-side-fallback-2026-06-01",
    "server-side-fallback-2026-07-01",
    "fallback-credit-2026-06-01",
    "fallback-credit-2026-07-01",
    "thinking-token-count-2026-05-13",
    "thinking-display-updates-2026-08-18",
    "thinking-binding-controls-2026-08-01",
    "task-budgets-2026-03-13",
    "advisor-tool-2026-03-01",
]
OBSOLETE_BETAS = [
    "files-api-2025-04-14",
    "skills-2025-10-02",
    "structured-outputs-2025-11-13",
    "prompt-caching-2024-07-31",
    "extended-cache-ttl-2025-04-11",
    "pdfs-2024-09-25",
    "token-counting-2024-11-01",
    "message-batches-2024-09-24",
    "cache-diagnosis-2026-04-07",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(scripted_settings(tmp_path_factory.mktemp("transport"), "rules: []"))
    yield running
    running.close()


def ask(server: Running, path: str, headers: list[tuple[str, str]], **change: Any) -> httpx2.Response:
    """A request with these headers; the key is among them, if there is to be one."""
    if path == MODELS:
        return httpx2.get(server.base_url + path, headers=headers)
    body = {"model": "claude-opus-4-6", "messages": [USER]} | ({"max_tokens": 1} if path == MESSAGES else {}) | change
    return httpx2.post(server.base_url + path, json=body, headers=headers)


@pytest.mark.behaviour("messages-and-inference-1-endpoints")
def test_the_official_client_finds_every_core_endpoint_that_is_served(server: Running) -> None:
    client = server.client()
    assert client.messages.create(model="claude-opus-5-5", max_tokens=1, messages=[USER]).type == "message"
    assert client.messages.count_tokens(model="claude-opus-5-5", messages=[USER]).input_tokens > 0
    assert client.models.list().data
    assert client.models.retrieve("claude-opus-5-5").id == "claude-opus-5-5"


@pytest.mark.behaviour("messages-and-inference-1-version-header")
@pytest.mark.parametrize(("version", "status"), [(None, 200), (OLD, 200), (NEW, 400), ("2024-01-01", 400)])
def test_without_a_version_a_request_is_of_the_oldest(server: Running, version: str | None, status: int) -> None:
    """Told by a temperature, which the newest version has no more."""
    headers = [("x-api-key", server.key)] + ([("anthropic-version", version)] if version else [])
    assert ask(server, MESSAGES, headers, temperature=1).status_code == status


@pytest.mark.behaviour("messages-and-inference-1-beta-header")
def test_betas_come_as_a_list_or_as_headers_of_their_own(server: Running) -> None:
    key = ("x-api-key", server.key)
    listed = ask(server, MESSAGES, [key, ("anthropic-beta", "new-a-2030-01-01, new-b-2030-01-01")])
    repeated = ask(
        server, MESSAGES, [key, ("anthropic-beta", "new-a-2030-01-01"), ("anthropic-beta", "new-b-2030-01-01")]
    )
    for reply in (listed, repeated):
        assert reply.status_code == 200
        assert reply.headers["antiphon-ignored"] == "new-a-2030-01-01,new-b-2030-01-01"


@pytest.mark.behaviour("messages-and-inference-1-user-profile-header", "messages-and-inference-1-workspace-header")
@pytest.mark.parametrize("path", [MESSAGES, COUNT, MODELS])
def test_a_profile_and_the_keys_own_workspace_may_be_named(server: Running, path: str) -> None:
    headers = [
        ("x-api-key", server.key),
        ("anthropic-workspace-id", DEFAULT_WORKSPACE),
        ("anthropic-user-profile-id", "uprof_1"),
    ]
    assert ask(server, path, headers).status_code == 200


@pytest.mark.behaviour(
    "messages-and-inference-1-request-id",
    "messages-and-inference-1-organization-id",
    "messages-and-inference-1-workspace-id",
)
def test_every_answer_says_what_it_is_and_whose(server: Running) -> None:
    """Who asks is told once it is known, whatever the answer."""
    key = ("x-api-key", server.key)
    answers = [
        (ask(server, MESSAGES, [key]), 200),
        (ask(server, COUNT, [key]), 200),
        (ask(server, MODELS, [key]), 200),
        (ask(server, MESSAGES, [key], stream=True), 200),
        (ask(server, MESSAGES, [key], max_tokens=-1), 400),
        (ask(server, MESSAGES, [key], model="gpt-4"), 404),
        (ask(server, MESSAGES, []), 401),
        (httpx2.get(f"{server.base_url}/v1/nothing", headers=[key]), 404),
        (httpx2.get(f"{server.base_url}/health/live"), 200),
    ]
    ids = [reply.headers["request-id"] for reply, _ in answers]
    assert len(set(ids)) == len(ids)
    for position, (reply, status) in enumerate(answers):
        assert reply.status_code == status
        assert reply.headers["request-id"].startswith("req_")
        known = position < 6
        assert reply.headers.get("anthropic-organization-id") == (DEFAULT_ORGANIZATION if known else None)
        assert reply.headers.get("anthropic-workspace-id") == (DEFAULT_WORKSPACE if known else None)
    assert DEFAULT_WORKSPACE.startswith("wrkspc_")


@pytest.mark.behaviour(
    "messages-and-inference-1-documents-in-assistant-turns",
    "messages-and-inference-1-citations-in-user-turns",
    "messages-and-inference-1-version-at-both-doors",
    "messages-and-inference-3.1-document-of-the-user",
)
@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([USER, {"role": "assistant", "content": [DOCUMENT]}, USER], "messages.1.content.0: `document` blocks are not allowed in assistant messages"),
        ([{"role": "user", "content": [{"type": "text", "text": "a", "citations": samples.CITATIONS}]}], "messages.0.content.0.citations: citations are not allowed in user messages"),
        ([{"role": "user", "content": [SEARCH]}], "messages.0.content.0.content.0.citations: citations are not allowed in user messages"),
    ],
)  # fmt: skip
def test_what_the_newest_version_took_away_is_refused_at_both_doors(
    server: Running, path: str, content: Any, told: str
) -> None:
    key = ("x-api-key", server.key)
    new = ask(server, path, [key, ("anthropic-version", NEW)], messages=content)
    assert (new.status_code, new.json()["error"]["message"]) == (400, told)
    old = ask(server, path, [key, ("anthropic-version", OLD)], messages=content)
    assert old.json().get("error", {}).get("message") != told


@pytest.mark.behaviour("messages-and-inference-1-citations-in-user-turns")
def test_empty_citations_and_those_of_an_answer_stay_allowed(server: Running) -> None:
    user = {"role": "user", "content": [{"type": "text", "text": "a", "citations": []}]}
    own = {"role": "assistant", "content": [{"type": "text", "text": "a", "citations": samples.CITATIONS}]}
    headers = [("x-api-key", server.key), ("anthropic-version", NEW)]
    assert ask(server, MESSAGES, headers, messages=[user, own, USER]).status_code == 200


@pytest.mark.behaviour("messages-and-inference-1-sampling-removed", "messages-and-inference-3.3-sampling-removed")
@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-haiku-4-5", "claude-sonnet-5-5", "scripted"])
@pytest.mark.parametrize(("name", "default"), [("temperature", 1), ("top_p", 1), ("top_k", 0)])
def test_sampling_is_gone_from_the_newest_version_on_every_model(
    server: Running, model: str, name: str, default: int
) -> None:
    """The SDK's major version sends the newest one; the default's own value is refused too."""
    client = server.client()
    with pytest.raises(anthropic.BadRequestError, match=f"^Error code: 400 .*{name}: this parameter was removed"):
        client.messages.create(model=model, max_tokens=1, messages=[USER], extra_body={name: default})
    headers = {"anthropic-version": OLD}
    client.messages.create(
        model=model, max_tokens=1, messages=[USER], extra_body={name: default}, extra_headers=headers
    )


@pytest.mark.behaviour("messages-and-inference-1-within-a-version")
def test_what_an_older_version_takes_it_goes_on_taking(server: Running) -> None:
    whole = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "metadata": {"user_id": "u"}, "stop_sequences": ["x"]}
    for headers in ([("anthropic-version", OLD)], []):
        assert ask(server, MESSAGES, [("x-api-key", server.key), *headers], **whole).status_code == 200


@pytest.mark.behaviour("messages-and-inference-1-known-betas", "messages-and-inference-1-obsolete-betas")
@pytest.mark.parametrize("betas", [BETAS, OBSOLETE_BETAS], ids=["current", "obsolete"])
def test_no_documented_beta_is_unknown(server: Running, betas: list[str]) -> None:
    for path in (MESSAGES, COUNT):
        for beta in betas:
            reply = ask(server, path, [("x-api-key", server.key), ("anthropic-beta", beta)])
            assert (beta, reply.status_code, reply.headers.get("antiphon-ignored")) == (beta, 200, None)
