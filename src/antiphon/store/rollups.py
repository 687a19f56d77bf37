"""Roll-up: what is left of usage records past their retention are sums by hour and by every dimension of reports.

No digit is lost by it: `store.reports` reads records and sums as one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.records import Cost, Usage
from antiphon.store.reports import HOUR_MS, STORED, record_dimensions
from antiphon.store.tables import organizations, usage_records, usage_rollups

_SUMMED = ("requests", *Usage.__struct_fields__, *Cost.__struct_fields__)
_KEYS = ("organization", *STORED, "hour_ms")
_r = usage_records.c


async def roll_up(organization: str, connection: AsyncConnection, before_ms: int, *, most: int = 500) -> int:
    """Turn an organization's oldest records into sums by hour: those of the whole hours before `before_ms`, and at
    most `most` of them. Returns how many those were; fewer than `most` means that another call would find none, but
    for what others hold just now.

    In one writing transaction, which is the caller's. Two at once, in whatever processes, never take the same record:
    on PostgreSQL each passes over the rows that the other has locked, on SQLite they come one after the other.

    Raises:
        StoreUnavailable: the database cannot take it; the transaction has to be rolled back.
    """
    dimensions = [value.label(name) for name, value in record_dimensions().items() if name in STORED]
    amounts = [_r[name] for name in _SUMMED if name != "requests"]
    oldest = (
        select(_r.request_id, (_r.created_ms - _r.created_ms % HOUR_MS).label("hour_ms"), *dimensions, *amounts)
        .where(_r.organization == organization, _r.created_ms < before_ms - before_ms % HOUR_MS)
        .order_by(_r.created_ms)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    rows = (await connection.execute(oldest)).all()
    if rows:
        await _add(connection, _summed(organization, rows))
        await _delete(connection, rows)
    return len(rows)


async def of_installation(connection: AsyncConnection) -> tuple[str, ...]:
    """The organizations there are."""
    return tuple((await connection.execute(select(organizations.c.id).order_by(organizations.c.id))).scalars())


async def oldest_ms(organization: str, connection: AsyncConnection) -> int | None:
    """When the oldest request was that is still a record of its own, milliseconds since the epoch."""
    query = select(func.min(_r.created_ms)).where(_r.organization == organization)
    found: int | None = (await connection.execute(query)).scalar_one()
    return found


def _summed(organization: str, rows: Iterable[Row[Any]]) -> list[dict[str, Any]]:
    """One line for each hour and group, in the order of their keys: two processes that add to the same lines lock
    them in the same order."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        values = row._mapping
        key = (organization, *(values[name] for name in STORED), int(values["hour_ms"]))
        line = lines.setdefault(key, dict(zip(_KEYS, key, strict=True)) | dict.fromkeys(_SUMMED, 0))
        line["requests"] += 1
        for name in _SUMMED[1:]:
            line[name] += values[name]
    return [lines[key] for key in sorted(lines)]


async def _add(connection: AsyncConnection, lines: Sequence[dict[str, Any]]) -> None:
    # One class for both dialects' `INSERT … ON CONFLICT DO UPDATE` there is not.
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(usage_rollups)
    added = {name: usage_rollups.c[name] + statement.excluded[name] for name in _SUMMED}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=list(usage_rollups.primary_key.columns), set_=added), lines
    )


async def _delete(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> None:
    """The records; their attempts go with them (`ON DELETE CASCADE`)."""
    by_workspace: dict[str, list[str]] = {}
    for row in rows:
        by_workspace.setdefault(row.workspace, []).append(row.request_id)
    for workspace, request_ids in by_workspace.items():
        await connection.execute(delete(usage_records).where(_r.workspace == workspace, _r.request_id.in_(request_ids)))
