"""The log of requests: what is finished is written, within bounds of number and bytes; what finds no room is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from antiphon.core.clock import SystemClock
from antiphon.core.errors import NotFound
from antiphon.core.records import Scope
from antiphon.ledger.requestlog import Bounds, Keeper
from antiphon.store import request_logs
from antiphon.store.database import Database, open_database
from antiphon.store.request_logs import RequestLog

pytestmark = pytest.mark.anyio

ORG = "org_default"
LAB = Scope(ORG, "wrkspc_lab")
CLOCK = SystemClock()


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    yield opened
    await opened.close()


async def read(database: Database, request_id: str) -> RequestLog:
    async with database.reading() as connection:
        return await request_logs.find(ORG, connection, request_id)


async def count(database: Database) -> int:
    async with database.reading() as connection:
        return len(await request_logs.newest(ORG, connection, 10_000))


def keep(keeper: Keeper, number: int, *pieces: bytes, request: bytes = b"asked", scope: Scope = LAB) -> bool:
    entry = keeper.begin(scope, f"req_{number:04}", request)
    if entry is None:
        return False
    for piece in pieces:
        entry.add(piece)
    entry.close()
    return True


async def test_what_was_asked_and_answered_is_read_as_it_was(database: Database) -> None:
    keeper = Keeper(database, CLOCK)
    before_ms = CLOCK.now_ms()
    body = bytes(range(256)) * 10
    assert keep(keeper, 1, b"event: a\n", b"", b"\n\xff", request=body)
    assert keep(keeper, 2, scope=Scope(ORG, "wrkspc_other"))
    await keeper.drain(30)
    kept = await read(database, "req_0001")
    assert (kept.scope, kept.request, kept.answer) == (LAB, body, b"event: a\n\n\xff")
    assert before_ms <= kept.created_ms <= CLOCK.now_ms()
    assert (await read(database, "req_0002")).answer == b""
    async with database.reading() as connection:
        (lab,) = await request_logs.newest(ORG, connection, 10, workspace=LAB.workspace)
        assert lab.request_id == "req_0001"
        assert await request_logs.newest("org_else", connection, 10) == ()
        with pytest.raises(NotFound):
            await request_logs.find("org_else", connection, "req_0001")
    figures = keeper.figures()
    assert (figures.written, figures.dropped, figures.waiting, figures.held_bytes) == (2, 0, 0, 0)


async def test_what_is_too_long_is_cut_and_says_so(database: Database) -> None:
    keeper = Keeper(database, CLOCK, Bounds(entry_bytes=10))
    keep(keeper, 1, b"12345", b"67890", request=b"0123456789")
    keep(keeper, 2, b"1234567", b"8901234", b"5", request=b"0123456789a")
    await keeper.drain(30)
    exact, cut = await read(database, "req_0001"), await read(database, "req_0002")
    assert (exact.request, exact.answer) == (b"0123456789", b"1234567890")
    assert cut.request == b"0123456789\n[cut off here: 11 bytes in all]"
    assert cut.answer == b"1234567890\n[cut off here: 15 bytes in all]"
    assert keeper.figures().held_bytes == 0


async def test_the_queue_is_bounded_in_number(database: Database) -> None:
    keeper = Keeper(database, CLOCK, Bounds(entries=3))
    open_entry = keeper.begin(LAB, "req_open", b"x")
    assert [keep(keeper, number) for number in range(4)] == [True, True, False, False]
    assert open_entry is not None
    open_entry.close()
    assert keeper.figures().dropped == 2
    await keeper.drain(30)
    assert await count(database) == 3
    assert keep(keeper, 9)


async def test_all_that_is_held_is_bounded_in_bytes(database: Database) -> None:
    keeper = Keeper(database, CLOCK, Bounds(bytes=100))
    assert keep(keeper, 1, b"a" * 40, request=b"r" * 20)
    assert not keep(keeper, 2, request=b"r" * 41)
    grows = keeper.begin(LAB, "req_grows", b"r" * 30)
    assert grows is not None
    grows.add(b"b" * 10)
    assert keeper.figures().held_bytes == 100
    grows.add(b"c")  # no room: the whole entry goes, and its room with it
    grows.add(b"d")
    grows.close()
    assert keeper.figures().held_bytes == 60
    assert keeper.figures().dropped == 2
    await keeper.drain(30)
    assert (await count(database), keeper.figures().held_bytes) == (1, 0)


async def test_it_is_written_while_the_server_runs(database: Database) -> None:
    keeper = Keeper(database, CLOCK)
    task = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(60):
            for number in range(120):
                keep(keeper, number, b"answered")
                if number % 40 == 0:
                    await asyncio.sleep(0)
            while keeper.figures().waiting:
                await asyncio.sleep(0.01)
            keep(keeper, 500)
            while keeper.figures().waiting:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
    assert await count(database) == 121
    assert keeper.figures().written == 121


async def test_a_request_that_cannot_be_written_stops_no_other(database: Database) -> None:
    """A workspace of no name breaks the rules of the table."""
    keeper = Keeper(database, CLOCK)
    for number in range(6):
        keep(keeper, number, scope=Scope(ORG, None if number == 3 else "wrkspc_lab"))  # type: ignore[arg-type]
    await keeper.drain(30)
    figures = keeper.figures()
    assert (figures.written, figures.dropped, figures.waiting, figures.held_bytes) == (5, 1, 0, 0)
    assert await count(database) == 5


@pytest.fixture
async def local(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


async def test_a_database_that_is_away_is_waited_for_within_the_bounds(local: Database) -> None:
    async with local.transaction() as connection:
        await connection.execute(text("ALTER TABLE request_logs RENAME TO elsewhere"))
    keeper = Keeper(local, CLOCK, Bounds(entries=5))
    task = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(60):
            kept = [keep(keeper, number) for number in range(8)]
            assert kept == [True] * 5 + [False] * 3
            while keeper.figures().last_error is None:
                await asyncio.sleep(0.01)
            async with local.transaction() as connection:
                await connection.execute(text("ALTER TABLE elsewhere RENAME TO request_logs"))
            while keeper.figures().waiting:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
    assert await count(local) == 5
    figures = keeper.figures()
    assert (figures.written, figures.dropped, figures.last_error) == (5, 3, None)


async def test_what_cannot_be_written_at_the_end_is_counted(local: Database) -> None:
    async with local.transaction() as connection:
        await connection.execute(text("DROP TABLE request_logs"))
    keeper = Keeper(local, CLOCK)
    keep(keeper, 1)
    keep(keeper, 2)
    await keeper.drain(1)
    figures = keeper.figures()
    assert (figures.written, figures.dropped, figures.waiting, figures.held_bytes) == (0, 2, 0, 0)
    assert figures.last_error


async def test_nothing_of_what_was_removed_is_left_in_the_file(tmp_path: Path) -> None:
    canary = b"CANARY-83f1c2"
    database = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    # As SQLite is unless whoever built it has set otherwise.
    event.listen(database._engine.sync_engine, "connect", lambda c, _: c.execute("PRAGMA secure_delete = OFF").close())
    await database.migrate()
    keeper = Keeper(database, CLOCK)
    for number in range(5):
        keep(keeper, number, canary * 1000, request=canary * 300)
    await keeper.drain(30)
    assert any(canary in path.read_bytes() for path in tmp_path.iterdir())
    async with database.transaction() as connection:
        assert await request_logs.prune(connection, CLOCK.now_ms() + 1, 100) == 5
    await database.close()
    assert not any(canary in path.read_bytes() for path in tmp_path.iterdir())
