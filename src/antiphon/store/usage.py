"""Usage records and their attempts: written once by the ledger's posting, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.records import Attempt, Cost, Scope, Usage, UsageRecord
from antiphon.store.once import insert_once
from antiphon.store.tables import usage_attempts, usage_records

_TOKENS = Usage.__struct_fields__
_COSTS = Cost.__struct_fields__
_t = usage_records.c


class Totals(msgspec.Struct, frozen=True):
    """Sums over the records of a span of time."""

    requests: int
    usage: Usage


async def post(connection: AsyncConnection, records: Sequence[UsageRecord]) -> int:
    """Write the records that are not there yet, and say how many those were when it looked. Idempotent by request id.

    Each record carries its own scope: a batch of the journal holds those of many workspaces.
    """
    fresh = {record.request_id: record for record in records}
    there = select(usage_records.c.request_id).where(usage_records.c.request_id.in_(list(fresh)))
    for request_id in (await connection.execute(there)).scalars().all():
        del fresh[request_id]
    if not fresh:
        return 0
    # `ON CONFLICT` besides the look-up above: another process may post the same record meanwhile.
    await connection.execute(insert_once(connection, usage_records), [_row(r) for r in fresh.values()])
    attempts = [row for record in fresh.values() for row in _attempt_rows(record)]
    if attempts:
        await connection.execute(insert_once(connection, usage_attempts), attempts)
    return len(fresh)


async def get(scope: Scope, connection: AsyncConnection, request_id: str) -> UsageRecord | None:
    """The record of one request of a workspace, with its attempts."""
    found = await _load(connection, select(usage_records).where(*_in(scope), _t.request_id == request_id))
    return found[0] if found else None


async def latest(scope: Scope, connection: AsyncConnection, limit: int = 50) -> tuple[UsageRecord, ...]:
    """The newest records of a workspace, newest first."""
    query = select(usage_records).where(*_in(scope))
    return await _load(connection, query.order_by(_t.created_ms.desc(), _t.request_id.desc()).limit(limit))


async def totals(scope: Scope, connection: AsyncConnection, from_ms: int, until_ms: int) -> Totals:
    """Sums over a workspace's records with `from_ms <= created_ms < until_ms`."""
    sums = [func.coalesce(func.sum(_t[name]), 0) for name in _TOKENS]
    query = select(func.count(), *sums).where(*_in(scope), _t.created_ms >= from_ms, _t.created_ms < until_ms)
    count, *tokens = (await connection.execute(query)).one()
    return Totals(count, Usage(*map(int, tokens)))


def _in(scope: Scope) -> tuple[Any, ...]:
    return (_t.organization == scope.organization, _t.workspace == scope.workspace)


async def _load(connection: AsyncConnection, query: Any) -> tuple[UsageRecord, ...]:
    rows = (await connection.execute(query)).all()
    by_request: dict[str, list[Attempt]] = {row.request_id: [] for row in rows}
    children = (
        select(usage_attempts)
        .where(
            usage_attempts.c.workspace.in_({row.workspace for row in rows}),
            usage_attempts.c.request_id.in_(list(by_request)),
        )
        .order_by(usage_attempts.c.ordinal)
    )
    for row in await connection.execute(children):
        by_request[row.request_id].append(_attempt(row))
    return tuple(_record(row, by_request[row.request_id]) for row in rows)


def _row(record: UsageRecord) -> dict[str, Any]:
    row = {name: _storable(getattr(record, name)) for name in _PLAIN}
    row |= {name: getattr(record.usage, name) for name in _TOKENS}
    return row | {name: getattr(record.cost, name) for name in _COSTS}


def _attempt_rows(record: UsageRecord) -> Iterable[dict[str, Any]]:
    for ordinal, attempt in enumerate(record.attempts):
        row = {name: _storable(getattr(attempt, name)) for name in _PLAIN_ATTEMPT}
        row |= {name: getattr(attempt.usage, name) for name in _TOKENS}
        yield row | {"workspace": record.workspace, "request_id": record.request_id, "ordinal": ordinal}


def _storable(value: Any) -> Any:
    """PostgreSQL's text holds no NUL, and a client's `user_id` may: a record must not be lost for that."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _record(row: Row[Any], attempts: Iterable[Attempt]) -> UsageRecord:
    plain = {name: getattr(row, name) for name in _PLAIN}
    cost = Cost(*(getattr(row, name) for name in _COSTS))
    return UsageRecord(**plain, usage=_usage(row), cost=cost, attempts=tuple(attempts))


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(**{name: getattr(row, name) for name in _PLAIN_ATTEMPT}, usage=_usage(row))


def _usage(row: Row[Any]) -> Usage:
    return Usage(*(getattr(row, name) for name in _TOKENS))


#: The fields that are columns under their own name. A field that `core.records` gains and the table lacks
#: fails the round-trip test, not a customer's posting.
_PLAIN = tuple(name for name in UsageRecord.__struct_fields__ if name in usage_records.c)
_PLAIN_ATTEMPT = tuple(name for name in Attempt.__struct_fields__ if name in usage_attempts.c)
