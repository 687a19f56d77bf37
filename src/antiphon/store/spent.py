"""What was spent in a span of time, in nano-dollars: the five costs of the usage records, and of the sums by hour that
are left of those past their retention.

A span begins and ends at a full hour of UTC, so that it holds an hour's sum or does not. What is still on its way from
the journal to the database is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Subquery, Table, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.records import Cost
from antiphon.store.tables import usage_records, usage_rollups


async def total(
    organization: str, connection: AsyncConnection, from_ms: int, until_ms: int, *, workspace: str | None = None
) -> int:
    """What an organization, or one workspace of it, spent from `from_ms` on and before `until_ms`."""
    spent = _spent(organization, from_ms, until_ms)
    query = select(func.coalesce(func.sum(spent.c.nano), 0))
    if workspace is not None:
        query = query.where(spent.c.workspace == workspace)
    return int((await connection.execute(query)).scalar_one())


async def by_workspace(
    organization: str, connection: AsyncConnection, from_ms: int, until_ms: int
) -> Mapping[str, int]:
    """The same for every workspace that spent something; together it is what the organization spent."""
    spent = _spent(organization, from_ms, until_ms)
    query = select(spent.c.workspace, func.sum(spent.c.nano)).group_by(spent.c.workspace)
    return {workspace: int(nano) for workspace, nano in await connection.execute(query)}


def _spent(organization: str, from_ms: int, until_ms: int) -> Subquery:
    """What each record and each hour's sum cost. Both in one statement, which sees one moment of the database: a record
    that becomes part of a sum meanwhile is in one of them."""
    sources: tuple[tuple[Table, ColumnElement[Any]], ...] = (
        (usage_records, usage_records.c.created_ms),
        (usage_rollups, usage_rollups.c.hour_ms),
    )
    return union_all(
        *(
            select(table.c.workspace, _cost(table).label("nano")).where(
                table.c.organization == organization, at >= from_ms, at < until_ms
            )
            for table, at in sources
        )
    ).subquery()


def _cost(table: Table) -> ColumnElement[Any]:
    """All costs together."""
    first, *others = (table.c[name] for name in Cost.__struct_fields__)
    whole: ColumnElement[Any] = first
    for cost in others:
        whole = whole + cost
    return whole
