"""Organizations and workspaces (contract `platform-and-tools.md` 7.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.ids import Ids, secret
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Profile, Scope
from antiphon.store.changes import bump
from antiphon.store.once import insert_once
from antiphon.store.tables import api_keys, organizations, workspaces

_MOST_LIVE = 100
#: 44 characters carry 257 bits.
_SECRET_CHARACTERS = 44


class Workspace(msgspec.Struct, frozen=True):
    """A workspace as people see it; its secret is read apart."""

    id: str
    organization: str
    name: str
    created_ms: int
    archived_ms: int | None
    profile: Profile | None = None
    """Whose rules bind its requests for Claude ids; None: as the installation is set."""


async def ensure_defaults(connection: AsyncConnection, now_ms: int) -> None:
    """Make the organization and the workspace that an installation begins with, once."""
    await connection.execute(
        insert_once(connection.dialect, organizations),
        {"id": DEFAULT_ORGANIZATION, "name": "Default", "created_ms": now_ms},
    )
    row = _row(DEFAULT_WORKSPACE, DEFAULT_ORGANIZATION, "Default", now_ms)
    made = await connection.execute(insert_once(connection.dialect, workspaces), row)
    if made.rowcount:
        await bump(connection, "workspaces")


async def create(organization: str, connection: AsyncConnection, ids: Ids, name: str, now_ms: int) -> Workspace:
    """Make a workspace.

    Raises:
        InvalidRequest: the name is taken (by an archived one too), or there are 100 live ones.
    """
    await bump(connection, "workspaces")
    live = select(func.count()).where(workspaces.c.organization == organization, workspaces.c.archived_ms.is_(None))
    if (await connection.execute(live)).scalar_one() >= _MOST_LIVE:
        raise InvalidRequest(f"An organization may have at most {_MOST_LIVE} workspaces")
    row = _row(ids.make("wrkspc"), organization, name, now_ms)
    try:
        await connection.execute(insert(workspaces), row)
    except IntegrityError:
        raise InvalidRequest("A workspace of this name already exists", path="name") from None
    return Workspace(row["id"], organization, name, now_ms, None)


async def get(scope: Scope, connection: AsyncConnection) -> Workspace:
    """The workspace of this scope, archived or not.

    Raises:
        NotFound: there is none.
    """
    row = (await connection.execute(select(workspaces).where(*_is(scope)))).one_or_none()
    if row is None:
        raise NotFound("Workspace not found")
    return _workspace(row)


async def of_organization(
    organization: str, connection: AsyncConnection, *, archived: bool = False
) -> tuple[Workspace, ...]:
    """All workspaces, oldest first; the archived ones only when asked for."""
    query = select(workspaces).where(workspaces.c.organization == organization)
    if not archived:
        query = query.where(workspaces.c.archived_ms.is_(None))
    rows = await connection.execute(query.order_by(workspaces.c.created_ms, workspaces.c.id))
    return tuple(map(_workspace, rows))


async def find(organization: str, connection: AsyncConnection, wanted: str) -> Workspace:
    """The live workspace of this id or, where none has it, of this name.

    Raises:
        NotFound: there is none.
    """
    live = await of_organization(organization, connection)
    for workspace in (*(w for w in live if w.id == wanted), *(w for w in live if w.name == wanted)):
        return workspace
    raise NotFound(f"There is no workspace {wanted}")


async def cache_secrets(connection: AsyncConnection) -> Mapping[Scope, str]:
    """The secret of every live workspace, for the snapshot that requests read. Not for people, nor for the
    API."""
    rows = await connection.execute(
        select(workspaces.c.organization, workspaces.c.id, workspaces.c.secret).where(
            workspaces.c.archived_ms.is_(None)
        )
    )
    return {Scope(row.organization, row.id): row.secret for row in rows}


async def rename(scope: Scope, connection: AsyncConnection, name: str) -> None:
    """Give a live workspace another name.

    Raises:
        InvalidRequest: the name is taken, or it is the default workspace, which keeps its name.
        NotFound: there is no such live workspace.
    """
    _refuse_default(scope, "renamed")
    await bump(connection, "workspaces")
    live = update(workspaces).where(*_is(scope), workspaces.c.archived_ms.is_(None))
    try:
        changed = await connection.execute(live.values(name=name))
    except IntegrityError:
        raise InvalidRequest("A workspace of this name already exists", path="name") from None
    if not changed.rowcount:
        raise NotFound("Workspace not found")


async def set_profile(scope: Scope, connection: AsyncConnection, profile: Profile | None) -> None:
    """Say whose rules bind a live workspace's requests for Claude ids; None: as the installation is set.

    Raises:
        NotFound: there is no such live workspace.
    """
    await bump(connection, "workspaces")
    live = update(workspaces).where(*_is(scope), workspaces.c.archived_ms.is_(None))
    if not (await connection.execute(live.values(profile=profile))).rowcount:
        raise NotFound("Workspace not found")


async def archive(scope: Scope, connection: AsyncConnection, now_ms: int) -> None:
    """End a workspace and all its keys, for good: live -> archived. To archive it again changes nothing.

    Raises:
        InvalidRequest: it is the default workspace.
        NotFound: there is no such workspace.
    """
    _refuse_default(scope, "archived")
    await get(scope, connection)
    await bump(connection, "workspaces")
    live = update(workspaces).where(*_is(scope), workspaces.c.archived_ms.is_(None))
    if not (await connection.execute(live.values(archived_ms=now_ms))).rowcount:
        return
    await bump(connection, "keys")
    await connection.execute(
        update(api_keys)
        .where(
            api_keys.c.organization == scope.organization,
            api_keys.c.workspace == scope.workspace,
            api_keys.c.status.in_(("active", "inactive")),
        )
        .values(status="archived")
    )


def _refuse_default(scope: Scope, deed: str) -> None:
    if scope.workspace == DEFAULT_WORKSPACE:
        raise InvalidRequest(f"The default workspace cannot be {deed}")


def _is(scope: Scope) -> tuple[Any, ...]:
    return (workspaces.c.organization == scope.organization, workspaces.c.id == scope.workspace)


def _row(workspace: str, organization: str, name: str, now_ms: int) -> dict[str, Any]:
    return {
        "id": workspace,
        "organization": organization,
        "name": name,
        "secret": secret(_SECRET_CHARACTERS),
        "created_ms": now_ms,
        "archived_ms": None,
    }


def _workspace(row: Row[Any]) -> Workspace:
    return Workspace(row.id, row.organization, row.name, row.created_ms, row.archived_ms, row.profile)
