"""What was spent in a span of time, in nano-dollars: the five costs of the usage records, and of the sums by hour that
are left of those past their retention.

A span begins and ends at a full hour of UTC, so that it holds an hour's sum or does not. What is still on its way from
the journal to the database is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.records import Cost
from antiphon.store.tables import usage_records, usage_rollups


async def total(
    organization: str, connection: AsyncConnection, from_ms: int, until_ms: int, *, workspace: str | None = None
) -> int:
    """What an organization, or one workspace of it, spent from `from_ms` on and before `until_ms`."""
    spent = 0
    for table, at in _sources():
        query = select(_cost(table)).where(table.c.organization == organization, at >= from_ms, at < until_ms)
        if workspace is not None:
            query = query.where(table.c.workspace == workspace)
        spent += int((await connection.execute(query)).scalar_one())
    return spent


async def by_workspace(
    organization: str, connection: AsyncConnection, from_ms: int, until_ms: int
) -> Mapping[str, int]:
    """The same for every workspace that spent something; together it is what the organization spent."""
    spent: Counter[str] = Counter()
    for table, at in _sources():
        query = (
            select(table.c.workspace, _cost(table))
            .where(table.c.organization == organization, at >= from_ms, at < until_ms)
            .group_by(table.c.workspace)
        )
        for workspace, nano in await connection.execute(query):
            spent[workspace] += int(nano)
    return spent


def _sources() -> tuple[tuple[Table, ColumnElement[Any]], ...]:
    return (usage_records, usage_records.c.created_ms), (usage_rollups, usage_rollups.c.hour_ms)


def _cost(table: Table) -> ColumnElement[Any]:
    """The sum of all costs."""
    whole: ColumnElement[Any] = func.coalesce(func.sum(table.c[Cost.__struct_fields__[0]]), 0)
    for name in Cost.__struct_fields__[1:]:
        whole = whole + func.coalesce(func.sum(table.c[name]), 0)
    return whole
