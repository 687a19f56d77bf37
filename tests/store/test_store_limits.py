"""Limits as rows, and what the ledger says was spent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import SystemClock
from antiphon.core.errors import NotFound
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Cost, Usage, UsageRecord
from antiphon.store import changes, limits, spent, usage, workspaces
from antiphon.store.database import open_database
from antiphon.store.limits import RateLimit
from antiphon.store.tables import organizations, usage_rollups

pytestmark = pytest.mark.anyio

_IDS = Ids(SystemClock())
_OTHER = "org_other"
_HOUR_MS = 3_600_000


@pytest.fixture
async def connection(store_url: str, anyio_backend: str) -> AsyncIterator[AsyncConnection]:
    database = open_database(store_url)
    await database.migrate()
    async with database.transaction() as opened:
        await workspaces.ensure_defaults(opened, 1)
        await opened.execute(insert(organizations).values(id=_OTHER, name="Other", created_ms=1))
        yield opened
    await database.close()


async def test_rate_limits_are_set_cleared_and_left_alone(connection: AsyncConnection) -> None:
    before = await changes.version(connection)
    values = {"requests_per_minute": 50, "input_tokens_per_minute": 10_000_000_000}
    await limits.set_rate_limits(DEFAULT_ORGANIZATION, connection, "opus_5", values, workspace="wrkspc_a")
    assert await changes.version(connection) == before + 1
    await limits.set_rate_limits(DEFAULT_ORGANIZATION, connection, "opus_5", {"requests_per_minute": 7})
    await limits.set_rate_limits(_OTHER, connection, "opus_5", {"requests_per_minute": 1})
    await limits.set_rate_limits(
        DEFAULT_ORGANIZATION,
        connection,
        "opus_5",
        {"requests_per_minute": None, "output_tokens_per_minute": 0},
        workspace="wrkspc_a",
    )
    assert await limits.all_rate_limits(DEFAULT_ORGANIZATION, connection) == (
        RateLimit(None, "opus_5", "requests_per_minute", 7),
        RateLimit("wrkspc_a", "opus_5", "input_tokens_per_minute", 10_000_000_000),
        RateLimit("wrkspc_a", "opus_5", "output_tokens_per_minute", 0),
    )
    assert await limits.all_rate_limits(_OTHER, connection) == (RateLimit(None, "opus_5", "requests_per_minute", 1),)


async def test_a_spend_limit_keeps_its_id_until_it_is_removed(connection: AsyncConnection) -> None:
    made, before = await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "daily", 5, 10)
    assert before is None
    again, before = await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "daily", None, 20)
    assert before == made
    assert (again.id, again.amount_nano, again.created_ms, again.updated_ms) == (made.id, None, 10, 20)
    assert await limits.spend_limit(DEFAULT_ORGANIZATION, connection, made.id) == again
    weekly, _ = await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "weekly", 4 * 10**15, 30)
    own, _ = await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "daily", 0, 40, workspace="wrkspc_a")
    assert await limits.all_spend_limits(DEFAULT_ORGANIZATION, connection) == (own, weekly, again)
    version = await changes.version(connection)
    assert await limits.delete_spend_limit(DEFAULT_ORGANIZATION, connection, made.id) == again
    assert await changes.version(connection) == version + 1
    anew, _ = await limits.set_spend_limit(DEFAULT_ORGANIZATION, connection, _IDS, "daily", 5, 50)
    assert anew.id != made.id


async def test_another_organizations_limit_is_none(connection: AsyncConnection) -> None:
    theirs, _ = await limits.set_spend_limit(_OTHER, connection, _IDS, "daily", 5, 10)
    for wanted in (theirs.id, "spl_nothing"):
        with pytest.raises(NotFound, match="Spend limit not found"):
            await limits.spend_limit(DEFAULT_ORGANIZATION, connection, wanted)
        with pytest.raises(NotFound, match="Spend limit not found"):
            await limits.delete_spend_limit(DEFAULT_ORGANIZATION, connection, wanted)
    assert await limits.all_spend_limits(DEFAULT_ORGANIZATION, connection) == ()
    assert await limits.all_spend_limits(_OTHER, connection) == (theirs,)


def _record(id: str, workspace: str, at_ms: int, cost: Cost, organization: str = DEFAULT_ORGANIZATION) -> UsageRecord:
    return UsageRecord(
        request_id=id,
        organization=organization,
        workspace=workspace,
        key_id="apikey_1",
        endpoint="/v1/messages",
        requested_model="m",
        served_model="m",
        outcome="end_turn",
        usage=Usage(),
        attempts=(),
        created_ms=at_ms,
        duration_us=1,
        cost=cost,
    )


async def _rolled_up(connection: AsyncConnection, workspace: str, hour_ms: int, cost: Cost) -> None:
    texts = ("key_id", "requested_model", "served_model", "service_tier", "speed", "geography")
    row = dict.fromkeys((*texts, "context_window", "user_id", "workflow"), "x")
    row |= {"organization": DEFAULT_ORGANIZATION, "workspace": workspace}
    numbers = {"hour_ms": hour_ms, "requests": 1, **dict.fromkeys(Usage.__struct_fields__, 0)}
    costs = {name: getattr(cost, name) for name in Cost.__struct_fields__}
    await connection.execute(insert(usage_rollups).values({**row, **numbers, **costs}))


async def test_what_was_spent_is_the_five_costs_of_records_and_rollups(connection: AsyncConnection) -> None:
    assert await spent.total(DEFAULT_ORGANIZATION, connection, 0, 10**15) == 0
    assert await spent.by_workspace(DEFAULT_ORGANIZATION, connection, 0, 10**15) == {}
    large = Cost(1, 20, 300, 4_000, 9_000_000_000_000_000)
    await usage.post(
        connection,
        [
            _record("r1", "wrkspc_a", _HOUR_MS - 1, Cost(7, 0, 0, 0, 0)),
            _record("r2", "wrkspc_a", _HOUR_MS, large),
            _record("r3", DEFAULT_WORKSPACE, 2 * _HOUR_MS - 1, Cost(0, 0, 0, 0, 50_000)),
            _record("r4", "wrkspc_a", 2 * _HOUR_MS, Cost(7, 0, 0, 0, 0)),
            _record("r5", "wrkspc_b", _HOUR_MS, Cost(9, 0, 0, 0, 0), _OTHER),
        ],
    )
    await _rolled_up(connection, "wrkspc_a", _HOUR_MS, Cost(1, 1, 1, 1, 1))
    await _rolled_up(connection, "wrkspc_a", 0, Cost(100, 0, 0, 0, 0))
    of_a = 9_000_000_000_004_321 + 5
    span = (_HOUR_MS, 2 * _HOUR_MS)
    assert await spent.total(DEFAULT_ORGANIZATION, connection, *span, workspace="wrkspc_a") == of_a
    assert await spent.total(DEFAULT_ORGANIZATION, connection, *span) == of_a + 50_000
    assert await spent.by_workspace(DEFAULT_ORGANIZATION, connection, *span) == {
        "wrkspc_a": of_a,
        DEFAULT_WORKSPACE: 50_000,
    }
    assert await spent.total(_OTHER, connection, 0, 10**15) == 9
