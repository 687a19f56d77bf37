"""The journal: what `append` returned for is on the disk, whatever happens to the disk before and after."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import ids, record

from antiphon.core.errors import Internal, SettingsError
from antiphon.core.records import UsageRecord
from antiphon.ledger.folder import Appender, JournalFolder, Position
from antiphon.ledger.framing import HEADER, framed
from antiphon.ledger.journal import Journal, JournalFailed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _opened(path: Path, **sizes: int) -> AsyncIterator[Journal]:
    journal = Journal(path, **sizes)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def _left(path: Path, most: int = 7) -> list[str]:
    """The request ids that a next start would post, in order."""
    found = []
    async with _opened(path) as journal:
        position = journal.posted
        while (batch := await journal.read(position, most)).end > position:
            found += [msgspec.msgpack.decode(payload, type=UsageRecord).request_id for payload in batch.payloads]
            position = batch.end
        assert position == journal.durable
        assert len(found) == journal.figures().leftover
    return found


async def test_what_was_appended_is_there_in_order(tmp_path: Path) -> None:
    async with _opened(tmp_path / "j") as journal:
        for number in range(30):
            await journal.append(record(number))
    assert await _left(tmp_path / "j") == ids(range(30))


async def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    async with _opened(tmp_path / "j") as journal:
        await journal.append(record(1))
        batch = await journal.read(journal.posted, 10)
    assert [msgspec.msgpack.decode(payload, type=UsageRecord) for payload in batch.payloads] == [record(1)]


async def test_what_comes_together_is_written_together(tmp_path: Path) -> None:
    async with _opened(tmp_path / "j") as journal:
        await asyncio.gather(*(journal.append(record(number)) for number in range(500)))
        figures = journal.figures()
    assert (figures.appended, figures.groups, figures.queued) == (500, 1, 0)
    assert await _left(tmp_path / "j") == ids(range(500))


async def test_a_group_gathers_while_the_disk_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, synced = os.fdatasync, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(synced.wait(), loop).result(10)
        sync(descriptor)

    async with _opened(tmp_path / "j") as journal:
        await journal.append(record(0))
        monkeypatch.setattr(os, "fdatasync", slow)
        first = asyncio.create_task(journal.append(record(1)))
        await asyncio.sleep(0.02)
        others = [asyncio.create_task(journal.append(record(number))) for number in range(2, 50)]
        await asyncio.sleep(0.02)
        assert not first.done()
        assert journal.figures().queued == 48
        synced.set()
        await asyncio.gather(first, *others)
        assert journal.figures().groups == 3


async def test_a_full_queue_refuses(tmp_path: Path) -> None:
    async with _opened(tmp_path / "j", queue_bytes=2000) as journal:
        outcomes = await asyncio.gather(
            *(journal.append(record(number, padding=400)) for number in range(10)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, JournalFailed)]
        assert len(refused) == journal.figures().failed > 0
        await journal.append(record(99))
    written = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert await _left(tmp_path / "j") == [*(f"req_{number:08d}" for number in written), "req_00000099"]


async def test_a_caller_that_goes_away_takes_nothing_back_and_stops_nobody(tmp_path: Path) -> None:
    async with _opened(tmp_path / "j") as journal:
        tasks = [asyncio.create_task(journal.append(record(number))) for number in range(10)]
        await asyncio.sleep(0)
        tasks[4].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(type(None)) == 9
    assert await _left(tmp_path / "j") == ids(range(10))


async def test_closing_writes_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    await journal.open()
    waiting = [asyncio.create_task(journal.append(record(number))) for number in range(5)]
    await asyncio.sleep(0)
    await journal.close()
    await asyncio.gather(*waiting)
    with pytest.raises(JournalFailed):
        await journal.append(record(6))
    await journal.close()
    assert await _left(tmp_path / "j") == ids(range(5))


async def test_one_process_owns_a_folder(tmp_path: Path) -> None:
    async with _opened(tmp_path / "a"):
        with pytest.raises(SettingsError, match="Another server"):
            await Journal(tmp_path / "a").open()
        async with _opened(tmp_path / "b"):
            pass
    async with _opened(tmp_path / "a"):
        pass


async def test_only_the_owner_can_read_the_journal(tmp_path: Path) -> None:
    async with _opened(tmp_path / "home" / "journal" / "server") as journal:
        await journal.append(record(1))
    modes = {p.relative_to(tmp_path).parts[-1]: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert modes == {"home": 0o700, "journal": 0o700, "server": 0o700, f"{1:020d}.log": 0o600}


async def test_segments_rotate_and_are_read_on(tmp_path: Path) -> None:
    async with _opened(tmp_path / "j", segment_bytes=2000) as journal:
        for number in range(40):
            await journal.append(record(number))
        segments = len(list((tmp_path / "j").glob("*.log")))
    assert segments > 5
    assert all(path.stat().st_size <= 2000 for path in (tmp_path / "j").glob("*.log"))
    assert await _left(tmp_path / "j") == ids(range(40))


@given(cut=st.integers(0, 3000), tail=st.binary(max_size=50))
@settings(max_examples=60, deadline=None)
def test_a_torn_tail_is_cut_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("torn")
    payloads = [f"payload {number}".encode() * 10 for number in range(10)]
    whole = HEADER + b"".join(map(framed, payloads))
    segment = path / f"{7:020d}.log"
    segment.write_bytes(whole[:cut] + (tail if cut >= len(HEADER) else b""))
    folder = JournalFolder(path)
    left = folder.open()
    batch = folder.read(left.posted, Position(left.next_segment, 0), 100)
    frame = len(framed(payloads[0]))
    assert batch.payloads == tuple(payloads[: max(0, min(cut, len(whole)) - len(HEADER)) // frame])
    assert left.pending == len(batch.payloads)
    assert left.next_segment == 8
    folder.close()
    again = JournalFolder(path)
    assert again.open().cut_bytes == 0
    again.close()


async def test_damage_in_the_middle_keeps_the_file_and_goes_on(tmp_path: Path) -> None:
    async with _opened(tmp_path, segment_bytes=2000) as journal:
        for number in range(20):
            await journal.append(record(number))
        first = min(tmp_path.glob("*.log"))
        data = bytearray(first.read_bytes())
        in_first = data.count(b"request_id")
        data[len(data) // 2] ^= 0xFF
        first.write_bytes(data)
        found, position = [], journal.posted
        while (batch := await journal.read(position, 100)).end > position:
            found += [msgspec.msgpack.decode(payload, type=UsageRecord).request_id for payload in batch.payloads]
            position = batch.end
        assert journal.figures().damaged == 1
    assert found[-(20 - in_first) :] == ids(range(in_first, 20))
    assert 20 - in_first <= len(found) < 20
    assert first.with_suffix(".damaged").read_bytes() == data


def test_a_journal_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    segment = tmp_path / f"{1:020d}.log"
    segment.write_bytes(b"antiphon journal 2\nsomething that only it can read")
    folder = JournalFolder(tmp_path)
    with pytest.raises(SettingsError, match="not written by this version"):
        folder.open()
    assert segment.read_bytes() == b"antiphon journal 2\nsomething that only it can read"
    segment.unlink()
    folder.open()
    folder.close()


def test_a_checkpoint_never_points_into_a_newer_segment(tmp_path: Path) -> None:
    folder = JournalFolder(tmp_path)
    assert folder.open().next_segment == 1
    folder.mark(Position(5, 100))
    folder.mark(Position(4, 900))
    folder.close()
    left = JournalFolder(tmp_path).open()
    assert (left.posted, left.next_segment) == (Position(5, 100), 6)
    (tmp_path / "posted").write_bytes(b"damaged")


class _Faults:
    """Fails the n-th call that reaches the disk; a write that fails leaves a part of itself behind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: set[int]) -> None:
        self.calls = 0
        self._failing = failing
        for name in ("pwrite", "fdatasync", "fsync", "ftruncate", "open"):
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls not in self._failing:
                return real(*args, **named)
            if name == "pwrite":
                real(args[0], args[1][: len(args[1]) // 2], args[2])
            raise OSError(errno.ENOSPC, "No space left on device")

        return call


def _fail_at(path: Path, failing: set[int]) -> int:
    """Append 12 records of which the disk refuses some; what was acknowledged must be there, and nothing else."""
    acknowledged = []
    folder = JournalFolder(path)
    left = folder.open()
    with pytest.MonkeyPatch.context() as monkeypatch:
        faults = _Faults(monkeypatch, failing)
        appender = Appender(folder, left.next_segment, 150)
        end = Position(left.next_segment, 0)
        for number in range(12):
            payload = f"record {number}".encode() * 3
            try:
                end = appender.append(framed(payload))
            except OSError:
                continue
            acknowledged.append(payload)
    calls = faults.calls
    first = folder.read(left.posted, end, 3).payloads
    assert list(first) == acknowledged[: max(len(first), 1)]
    appender.close()
    folder.close()
    again = JournalFolder(path)
    left = again.open()
    found: list[bytes] = []
    position = left.posted
    while (batch := again.read(position, Position(left.next_segment, 0), 2)).end > position:
        found += batch.payloads
        position = batch.end
    again.close()
    assert found == acknowledged
    assert again.damaged == 0
    assert len(acknowledged) >= 12 - len(failing)
    return calls


def test_each_call_to_the_disk_may_fail_once(tmp_path: Path) -> None:
    calls = _fail_at(tmp_path / "none", set())
    assert calls > 30
    for number in range(1, calls + 5):
        _fail_at(tmp_path / str(number), {number})


@given(failing=st.sets(st.integers(1, 60), max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_calls_to_the_disk_may_fail(tmp_path_factory: pytest.TempPathFactory, failing: set[int]) -> None:
    _fail_at(tmp_path_factory.mktemp("faults") / "j", failing)


async def test_a_disk_that_fails_is_said_to_those_who_wait_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _opened(tmp_path / "j") as journal:
        await journal.append(record(0))
        with monkeypatch.context() as patch:
            _Faults(patch, set(range(1, 1000)))
            outcomes = await asyncio.gather(
                *(journal.append(record(number)) for number in range(1, 20)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {JournalFailed}
        assert all(isinstance(o, Internal) and "No space left" in o.reason for o in outcomes)
        assert journal.figures().last_error == "No space left on device"
        await journal.append(record(20))
        figures = journal.figures()
        assert (figures.appended, figures.failed, figures.last_error) == (2, 19, None)
    assert await _left(tmp_path / "j") == ["req_00000000", "req_00000020"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_breaks_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Appender, _data: bytes) -> Position:
        raise ZeroDivisionError

    monkeypatch.setattr(Appender, "append", broken)
    async with asyncio.timeout(60), _opened(tmp_path / "j") as journal:
        first = asyncio.gather(*(journal.append(record(number)) for number in range(3)), return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.gather(*(journal.append(record(number)) for number in range(3)), return_exceptions=True)
        assert {type(outcome) for outcome in await first + await second} == {JournalFailed}
        with pytest.raises(JournalFailed):
            await journal.append(record(9))
