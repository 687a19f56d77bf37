"""Reports add up to the ledger to the last digit: any records, grouping, filter, page and roll-up, on both databases."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import SystemClock
from antiphon.core.ids import Ids
from antiphon.core.records import Attempt, Cost, Usage, UsageRecord
from antiphon.store import reports, usage
from antiphon.store.database import Database, open_database
from antiphon.store.reports import DAY_MS, DIMENSIONS, HOUR_MS, MINUTE_MS, Dimension, Position, Question, Sums
from antiphon.store.rollups import oldest_ms, roll_up
from antiphon.store.tables import usage_attempts, usage_records, usage_rollups

pytestmark = pytest.mark.anyio

_IDS = Ids(SystemClock())
_ORGANIZATIONS = itertools.count()
_BEGIN = 1_760_000_000_000 // DAY_MS * DAY_MS
_END = _BEGIN + 3 * DAY_MS

_amounts = st.integers(0, 10**15)
_tokens = st.integers(0, 300_000)
_few = st.sampled_from
#: Few values of each, so that groups have several records.
_records = st.builds(
    UsageRecord,
    request_id=st.just("made anew for each example"),
    organization=st.just("likewise"),
    workspace=_few(["wrkspc_a", "wrkspc_b"]),
    key_id=_few(["apikey_1", "apikey_2", "apikey_3"]),
    endpoint=st.just("/v1/messages"),
    requested_model=_few(["claude-opus", "claude-haiku"]),
    served_model=_few(["qwen", "Smol ’”%_"]),
    outcome=_few(["end_turn", "client_closed"]),
    usage=st.builds(Usage, *[_tokens] * 6),
    attempts=st.just((Attempt("m", "scripted", "end_turn", Usage(), 1, 2, 3, 4),)),
    created_ms=st.integers(_BEGIN, _END - 1) | _few([_BEGIN, _BEGIN + HOUR_MS, _BEGIN + DAY_MS - 1, _END - 1]),
    duration_us=st.just(1),
    service_tier=_few(["standard", "priority", "batch"]),
    speed=_few(["standard", "fast"]),
    geography=_few([None, "us", "global"]),
    batch_id=_few([None, None, "msgbatch_1"]),
    user_id=_few([None, "", "anna", "böb\n"]),
    workflow=_few([None, "nightly", "triage"]),
    cost=st.builds(Cost, *[_amounts] * 5),
)


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    yield opened
    await opened.close()


def _values(record: UsageRecord) -> dict[Dimension, str]:
    """What the dimensions of a record are, said apart from the query."""
    used = record.usage
    prompt = used.input_tokens + used.cache_write_5m_tokens + used.cache_write_1h_tokens + used.cache_read_tokens
    return {
        "workspace": record.workspace,
        "key_id": record.key_id,
        "requested_model": record.requested_model,
        "served_model": record.served_model,
        "service_tier": "batch" if record.batch_id else record.service_tier,
        "speed": record.speed,
        "geography": record.geography or "",
        "context_window": "200k-1M" if prompt > 200_000 else "0-200k",
        "user_id": record.user_id or "",
        "workflow": record.workflow or "",
        "product": "message_batches_api" if record.batch_id or record.service_tier == "batch" else "messages_api",
    }


def _numbers(row: Sums | UsageRecord) -> Counter[str]:
    requests = row.requests if isinstance(row, Sums) else 1
    return Counter({"requests": requests} | msgspec.structs.asdict(row.usage) | msgspec.structs.asdict(row.cost))


def _expected(records: Sequence[UsageRecord], question: Question) -> dict[tuple[int, tuple[str, ...]], Counter[str]]:
    sums: dict[tuple[int, tuple[str, ...]], Counter[str]] = {}
    for record in records:
        values = _values(record)
        if not question.from_ms <= record.created_ms < question.until_ms:
            continue
        if any(values[name] not in wanted for name, wanted in question.only.items()):
            continue
        if any(values[name] in unwanted for name, unwanted in question.without.items()):
            continue
        width = question.width_ms
        bucket = record.created_ms // width * width if width else question.from_ms
        sums.setdefault((bucket, tuple(values[name] for name in question.by)), Counter()).update(_numbers(record))
    return sums


async def _all(
    organization: str, connection: AsyncConnection, question: Question, portion: int = 1000
) -> tuple[Sums, ...]:
    """Page by page."""
    rows: list[Sums] = []
    after: Position | None = None
    while page := await reports.report(organization, connection, question, limit=portion, after=after):
        assert len(page) <= portion
        assert reports.fits(question, page[-1].position)
        rows += page
        after = page[-1].position
    return tuple(rows)


def _whole(**given: object) -> Question:
    return msgspec.convert({"from_ms": _BEGIN, "until_ms": _END} | given, Question)


async def _post(database: Database, records: Sequence[UsageRecord]) -> tuple[str, list[UsageRecord]]:
    organization = f"org_{next(_ORGANIZATIONS)}"
    mine = [
        msgspec.structs.replace(record, request_id=_IDS.make("req"), organization=organization) for record in records
    ]
    async with database.transaction() as connection:
        assert await usage.post(connection, mine) == len(mine)
    return organization, mine


async def _counted(connection: AsyncConnection, organization: str) -> int:
    query = select(func.count()).select_from(usage_records).where(usage_records.c.organization == organization)
    return int((await connection.execute(query)).scalar_one())


async def _check(
    database: Database, organization: str, records: Sequence[UsageRecord], asked: Question, portion: int
) -> None:
    async with database.reading() as connection:
        rows = await _all(organization, connection, asked, portion)
        assert {(row.from_ms, row.group): _numbers(row) for row in rows} == _expected(records, asked)
        assert len({(row.from_ms, row.group) for row in rows}) == len(rows)
        together = sum((_numbers(row) for row in rows), Counter())
        assert +together == +_numbers(await reports.total(organization, connection, asked))


@given(
    records=st.lists(_records, max_size=25),
    by=st.sets(_few(DIMENSIONS), max_size=4),
    width=_few([None, HOUR_MS, DAY_MS]),
    order=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    metric=_few(["total_tokens", "uncached_input_tokens", "output_tokens", "requests", "amount"]),
    filtered=_few(DIMENSIONS),
    before_ms=st.integers(_BEGIN - HOUR_MS, _END + HOUR_MS),
    portion=st.integers(1, 30),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_report_adds_up_before_and_after_any_roll_up(
    *,
    database: Database,
    records: list[UsageRecord],
    by: set[Dimension],
    width: int | None,
    order: tuple[bool, bool, bool],
    metric: str,
    filtered: Dimension,
    before_ms: int,
    portion: int,
) -> None:
    organization, mine = await _post(database, records)
    by_time, newest, most = order
    asked = _whole(by=tuple(by), width_ms=width, metric=metric, by_time=by_time, newest=newest, most=most)
    values = {_values(record)[filtered] for record in mine}
    some = tuple(sorted(values))[: len(values) // 2]
    questions = [
        asked,
        msgspec.structs.replace(asked, only={filtered: some}),
        msgspec.structs.replace(asked, without={filtered: some}),
        msgspec.structs.replace(asked, from_ms=_BEGIN + 5 * HOUR_MS, until_ms=_BEGIN + 30 * HOUR_MS),
    ]
    for question in questions:
        await _check(database, organization, mine, question, portion)
    async with database.reading() as connection:
        before = await _all(organization, connection, asked)
    rolled = 0
    while True:
        async with database.transaction() as connection:
            done = await roll_up(organization, connection, before_ms, most=portion)
        rolled += done
        if done < portion:
            break
        await _check(database, organization, mine, asked, 1000)  # in the middle of an hour, as it may be
    assert rolled == sum(record.created_ms < before_ms // HOUR_MS * HOUR_MS for record in mine)
    for question in questions:
        await _check(database, organization, mine, question, portion)
    async with database.reading() as connection:
        assert await _all(organization, connection, asked) == before  # the order too
        assert await _counted(connection, organization) == len(mine) - rolled


@given(records=st.lists(_records, min_size=1, max_size=12), name=_few(DIMENSIONS))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_parts_of_every_dimension_are_the_whole(
    database: Database, records: list[UsageRecord], name: Dimension
) -> None:
    organization, mine = await _post(database, records)
    async with database.reading() as connection:
        values = [row.group[0] for row in await _all(organization, connection, _whole(by=(name,)))]
        parts = [await reports.total(organization, connection, _whole(only={name: (value,)})) for value in values]
        nothing = await reports.total(organization, connection, _whole(only={name: ()}))
    assert +sum(map(_numbers, parts), Counter()) == +sum(map(_numbers, mine), Counter())
    assert nothing == Sums(_BEGIN, (), 0, Usage(), Cost(), ())


def _record(created_ms: int, *, output: int = 1, user: str | None = None) -> UsageRecord:
    return UsageRecord(
        "", "", "wrkspc_a", "apikey_1", "/v1/messages", "claude", "qwen", "end_turn", Usage(output_tokens=output),
        (Attempt("m", "scripted", "end_turn", Usage(), 1, 2, 3, 4),), created_ms, 1, user_id=user,
        cost=Cost(output_nano=output),
    )  # fmt: skip


async def test_the_buckets_of_a_minute(database: Database) -> None:
    times = [_BEGIN, _BEGIN + MINUTE_MS - 1, _BEGIN + MINUTE_MS, _BEGIN + 59 * MINUTE_MS]
    organization, _ = await _post(database, [_record(at) for at in times])
    asked = _whole(width_ms=MINUTE_MS)
    async with database.transaction() as connection:
        rows = await _all(organization, connection, asked, 1)
        assert [(row.from_ms, row.requests) for row in rows] == [(_BEGIN, 2), (times[2], 1), (times[3], 1)]
        assert await roll_up(organization, connection, _END) == 4
        rows = await _all(organization, connection, asked)
        assert [(row.from_ms, row.requests) for row in rows] == [(_BEGIN, 4)]  # an hour counts at its beginning


async def test_the_edges_of_a_span(database: Database) -> None:
    times = [_BEGIN - 1, _BEGIN, _END - 1, _END]
    organization, _ = await _post(database, [_record(at, output=10**place) for place, at in enumerate(times)])
    async with database.transaction() as connection:
        assert (await reports.total(organization, connection, _whole())).cost.output_nano == 110
        assert await roll_up(organization, connection, _END + HOUR_MS) == 4
        assert (await reports.total(organization, connection, _whole())).cost.output_nano == 110


async def test_the_whole_prompt_decides_its_window(database: Database) -> None:
    parts = [Usage(50_000, 50_000, 50_000, 50_000, 9, 9), Usage(50_000, 50_000, 50_000, 50_001), Usage(200_001)]
    organization, _ = await _post(database, [msgspec.structs.replace(_record(_BEGIN), usage=used) for used in parts])
    asked = _whole(by=("context_window",))
    async with database.transaction() as connection:
        rows = {row.group: row.requests for row in await _all(organization, connection, asked)}
        assert rows == {("0-200k",): 1, ("200k-1M",): 2}
        await roll_up(organization, connection, _END)
        assert {row.group: row.requests for row in await _all(organization, connection, asked)} == rows


async def test_the_best_of_each_bucket(database: Database) -> None:
    organization, _ = await _post(
        database,
        [_record(_BEGIN + day * DAY_MS, output=10 * user + day, user=str(user)) for day in (0, 1) for user in range(5)],
    )
    asked = _whole(by=("user_id",), width_ms=DAY_MS, best=2)
    async with database.reading() as connection:
        rows = await _all(organization, connection, asked, 3)
    assert [(row.from_ms, *row.group) for row in rows] == [
        (_BEGIN, "4"), (_BEGIN, "3"), (_BEGIN + DAY_MS, "4"), (_BEGIN + DAY_MS, "3"),
    ]  # fmt: skip


async def test_another_organization_is_not_in_a_report_nor_rolled_up(database: Database) -> None:
    one, _ = await _post(database, [_record(_BEGIN)])
    other, _ = await _post(database, [_record(_BEGIN), _record(_BEGIN)])
    async with database.transaction() as connection:
        assert await roll_up(one, connection, _END) == 1
        assert await _counted(connection, other) == 2
        assert (await reports.total(one, connection, _whole())).requests == 1
        assert (await reports.total(other, connection, _whole())).requests == 2
        assert await oldest_ms(one, connection) is None
        assert await oldest_ms(other, connection) == _BEGIN


async def test_a_late_record_is_added_to_the_sum_of_its_hour(database: Database) -> None:
    organization, mine = await _post(database, [_record(_BEGIN, output=3), _record(_BEGIN + 1, output=4)])
    late = msgspec.structs.replace(mine[0], request_id=_IDS.make("req"))
    async with database.transaction() as connection:
        assert await roll_up(organization, connection, _END) == 2
        await usage.post(connection, [late])
        assert (await reports.total(organization, connection, _whole())).cost == Cost(output_nano=10)
        assert await roll_up(organization, connection, _END) == 1
        assert await roll_up(organization, connection, _END) == 0
        (row,) = await _all(organization, connection, _whole(by=DIMENSIONS, width_ms=HOUR_MS))
        assert (row.requests, row.cost) == (3, Cost(output_nano=10))
        lines = select(func.count()).select_from(usage_rollups).where(usage_rollups.c.organization == organization)
        assert (await connection.execute(lines)).scalar_one() == 1
        attempts = select(func.count()).select_from(usage_attempts).where(
            usage_attempts.c.request_id.in_([record.request_id for record in [*mine, late]])
        )  # fmt: skip
        assert (await connection.execute(attempts)).scalar_one() == 0


async def test_roll_ups_at_once_and_readers_between_them_lose_nothing(database: Database) -> None:
    organization, _ = await _post(database, [_record(_BEGIN + n * HOUR_MS // 20, output=n) for n in range(200)])
    done = 0
    seen: set[tuple[int, int]] = set()

    async def roll() -> None:
        nonlocal done
        while True:
            async with database.transaction() as connection:
                portion = await roll_up(organization, connection, _END, most=7)
            done += portion
            if not portion:
                return

    async def read() -> None:
        while done < 200:
            async with database.reading() as connection:
                found = await reports.total(organization, connection, _whole())
            seen.add((found.requests, found.cost.total_nano))
            await asyncio.sleep(0)

    await asyncio.gather(*(roll() for _ in range(4)), read())
    async with database.reading() as connection:
        found = await reports.total(organization, connection, _whole())
        assert await _counted(connection, organization) == 0
    assert done == 200
    assert seen | {(found.requests, found.cost.total_nano)} == {(200, 199 * 100)}


async def test_a_roll_up_that_is_broken_off_leaves_everything(database: Database) -> None:
    organization, _ = await _post(database, [_record(_BEGIN + n) for n in range(10)])
    with pytest.raises(KeyError):
        async with database.transaction() as connection:
            assert await roll_up(organization, connection, _END) == 10
            raise KeyError
    async with database.reading() as connection:
        assert await _counted(connection, organization) == 10
        assert (await reports.total(organization, connection, _whole())).requests == 10
