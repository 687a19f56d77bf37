"""Transactions: whole or not at all, in turn, and with errors of our own."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from antiphon.store import changes, tables
from antiphon.store import database as module
from antiphon.store.database import Database, StoreUnavailable, open_database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


async def _version(database: Database) -> int:
    async with database.reading() as connection:
        return await changes.version(connection)


async def test_what_raises_is_rolled_back(database: Database) -> None:
    with pytest.raises(KeyError):
        async with database.transaction() as connection:
            await changes.bump(connection, "keys")
            raise KeyError
    assert await _version(database) == 0


async def test_what_is_cancelled_is_rolled_back_and_frees_the_lock(database: Database) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as connection:
            await changes.bump(connection, "keys")
            inside.set()
            await asyncio.sleep(60)

    for _ in range(20):
        inside.clear()
        task = asyncio.create_task(hold())
        await asyncio.wait_for(inside.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(60), database.transaction() as connection:
        await changes.bump(connection, "keys")
    assert await _version(database) == 1


async def test_a_cancelled_statement_frees_the_lock_at_once(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as connection:
            rows = [{"subject": f"{number}", "counter": 0} for number in range(5_000)]
            await connection.execute(tables.changes.insert(), rows)
            raise AssertionError("cancelled before this")

    gc.disable()  # it would close what was left open, sooner or later
    try:
        for turn in range(10):
            task = asyncio.create_task(write())
            await asyncio.sleep(0.002 + turn / 1000)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(60), database.transaction() as connection:
                await changes.bump(connection, "keys")
    finally:
        gc.enable()
    assert await _version(database) == 10


async def test_cancelled_while_it_connects_it_leaves_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed = 0, 0

    class Counted(sqlite3.Connection):
        def __init__(self, *args: Any, **more: Any) -> None:
            nonlocal opened
            super().__init__(*args, **more)
            opened += 1

        def close(self) -> None:
            nonlocal closed
            super().close()
            closed += 1

    monkeypatch.setattr(module, "_SqliteConnection", Counted)

    async def read(database: Database) -> None:
        async with database.reading():
            pass

    for turn in range(40):
        database = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
        task = asyncio.create_task(read(database))
        await asyncio.sleep(turn / 10_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()
    assert opened == closed > 0


async def test_writers_take_turns_and_lose_nothing(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as connection:
            before = await changes.version(connection)
            await asyncio.sleep(0)
            await changes.bump(connection, "keys")
            assert await changes.version(connection) == before + 1

    await asyncio.gather(*(write() for _ in range(40)))
    assert await _version(database) == 40


async def test_a_database_locked_by_another_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    impatient = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await impatient.migrate()
    with closing(sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable) as raised:
            async with impatient.transaction() as connection:
                await changes.bump(connection, "keys")
        assert "locked" in raised.value.reason
        assert raised.value.message == "Overloaded"  # what a client may read names neither database nor path
        other.execute("ROLLBACK")
    async with impatient.transaction() as connection:
        await changes.bump(connection, "keys")
    await impatient.close()


async def test_a_full_disk_is_unavailable_and_heals(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE filler (content BLOB)"))
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreUnavailable, match="Overloaded") as raised:
        async with database.transaction() as connection:
            await connection.execute(text(f"PRAGMA max_page_count = {pages}"))
            await connection.execute(text("INSERT INTO filler VALUES (zeroblob(1000000))"))
    assert "full" in raised.value.reason
    async with database.transaction() as connection:
        await connection.execute(text("PRAGMA max_page_count = 100000"))
        await connection.execute(text("INSERT INTO filler VALUES (zeroblob(1000000))"))
