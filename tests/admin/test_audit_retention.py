"""What is past its time goes, what is not stays; and a loop that fails tries again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import IntegrityError

from antiphon.admin import retention as module
from antiphon.admin.retention import DAY_MS, Removed, Retention
from antiphon.core.records import DEFAULT_ORGANIZATION, Scope
from antiphon.store import activities, request_logs
from antiphon.store.activities import KEPT_MS, Activity, Actor
from antiphon.store.database import Database, open_database
from antiphon.store.request_logs import RequestLog

pytestmark = pytest.mark.anyio

NOW_MS = time.time_ns() // 1_000_000


class SetClock:
    """Stands where it is put."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    yield opened
    await opened.close()


async def put_acts(database: Database, *ages_ms: int) -> None:
    async with database.transaction() as connection:
        for number, age_ms in enumerate(ages_ms):
            act = Activity(
                id=f"activity_{number}",
                organization=DEFAULT_ORGANIZATION,
                created_ms=NOW_MS - age_ms,
                type="x",
                actor=Actor("system_actor"),
            )
            await activities.record(DEFAULT_ORGANIZATION, connection, act)


async def put_logs(database: Database, *ages_ms: int) -> None:
    logs = [
        RequestLog(f"req_{number}", Scope(DEFAULT_ORGANIZATION, f"wrkspc_{number % 3}"), NOW_MS - age_ms, b"q", b"a")
        for number, age_ms in enumerate(ages_ms)
    ]
    async with database.transaction() as connection:
        await request_logs.put(connection, logs)


async def left(database: Database) -> tuple[int, int]:
    async with database.reading() as connection:
        acts = await activities.newest(DEFAULT_ORGANIZATION, connection, 1000)
        logs = await request_logs.newest(DEFAULT_ORGANIZATION, connection, 1000)
    return len(acts), len(logs)


async def test_each_goes_when_its_time_is_up(database: Database) -> None:
    await put_acts(database, KEPT_MS + DAY_MS + 1, KEPT_MS + DAY_MS, KEPT_MS, 0)
    await put_logs(database, 30 * DAY_MS + 1, 30 * DAY_MS, 0)
    retention = Retention(database, SetClock(), request_days=30)
    assert await retention.prune() == Removed(activities=1, requests=1)
    assert await left(database) == (3, 2)
    assert await retention.prune() == Removed(0, 0)


async def test_as_time_goes_on_more_goes(database: Database) -> None:
    await put_logs(database, *range(0, 10 * DAY_MS, DAY_MS))
    clock = SetClock()
    retention = Retention(database, clock, request_days=7)
    gone = []
    for _ in range(9):
        gone.append((await retention.prune()).requests)
        clock.ms += DAY_MS
    assert gone == [2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert await left(database) == (0, 0)


async def test_a_mountain_of_requests_is_removed_in_portions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 7)
    monkeypatch.setattr(module, "_BREATH_SECONDS", 0)
    await put_logs(database, *([2 * DAY_MS] * 50), 0)
    assert await Retention(database, SetClock(), request_days=1).prune() == Removed(activities=0, requests=50)
    assert await left(database) == (0, 1)


async def test_a_clock_that_runs_ahead_removes_nothing_of_the_audit(database: Database) -> None:
    """Ours says that seven years have passed; the database knows better."""
    await put_acts(database, 0, 0)
    ahead = SetClock(NOW_MS + 7 * 366 * DAY_MS)
    with pytest.raises(IntegrityError):
        await Retention(database, ahead, request_days=1).prune()
    assert await left(database) == (2, 0)


async def test_the_loop_goes_on_after_a_failure(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    await put_acts(database, 0)
    await put_logs(database, 0)
    clock = SetClock(NOW_MS + 7 * 366 * DAY_MS)
    task = asyncio.create_task(Retention(database, clock, request_days=1).run())
    try:
        async with asyncio.timeout(60):
            while (await left(database))[1]:
                await asyncio.sleep(0.01)
            clock.ms = NOW_MS
            await put_logs(database, 2 * DAY_MS)
            while (await left(database))[1]:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
    assert await left(database) == (1, 0)
