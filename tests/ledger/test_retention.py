"""Records past their days become sums; younger ones, and sums of money, stay as they are."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from records import record
from sqlalchemy import func, select

from antiphon.core.records import DEFAULT_ORGANIZATION, Cost
from antiphon.ledger import retention as module
from antiphon.ledger.retention import UsageRetention
from antiphon.store import database as database_module
from antiphon.store import reports, usage, workspaces
from antiphon.store.database import Database, open_database
from antiphon.store.reports import DAY_MS, HOUR_MS, Question
from antiphon.store.tables import usage_records

pytestmark = pytest.mark.anyio

_NOW_MS = 1_760_000_000_000


class _Clock:
    def now_ms(self) -> int:
        return _NOW_MS

    def monotonic(self) -> float:
        return _NOW_MS / 1000


@pytest.fixture
async def database(tmp_path: Path, anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(database_module, "_BUSY_SECONDS", 0.1)
    opened = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await opened.migrate()
    async with opened.transaction() as connection:
        await workspaces.ensure_defaults(connection, 1)
        ages_ms = [n * DAY_MS // 4 for n in range(40)]
        mine = [
            msgspec.structs.replace(record(n), created_ms=_NOW_MS - age_ms, cost=Cost(input_nano=n, output_nano=1))
            for n, age_ms in enumerate(ages_ms)
        ]
        await usage.post(connection, mine)
    yield opened
    await opened.close()


async def _left(database: Database) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(usage_records))).scalar_one())


async def _sums(database: Database) -> tuple[int, int]:
    async with database.reading() as connection:
        found = await reports.total(DEFAULT_ORGANIZATION, connection, Question(from_ms=0, until_ms=_NOW_MS + 1))
    return found.requests, found.cost.total_nano


async def test_what_is_past_its_days_is_rolled_up_and_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PORTION", 4)
    monkeypatch.setattr(module, "_BREATH_SECONDS", 0)
    retention = UsageRetention(database, _Clock(), days=3)
    before = await _sums(database)
    old = sum((_NOW_MS - n * DAY_MS // 4) < (_NOW_MS - 3 * DAY_MS) // HOUR_MS * HOUR_MS for n in range(40))
    assert await retention.round() == old == 27
    assert await retention.round() == 0
    assert await _left(database) == 13
    assert await _sums(database) == before == (40, sum(range(40)) + 40)
    assert retention.figures() == module.RetentionFigures(27, 2, 0, None)


async def test_nothing_is_rolled_up_before_the_journal_is_posted(database: Database) -> None:
    posted = False
    retention = UsageRetention(database, _Clock(), days=3, settled=lambda: posted)
    assert await retention.round() == 0
    assert await _left(database) == 40
    posted = True
    assert await retention.round() == 27


async def test_a_database_that_is_away_for_a_while_is_asked_again(database: Database, tmp_path: Path) -> None:
    retention = UsageRetention(database, _Clock(), days=3, every_s=0.01)
    with closing(sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(retention.run())
        async with asyncio.timeout(60):
            while not retention.figures().failures:
                await asyncio.sleep(0.01)
        assert "locked" in str(retention.figures().last_error)
        assert await _left(database) == 40
        other.execute("ROLLBACK")
    async with asyncio.timeout(60):
        while not retention.figures().rounds:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _left(database) == 13
    assert retention.figures().last_error is None
