"""Usage records and their attempts: written once by the ledger's posting, never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Dialect, Row, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import invariant
from antiphon.core.records import Attempt, Cost, Scope, Usage, UsageRecord
from antiphon.store.once import insert_once
from antiphon.store.tables import usage_attempts, usage_records

_TOKENS = Usage.__struct_fields__
_COSTS = Cost.__struct_fields__
_t = usage_records.c
_Names: TypeAlias = tuple[str, ...]
_Values: TypeAlias = tuple[Any, ...]


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
    await _insert(connection, usage_records, _COLUMNS, [_values(r) for r in fresh.values()])
    attempts = [values for record in fresh.values() for values in _attempt_values(record)]
    if attempts:
        await _insert(connection, usage_attempts, _ATTEMPT_COLUMNS, attempts)
    return len(fresh)


async def _insert(connection: AsyncConnection, table: Table, columns: _Names, rows: Sequence[_Values]) -> None:
    """Insert many rows, each the values of `columns`. The statement is made once and goes to the driver as it is: to
    have it made out for every row took as long as the rest of a record's way into the database."""
    statement, in_order = _statement(connection.dialect, table, columns)
    await connection.exec_driver_sql(statement, [in_order(row) for row in rows])


@lru_cache(maxsize=8)
def _statement(dialect: Dialect, table: Table, columns: _Names) -> tuple[str, Callable[[_Values], _Values]]:
    """The text of an insert, and what brings the values of `columns` into its order."""
    compiled = insert_once(dialect, table).compile(dialect=dialect, column_keys=list(columns))
    order = compiled.positiontup
    invariant(order is not None, "a driver whose parameters have names")
    return str(compiled), itemgetter(*(columns.index(name) for name in order or ()))


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


def _values(record: UsageRecord) -> _Values:
    plain = tuple([_storable(getattr(record, name)) for name in _PLAIN])
    return plain + msgspec.structs.astuple(record.usage) + msgspec.structs.astuple(record.cost)


def _attempt_values(record: UsageRecord) -> Iterable[_Values]:
    for ordinal, attempt in enumerate(record.attempts):
        plain = tuple([_storable(getattr(attempt, name)) for name in _PLAIN_ATTEMPT])
        yield (record.workspace, record.request_id, ordinal, *plain, *msgspec.structs.astuple(attempt.usage))


def _storable(value: Any) -> Any:
    """PostgreSQL's text holds no NUL, and a client's `user_id` may: a record must not be lost for that."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if type(value) is str and "\0" in value else value


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
_COLUMNS: _Names = (*_PLAIN, *_TOKENS, *_COSTS)
_ATTEMPT_COLUMNS: _Names = ("workspace", "request_id", "ordinal", *_PLAIN_ATTEMPT, *_TOKENS)
