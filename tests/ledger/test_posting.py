"""Posting: every record of the journal reaches the database once, however often either of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from records import ids, record
from sqlalchemy import func, select, text

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope, Usage, UsageRecord
from antiphon.ledger.framing import frames
from antiphon.ledger.journal import Journal
from antiphon.ledger.posting import Posting, Unpostable, into
from antiphon.store import usage
from antiphon.store.database import Database, StoreUnavailable, open_database
from antiphon.store.tables import usage_attempts, usage_records

pytestmark = pytest.mark.anyio

_SCOPE = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def journal(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal", segment_bytes=5000)
    await opened.open()
    yield opened
    await opened.close()


class _Sink:
    """Takes records like the database does, once each; fails as told."""

    def __init__(self) -> None:
        self.taken: dict[str, UsageRecord] = {}
        self.calls = 0
        self.away = 0
        self.poison: set[str] = set()

    async def __call__(self, records: Sequence[UsageRecord]) -> int:
        self.calls += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailable("gone for a while")
        if any(item.request_id in self.poison for item in records):
            raise Unpostable("never")
        before = len(self.taken)
        for item in records:
            self.taken.setdefault(item.request_id, item)
        return len(self.taken) - before


async def _append(journal: Journal, numbers: range) -> None:
    for number in numbers:
        await journal.append(record(number))


async def _until(condition: object, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def _posted(database: Database) -> list[str]:
    async with database.reading() as connection:
        rows = await connection.execute(select(usage_records.c.request_id).order_by(usage_records.c.request_id))
        attempts = await connection.execute(select(func.count()).select_from(usage_attempts))
        found = list(rows.scalars())
        assert attempts.scalar_one() == len(found)
    return found


async def test_what_is_appended_reaches_the_database(journal: Journal, database: Database) -> None:
    posting = Posting(journal, into(database), linger_s=0.01, most=7)
    running = asyncio.create_task(posting.run())
    await _append(journal, range(30))
    await _until(lambda: posting.figures().pending == 0)
    await _append(journal, range(30, 40))
    await _until(lambda: posting.figures().pending == 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await _posted(database) == ids(range(40))
    async with database.reading() as connection:
        assert await usage.get(_SCOPE, connection, "req_00000007") == record(7)


async def test_posted_segments_are_deleted(journal: Journal, tmp_path: Path) -> None:
    posting = Posting(journal, _Sink(), most=4)
    await _append(journal, range(60))
    assert len(list((tmp_path / "journal").glob("*.log"))) > 3
    assert await posting.drain(5)
    assert len(list((tmp_path / "journal").glob("*.log"))) == 1
    assert posting.figures().pending == 0


async def test_the_next_start_posts_what_was_left(tmp_path: Path, database: Database) -> None:
    for start in range(4):
        journal = Journal(tmp_path / "own", segment_bytes=3000)
        await journal.open()
        posting = Posting(journal, into(database), most=5)
        await _append(journal, range(start * 10, start * 10 + 10))
        for _ in range(start):
            await posting.step()
        await journal.close()
    journal = Journal(tmp_path / "own")
    await journal.open()
    posting = Posting(journal, into(database))
    assert posting.figures().pending == journal.figures().leftover > 0
    assert await posting.drain(5)
    assert posting.figures().pending == 0
    await journal.close()
    assert await _posted(database) == ids(range(40))


async def test_a_crash_between_commit_and_checkpoint_posts_nothing_twice(
    journal: Journal, tmp_path: Path, database: Database
) -> None:
    await _append(journal, range(20))
    first = Posting(journal, into(database), most=6)
    await first.step()
    before = (tmp_path / "journal" / "posted").read_bytes()
    await first.step()
    (tmp_path / "journal" / "posted").write_bytes(before)
    second = Posting(journal, into(database), most=20)
    assert await second.drain(5)
    assert await _posted(database) == ids(range(20))


@pytest.mark.parametrize("damage", [b"", b"\0" * 30, b"garbage"])
async def test_a_damaged_checkpoint_costs_time_only(tmp_path: Path, database: Database, damage: bytes) -> None:
    for numbers in (range(10), range(10, 15)):
        journal = Journal(tmp_path / "own")
        await journal.open()
        await _append(journal, numbers)
        await Posting(journal, into(database), most=4).step()
        await journal.close()
        (tmp_path / "own" / "posted").write_bytes(damage)
    journal = Journal(tmp_path / "own")
    await journal.open()
    assert await Posting(journal, into(database)).drain(5)
    await journal.close()
    assert await _posted(database) == ids(range(15))


async def test_while_the_database_is_away_appends_go_on_and_nothing_is_lost(journal: Journal) -> None:
    sink = _Sink()
    sink.away = 3
    posting = Posting(journal, sink, linger_s=0.01, most=5)
    running = asyncio.create_task(posting.run())
    for numbers in (range(10), range(10, 20)):
        await _append(journal, numbers)
        await asyncio.sleep(0.05)
    assert posting.figures().last_error == "gone for a while"
    assert posting.figures().pending == 20
    await _until(lambda: posting.figures().pending == 0)
    assert posting.figures().failures == 3
    assert posting.figures().last_error is None
    assert sorted(sink.taken) == ids(range(20))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_drain_without_the_database_leaves_the_rest_for_the_next_start(journal: Journal) -> None:
    sink = _Sink()
    sink.away = 1
    posting = Posting(journal, sink)
    await _append(journal, range(5))
    assert not await posting.drain(1)
    assert posting.figures().pending == 5
    assert await posting.drain(1)
    assert sorted(sink.taken) == ids(range(5))


async def test_a_drain_keeps_its_time(journal: Journal) -> None:
    async def hang(_records: Sequence[UsageRecord]) -> int:
        await asyncio.sleep(60)
        return 0

    await _append(journal, range(5))
    async with asyncio.timeout(50):
        assert not await Posting(journal, hang).drain(0.05)


async def test_a_record_the_database_never_takes_holds_up_no_other(journal: Journal, tmp_path: Path) -> None:
    sink = _Sink()
    sink.poison = {"req_00000003", "req_00000011"}
    posting = Posting(journal, sink, most=8)
    await _append(journal, range(20))
    assert await posting.drain(5)
    figures = posting.figures()
    assert (figures.posted, figures.rejected, figures.pending) == (18, 2, 0)
    kept = frames((tmp_path / "journal" / "rejected").read_bytes())
    assert [msgspec.msgpack.decode(payload, type=UsageRecord) for payload, _ in kept] == [record(3), record(11)]


async def test_the_real_database_refuses_a_number_that_is_too_large(journal: Journal, database: Database) -> None:
    monster = msgspec.structs.replace(record(1), usage=Usage(input_tokens=2**63))
    await journal.append(record(0))
    await journal.append(monster)
    await journal.append(record(2))
    posting = Posting(journal, into(database))
    assert await posting.drain(5)
    assert posting.figures().rejected == 1
    assert await _posted(database) == ["req_00000000", "req_00000002"]


async def test_a_database_without_its_tables_is_away_and_not_a_reason_to_set_records_aside(
    journal: Journal, database: Database
) -> None:
    await _append(journal, range(3))
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE usage_records RENAME TO elsewhere"))
    posting = Posting(journal, into(database))
    assert not await posting.drain(5)
    assert posting.figures().rejected == 0
    error = str(posting.figures().last_error)
    assert "no such table" in error or "does not exist" in error
    assert "apikey_1" not in error
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO usage_records"))
    assert await posting.drain(5)
    assert await _posted(database) == ids(range(3))


async def test_cancelling_at_any_moment_loses_and_doubles_nothing(journal: Journal, database: Database) -> None:
    await _append(journal, range(300))
    posting = Posting(journal, into(database), linger_s=0, most=10)
    for turn in range(25):
        running = asyncio.create_task(posting.run())
        await asyncio.sleep(turn / 1000)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await posting.drain(10)
    assert posting.figures().pending == 0
    assert await _posted(database) == ids(range(300))
