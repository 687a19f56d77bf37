"""Pages of rows, newest first, from an id on (contract `client-surface.md` 1.7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Row, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest

T = TypeVar("T")

_LONGEST_SHOWN_ID = 100


class Walk(msgspec.Struct, frozen=True):
    """Which page: `limit` rows behind the row `after`, or the last ones ahead of the row `before`."""

    limit: int = 20
    after: str | None = None
    before: str | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Rows in the order of the list. `more`: there are more in the direction of the walk."""

    items: tuple[T, ...]
    more: bool


class Order(msgspec.Struct, frozen=True):
    """What a list is ordered by: a time, and an id where times are alike. `own` tells the rows that may be named."""

    at: ColumnElement[Any]
    id: ColumnElement[Any]
    own: ColumnElement[bool]


async def page_of(
    connection: AsyncConnection, query: Select[Any], order: Order, walk: Walk, make: Callable[[Row[Any]], T]
) -> Page[T]:
    """A page of what `query` finds. The row to go on from need not be among it: a filter may leave it out.

    Raises:
        InvalidRequest: both ids are given, or there is no row of this id.
    """
    if walk.after is not None and walk.before is not None:
        raise InvalidRequest("only one of `after_id` and `before_id` may be given", path="before_id")
    backwards = walk.before is not None
    if walk.after is not None:
        at = await _place(connection, order, walk.after, "after_id")
        query = query.where(or_(order.at < at, and_(order.at == at, order.id < walk.after)))
    elif walk.before is not None:
        at = await _place(connection, order, walk.before, "before_id")
        query = query.where(or_(order.at > at, and_(order.at == at, order.id > walk.before)))
    columns = (order.at, order.id)
    ordered = query.order_by(*(c.asc() for c in columns) if backwards else (c.desc() for c in columns))
    rows: Sequence[Row[Any]] = (await connection.execute(ordered.limit(walk.limit + 1))).all()
    found = [make(row) for row in rows[: walk.limit]]
    return Page(tuple(reversed(found) if backwards else found), len(rows) > walk.limit)


async def _place(connection: AsyncConnection, order: Order, wanted: str, path: str) -> int:
    row = (await connection.execute(select(order.at).where(order.own, order.id == wanted))).one_or_none()
    if row is None:
        raise InvalidRequest(f"nothing here has the id `{wanted[:_LONGEST_SHOWN_ID]}`", path=path)
    return int(row[0])
