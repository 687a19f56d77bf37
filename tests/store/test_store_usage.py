"""Usage records: written once, whole, and read by their own workspace alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import SystemClock
from antiphon.core.ids import Ids
from antiphon.core.records import Attempt, Scope, Usage, UsageRecord
from antiphon.store import usage
from antiphon.store.database import Database, open_database
from antiphon.store.tables import usage_attempts

pytestmark = pytest.mark.anyio

_IDS = Ids(SystemClock())
_count = st.integers(0, 2**62)
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_records = st.builds(
    UsageRecord,
    request_id=st.just("made anew for each example"),
    organization=st.just("org"),
    workspace=st.just("wrkspc_a"),
    created_ms=_count,
    duration_us=_count,
    usage=st.builds(Usage, *[_count] * 6),
    attempts=st.lists(
        st.builds(
            Attempt,
            usage=st.builds(Usage, *[_count] * 6),
            started_ms=_count,
            queue_us=_count,
            first_token_us=st.none() | _count,
            duration_us=_count,
            reused_tokens=st.none() | _count,
            model=_text,
            engine=_text,
            outcome=_text,
        ),
        max_size=3,
    ).map(tuple),
    key_id=_text,
    endpoint=_text,
    requested_model=_text,
    served_model=_text,
    outcome=_text,
    message_id=st.none() | _text,
    streamed=st.booleans(),
    service_tier=_text,
    speed=_text,
    geography=st.none() | _text,
    batch_id=st.none() | _text,
    batch_item=st.none() | _text,
    user_id=st.none() | _text,
)
_A = Scope("org", "wrkspc_a")
_B = Scope("org", "wrkspc_b")


def _record(request: str, scope: Scope = _A, created_ms: int = 10, tokens: int = 3) -> UsageRecord:
    used = Usage(input_tokens=tokens, output_tokens=2 * tokens)
    attempt = Attempt("model", "scripted", "end_turn", used, 1, 2, 3, 4)
    return UsageRecord(
        request, scope.organization, scope.workspace, "key", "/v1/messages", "claude", "model", "end_turn", used,
        (attempt, attempt), created_ms, 5,
    )  # fmt: skip


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.transaction() as opened:
        yield opened


@given(record=_records)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_record_comes_back_as_it_went(database: Database, record: UsageRecord) -> None:
    record = msgspec.structs.replace(record, request_id=_IDS.make("req"))
    async with database.transaction() as connection:
        assert await usage.post(connection, [record]) == 1
    async with database.reading() as connection:
        assert await usage.get(_A, connection, record.request_id) == record


async def test_posting_again_changes_nothing(connection: AsyncConnection) -> None:
    first = [_record("req_1"), _record("req_2")]
    assert await usage.post(connection, first) == 2
    changed = _record("req_1", tokens=1000)
    assert await usage.post(connection, [changed, *first, _record("req_3"), _record("req_3")]) == 1
    assert await usage.get(_A, connection, "req_1") == first[0]
    assert (await connection.execute(select(func.count()).select_from(usage_attempts))).scalar_one() == 6
    assert await usage.post(connection, []) == 0


async def test_a_nul_from_a_client_costs_no_record(connection: AsyncConnection) -> None:
    odd = msgspec.structs.replace(_record("req_1"), user_id="a\0b")
    assert await usage.post(connection, [odd]) == 1
    found = await usage.get(_A, connection, "req_1")
    assert found is not None
    assert found.user_id == "a\N{REPLACEMENT CHARACTER}b"


async def test_a_request_is_recorded_for_one_workspace_only(connection: AsyncConnection) -> None:
    await usage.post(connection, [_record("req_1")])
    assert await usage.post(connection, [_record("req_1", _B)]) == 0
    assert await usage.get(_B, connection, "req_1") is None
    assert await usage.get(Scope("other", "wrkspc_a"), connection, "req_1") is None


async def test_a_workspace_reads_its_own(connection: AsyncConnection) -> None:
    await usage.post(connection, [_record(f"req_{n}", _A, created_ms=n) for n in range(5)])
    await usage.post(connection, [_record("req_b", _B, created_ms=3, tokens=100)])
    assert [record.request_id for record in await usage.latest(_A, connection, 2)] == ["req_4", "req_3"]
    assert [record.request_id for record in await usage.latest(_B, connection)] == ["req_b"]
    sums = await usage.totals(_A, connection, 1, 4)
    assert (sums.requests, sums.usage) == (3, Usage(input_tokens=9, output_tokens=18))
    assert await usage.totals(_A, connection, 100, 200) == usage.Totals(0, Usage())
