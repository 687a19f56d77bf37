"""Limits that somebody set: of requests and tokens per minute, and of what may be spent (contract
`platform-and-tools.md` 7.5 and 7.8). What they mean is known to `gate.limits` and `gate.spend`; here they are rows.

Every function takes the organization first. A workspace of None is the organization itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import NotFound
from antiphon.core.ids import Ids
from antiphon.store.changes import bump
from antiphon.store.tables import rate_limits, spend_limits

Period: TypeAlias = Literal["daily", "weekly", "monthly"]

_r = rate_limits.c
_s = spend_limits.c


class RateLimit(msgspec.Struct, frozen=True):
    """One limit per minute (or of waiting batch requests) of a group of models or endpoints."""

    workspace: str | None
    group: str
    kind: str
    value: int


class SpendLimit(msgspec.Struct, frozen=True):
    """What may be spent in a period, nano-dollars; an amount of None is no limit, which is not the same as 0."""

    id: str
    workspace: str | None
    period: Period
    amount_nano: int | None
    created_ms: int
    updated_ms: int


async def all_rate_limits(organization: str, connection: AsyncConnection) -> tuple[RateLimit, ...]:
    """The organization's and its workspaces'."""
    query = select(rate_limits).where(_r.organization == organization)
    rows = await connection.execute(query.order_by(_r.workspace, _r.limit_group, _r.kind))
    return tuple(RateLimit(row.workspace or None, row.limit_group, row.kind, row.value) for row in rows)


async def set_rate_limits(
    organization: str,
    connection: AsyncConnection,
    group: str,
    values: Mapping[str, int | None],
    *,
    workspace: str | None = None,
) -> None:
    """Set these kinds of one group's limits; None clears one. Kinds that are not named stay as they are. Whether they
    can be set is the caller's to see (`gate.limits.policy`)."""
    await bump(connection, "limits")
    here = (_r.organization == organization, _r.workspace == (workspace or ""), _r.limit_group == group)
    await connection.execute(delete(rate_limits).where(*here, _r.kind.in_(list(values))))
    rows = [
        {
            "organization": organization,
            "workspace": workspace or "",
            "limit_group": group,
            "kind": kind,
            "value": value,
        }
        for kind, value in values.items()
        if value is not None
    ]
    if rows:
        await connection.execute(insert(rate_limits), rows)


async def all_spend_limits(organization: str, connection: AsyncConnection) -> tuple[SpendLimit, ...]:
    """The organization's and its workspaces', newest first."""
    query = select(spend_limits).where(_s.organization == organization)
    rows = await connection.execute(query.order_by(_s.created_ms.desc(), _s.id.desc()))
    return tuple(map(_spend_limit, rows))


async def spend_limit(organization: str, connection: AsyncConnection, limit_id: str) -> SpendLimit:
    """One limit.

    Raises:
        NotFound: there is none of this id.
    """
    query = select(spend_limits).where(_s.organization == organization, _s.id == limit_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("Spend limit not found")
    return _spend_limit(row)


async def set_spend_limit(
    organization: str,
    connection: AsyncConnection,
    ids: Ids,
    period: Period,
    amount_nano: int | None,
    now_ms: int,
    *,
    workspace: str | None = None,
) -> tuple[SpendLimit, SpendLimit | None]:
    """Set the limit of this period: the one that is there keeps its id. Returns it as it is now and as it was."""
    await bump(connection, "limits")
    here = (_s.organization == organization, _s.workspace == (workspace or ""), _s.period == period)
    row = (await connection.execute(select(spend_limits).where(*here))).one_or_none()
    if row is not None:
        before = _spend_limit(row)
        changed = update(spend_limits).where(*here).values(amount_nano=amount_nano, updated_ms=now_ms)
        await connection.execute(changed)
        return msgspec.structs.replace(before, amount_nano=amount_nano, updated_ms=now_ms), before
    made = SpendLimit(ids.make("spl"), workspace, period, amount_nano, now_ms, now_ms)
    values = msgspec.structs.asdict(made) | {"organization": organization, "workspace": workspace or ""}
    await connection.execute(insert(spend_limits).values(values))
    return made, None


async def delete_spend_limit(organization: str, connection: AsyncConnection, limit_id: str) -> SpendLimit:
    """Remove a limit, and return what it was.

    Raises:
        NotFound: there is none of this id.
    """
    await bump(connection, "limits")
    removed = await spend_limit(organization, connection, limit_id)
    here = (_s.organization == organization, _s.id == limit_id)
    await connection.execute(delete(spend_limits).where(*here))
    return removed


def _spend_limit(row: Row[Any]) -> SpendLimit:
    return SpendLimit(row.id, row.workspace or None, row.period, row.amount_nano, row.created_ms, row.updated_ms)
