"""What was asked and answered, of workspaces that have this switched on; gone when its time is up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import NotFound
from antiphon.core.records import Scope
from antiphon.store.once import insert_once
from antiphon.store.tables import request_logs

_l = request_logs.c


class RequestLog(msgspec.Struct, frozen=True):
    """One request's body, and its answer as it was sent; the beginnings of what was too long."""

    request_id: str
    scope: Scope
    created_ms: int
    request: bytes
    answer: bytes


class Logged(msgspec.Struct, frozen=True):
    """That there is one, without what it holds."""

    request_id: str
    workspace: str
    created_ms: int


async def put(connection: AsyncConnection, logs: Sequence[RequestLog]) -> None:
    """Write some, of any workspaces. Idempotent by workspace and request id."""
    rows = [
        {
            "workspace": log.scope.workspace,
            "request_id": log.request_id,
            "organization": log.scope.organization,
            "created_ms": log.created_ms,
            "request": log.request,
            "answer": log.answer,
        }
        for log in logs
    ]
    if rows:
        await connection.execute(insert_once(connection.dialect, request_logs), rows)


async def find(organization: str, connection: AsyncConnection, request_id: str) -> RequestLog:
    """One request of an organization, in whichever workspace.

    Raises:
        NotFound: there is none; it was never kept, or its time is up.
    """
    query = select(request_logs).where(_l.organization == organization, _l.request_id == request_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"Nothing is kept of the request {request_id}")
    return _log(row)


async def newest(
    organization: str, connection: AsyncConnection, limit: int, *, workspace: str | None = None
) -> tuple[Logged, ...]:
    """Which requests there are, newest first; of one workspace, or of all."""
    query = select(_l.request_id, _l.workspace, _l.created_ms).where(_l.organization == organization)
    if workspace is not None:
        query = query.where(_l.workspace == workspace)
    rows = await connection.execute(query.order_by(_l.created_ms.desc(), _l.request_id.desc()).limit(limit))
    return tuple(Logged(row.request_id, row.workspace, row.created_ms) for row in rows)


async def prune(connection: AsyncConnection, before_ms: int, most: int) -> int:
    """Remove at most so many of those that are older; returns how many that were."""
    if connection.dialect.name == "sqlite":
        # What is removed is written over, or it would lie in the file until its place is needed again.
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")
    query = select(_l.workspace, _l.request_id).where(_l.created_ms < before_ms).order_by(_l.created_ms).limit(most)
    old = (await connection.execute(query)).all()
    if old:
        these = (and_(_l.workspace == row.workspace, _l.request_id == row.request_id) for row in old)
        await connection.execute(delete(request_logs).where(or_(*these)))
    return len(old)


def _log(row: Row[Any]) -> RequestLog:
    return RequestLog(
        row.request_id, Scope(row.organization, row.workspace), row.created_ms, bytes(row.request), bytes(row.answer)
    )
