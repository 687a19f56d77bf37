"""Counters that tell servers in other processes that their snapshot of a subject is old."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.store.tables import changes

Subject = Literal["keys", "workspaces", "people", "limits"]


async def bump(connection: AsyncConnection, subject: Subject) -> None:
    """Count a write. Called before the write itself: on PostgreSQL the row's lock then also makes writers of
    one subject take turns, so that a check such as "at most 100 workspaces" holds."""
    await connection.execute(update(changes).where(changes.c.subject == subject).values(counter=changes.c.counter + 1))


async def version(connection: AsyncConnection) -> int:
    """A number that grows with every write of any subject."""
    rows = await connection.execute(select(changes.c.counter))
    return sum(rows.scalars())
