"""Limits that somebody sets reach the requests of this process and of others, from the database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Cost, Scope, Usage, UsageRecord
from antiphon.gate.governing import Governing, policy_of
from antiphon.gate.identity import Gate
from antiphon.gate.limits import tiers
from antiphon.gate.limits.buckets import LimitsUnavailable
from antiphon.gate.limits.limiter import Limiter
from antiphon.gate.limits.memory import MemoryBuckets
from antiphon.gate.limits.policy import Policy
from antiphon.gate.spend.budgets import Budgets
from antiphon.gate.spend.memory import MemoryAccounts
from antiphon.gate.spend.spending import Spending, from_database
from antiphon.store import limits, usage, workspaces
from antiphon.store.database import Database, open_database
from antiphon.store.limits import RateLimit

pytestmark = pytest.mark.anyio

_CLOCK = SystemClock()
_IDS = Ids(_CLOCK)
_A = Scope(DEFAULT_ORGANIZATION, "wrkspc_a")


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    async with opened.transaction() as connection:
        await workspaces.ensure_defaults(connection, 1)
    yield opened
    await opened.close()


class _Server:
    """What of a server is governed."""

    def __init__(self, database: Database) -> None:
        book = tiers.load()
        self.limiter = Limiter(Policy(book, "machine"), MemoryBuckets(_CLOCK), _CLOCK)
        budgets = Budgets(DEFAULT_ORGANIZATION, (), book.tier("machine"))
        self.spending = Spending(budgets, MemoryAccounts(), from_database(database), _CLOCK)
        self.gate = Gate(database, _CLOCK)
        self.gate.follow(Governing(DEFAULT_ORGANIZATION, self.limiter, self.spending).read)

    def requests(self, workspace: str) -> int:
        (limit, *_) = self.limiter.policy.workspace_limits(workspace, "opus_5")
        return limit.enforced


@pytest.mark.behaviour("messages-and-inference-13-workspace-limits")
async def test_a_limit_counts_when_the_gate_has_looked(database: Database) -> None:
    first, second = _Server(database), _Server(database)
    for server in (first, second):
        await server.gate.load()
    policy, budgets = first.limiter.policy, first.spending.budgets
    async with database.transaction() as connection:
        await limits.set_rate_limits(
            DEFAULT_ORGANIZATION, connection, "opus_5", {"requests_per_minute": 3}, workspace="wrkspc_a"
        )
    await first.gate.load()
    assert (first.requests("wrkspc_a"), first.requests("wrkspc_b")) == (3, 10_000_000)
    # Only what has changed is made anew: the cached rules of everything else stay.
    assert first.spending.budgets is budgets
    assert first.limiter.policy is not policy
    policy = first.limiter.policy
    async with database.transaction() as connection:
        await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "daily", 0, 1, workspace="wrkspc_a")
    for server in (first, second):
        await server.gate.load()
        assert server.requests("wrkspc_a") == 3
        with pytest.raises(InvalidRequest, match="workspace API usage limits"):
            await server.spending.reserve(_A, 1)
        await server.spending.reserve(Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE), 1)
    assert first.limiter.policy is policy


async def test_a_budget_begins_with_what_the_ledger_has(database: Database) -> None:
    record = UsageRecord(
        request_id="req_1",
        organization=DEFAULT_ORGANIZATION,
        workspace="wrkspc_a",
        key_id="apikey_1",
        endpoint="/v1/messages",
        requested_model="m",
        served_model="m",
        outcome="end_turn",
        usage=Usage(),
        attempts=(),
        created_ms=_CLOCK.now_ms(),
        duration_us=1,
        cost=Cost(input_nano=40, output_nano=50),
    )
    async with database.transaction() as connection:
        await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "monthly", 100, 1)
        await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "monthly", 95, 1, workspace="wrkspc_b")
        await usage.post(connection, [record])
    server = _Server(database)
    await server.gate.load()
    await server.spending.recount()
    held = await server.spending.reserve(_A, 10)
    with pytest.raises(InvalidRequest, match="specified API"):
        await server.spending.reserve(_A, 1)
    await held.settle(5)
    # The other workspace has spent nothing; what is left of the organization's binds it too.
    await server.spending.reserve(Scope(DEFAULT_ORGANIZATION, "wrkspc_b"), 5)
    with pytest.raises(InvalidRequest, match="specified API"):
        await server.spending.reserve(_A, 1)


async def test_nobody_is_let_in_whose_records_cannot_be_read(database: Database) -> None:
    async def posted() -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(LimitsUnavailable) as refusal:
        await from_database(database, posted=posted)(())
    assert refusal.value.reason == "the journal cannot be read: Permission denied"


def test_a_row_that_this_release_does_not_know_leaves_the_others_in_force() -> None:
    rows = [
        RateLimit("wrkspc_a", "opus_2", "requests_per_minute", 1),
        RateLimit("wrkspc_a", "opus_5", "tokens_per_day", 1),
        RateLimit("wrkspc_a", "token_count", "input_tokens_per_minute", 1),
        RateLimit(None, "opus_5", "requests_per_minute", -1),
        RateLimit(DEFAULT_WORKSPACE, "opus_5", "requests_per_minute", 1),
        RateLimit(None, "opus_5", "requests_per_minute", 9),
        RateLimit("wrkspc_a", "opus_5", "requests_per_minute", 4),
    ]
    policy = policy_of(tiers.load(), "start", rows)
    assert policy.organization_limits("opus_5")["requests_per_minute"] == 9
    enforced = {
        workspace: policy.workspace_limits(workspace, "opus_5")[0].enforced for workspace in ("wrkspc_a", "wrkspc_b")
    }
    assert enforced == {"wrkspc_a": 4, "wrkspc_b": 9}
