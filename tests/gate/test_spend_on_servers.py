"""Budgets on real servers: two hundred requests at once against a budget for ten, on one server and on two that share a
Valkey server and a database; what the ledger then has is never more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.store import limits, spent
from conftest import StartScripted
from running import Running, at_once

_SCRIPT = """
rules:
  - text: "one two three four five"
    delay_ms: 10
"""
_REQUEST: Any = {
    "model": "claude-opus-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Count to five"}],
}


async def _set(running: Running, amount_nano: int) -> None:
    async with running.app.database.transaction() as connection:
        await limits.set_spend_limit(
            DEFAULT_ORGANIZATION,
            connection,
            running.app.parts.ids,
            "monthly",
            amount_nano,
            running.app.parts.clock.now_ms(),
        )


async def _spent(running: Running) -> int:
    await running.app._posting.caught_up()
    async with running.app.database.reading() as connection:
        return await spent.total(DEFAULT_ORGANIZATION, connection, 0, 2**62)


def _cost(running: Running) -> int:
    """What one of these requests costs, nano-dollars."""
    running.client().messages.create(**_REQUEST)
    return running.inside(_spent(running))


def _check(replies: list[httpx2.Response], *, most: int) -> int:
    """How many were let in."""
    admitted = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code != 200]
    assert 1 <= len(admitted) <= most
    assert len(refused) >= len(replies) - most
    for reply in refused:
        assert reply.status_code == 400, reply.text
        error = reply.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith("You have reached your specified API usage limits. You will regain access")
    return len(admitted)


@pytest.mark.behaviour("messages-and-inference-2.1-400-own-spend-limit", "messages-and-inference-2.2-own-limit-text")
def test_two_hundred_at_once_against_a_budget_for_ten(scripted: StartScripted) -> None:
    running = scripted(_SCRIPT, queue=256)
    cost = _cost(running)
    assert cost > 0
    running.inside(_set(running, 11 * cost))  # one is spent already
    running.inside(running.app.gate.load())
    admitted = _check(asyncio.run(at_once([running], _REQUEST, 200)), most=10)
    assert running.inside(_spent(running)) == (1 + admitted) * cost
    # What was reserved and not spent is there again, until all of it is spent.
    while _check_one(running):
        admitted += 1
    assert 10 <= admitted <= 11
    assert running.inside(_spent(running)) == (1 + admitted) * cost


def _check_one(running: Running) -> bool:
    try:
        running.client().messages.create(**_REQUEST)
    except anthropic.BadRequestError as error:
        assert "specified API usage limits" in error.message
        return False
    return True


def test_two_servers_share_a_budget(scripted: StartScripted, valkey: str, tmp_path: Path) -> None:
    shared = {"database": f"sqlite+aiosqlite:///{tmp_path / 'shared.db'}", "limits_store": valkey, "queue": 256}
    servers = [scripted(_SCRIPT, **shared) for _ in range(2)]
    cost = _cost(servers[0])
    servers[0].inside(_set(servers[0], 11 * cost))
    for server in servers:
        server.inside(server.app.gate.load())
    admitted = _check(asyncio.run(at_once(servers, _REQUEST, 200)), most=10)
    for server in servers:
        server.inside(server.app._posting.caught_up())
    assert servers[0].inside(_spent(servers[0])) == (1 + admitted) * cost


@pytest.mark.behaviour(
    "messages-and-inference-2.2-spend-cap",
    "messages-and-inference-2.4-enforced-spend-limit",
    "client-surface-1.6-code-enforced-spend-limit",
)
def test_the_tiers_cap_says_no_time(scripted: StartScripted, monkeypatch: pytest.MonkeyPatch) -> None:
    running = scripted(_SCRIPT, tier="start")
    cap = 500 * 10**9

    async def used_up(accounts: Any) -> list[int]:
        return [cap for _ in accounts]

    spending = running.app.parts.entrance.spending
    monkeypatch.setattr(spending, "_ledger", used_up)
    running.inside(spending.recount())
    with pytest.raises(anthropic.RateLimitError) as refusal:
        running.client().messages.create(**_REQUEST)
    error = refusal.value
    assert type(error).__name__ == "EnforcedSpendLimitReachedError"
    assert (error.status_code, error.type) == (429, "rate_limit_error")
    assert error.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in error.response.headers
    assert error.response.headers["x-should-retry"] == "false"
    assert "-01 at 00:00 UTC" in error.message
