"""API keys (contract `platform-and-tools.md` 7.4): public id, name and state; of the secret only its hash.

How a key is written and checked is `gate`'s affair; here a hash is 32 bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Row, and_, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import Profile, Role, Scope
from antiphon.store.changes import bump
from antiphon.store.pages import Order, Page, Walk, page_of
from antiphon.store.tables import api_keys, users, workspaces
from antiphon.store.workspaces import geographies_of

Status = Literal["active", "inactive", "archived"]
#: As the API shows it, which knows the time.
ShownStatus: TypeAlias = Literal["active", "inactive", "archived", "expired"]

#: The states a key may come from. Archived is the end: a key that was revoked is never valid again.
_ALLOWED_FROM: dict[Status, tuple[Status, ...]] = {
    "active": ("inactive",),
    "inactive": ("active",),
    "archived": ("active", "inactive"),
}
#: Rows that are made into objects at a stretch before other tasks get their turn.
_STRETCH = 500


class ApiKey(msgspec.Struct, frozen=True):
    """A key as people see it. `status` is what was decided; whether it has expired is a question of time."""

    id: str
    scope: Scope
    name: str
    hint: str
    admin: bool
    status: Status
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    created_by: str | None = None
    unscoped: bool = False
    """Not bound to its workspace, which is the default one then."""
    principal: str | None = None
    """The user as whom it acts."""

    def status_at(self, now_ms: int) -> ShownStatus:
        """The state the API shows, which has `expired` besides."""
        if self.status != "archived" and self.expires_ms is not None and self.expires_ms <= now_ms:
            return "expired"
        return self.status


class Credential(msgspec.Struct, frozen=True):
    """What checking a key needs, and what its workspace has set. `live`: it is active, its workspace is not archived,
    and the user as whom it acts is still there."""

    id: str
    scope: Scope
    secret_hash: bytes
    admin: bool
    live: bool
    expires_ms: int | None
    profile: Profile | None
    unscoped: bool
    principal: str | None
    role: Role | None
    allowed_geographies: tuple[str, ...] | None
    default_geography: str | None
    logs_requests: bool


class KeyUse(msgspec.Struct, frozen=True):
    """When a key was last used."""

    scope: Scope
    id: str
    at_ms: int


async def create(scope: Scope, connection: AsyncConnection, key: ApiKey, secret_hash: bytes) -> None:
    """Store a new key.

    Raises:
        NotFound: there is no such live workspace.
    """
    await bump(connection, "keys")
    live = select(workspaces.c.id).where(
        workspaces.c.organization == scope.organization,
        workspaces.c.id == scope.workspace,
        workspaces.c.archived_ms.is_(None),
    )
    if (await connection.execute(live)).one_or_none() is None:
        raise NotFound("Workspace not found")
    await connection.execute(
        insert(api_keys).values(
            id=key.id,
            organization=scope.organization,
            workspace=scope.workspace,
            name=key.name,
            secret_hash=secret_hash,
            hint=key.hint,
            admin=key.admin,
            status=key.status,
            created_ms=key.created_ms,
            expires_ms=key.expires_ms,
            created_by=key.created_by,
            unscoped=key.unscoped,
            principal=key.principal,
        )
    )


async def get(scope: Scope, connection: AsyncConnection, key_id: str) -> ApiKey:
    """One key of a workspace.

    Raises:
        NotFound: the workspace has no such key.
    """
    row = (await connection.execute(select(api_keys).where(*_is(scope, key_id)))).one_or_none()
    if row is None:
        raise NotFound("API key not found")
    return _key(row)


async def of_workspace(scope: Scope, connection: AsyncConnection) -> tuple[ApiKey, ...]:
    """All keys of a workspace, oldest first."""
    query = select(api_keys).where(
        api_keys.c.organization == scope.organization, api_keys.c.workspace == scope.workspace
    )
    return tuple(map(_key, await connection.execute(query.order_by(api_keys.c.id))))


async def of_organization(organization: str, connection: AsyncConnection) -> tuple[ApiKey, ...]:
    """All keys of an organization, oldest first."""
    query = select(api_keys).where(api_keys.c.organization == organization)
    return tuple(map(_key, await connection.execute(query.order_by(api_keys.c.id))))


async def page(
    organization: str,
    connection: AsyncConnection,
    walk: Walk,
    now_ms: int,
    *,
    status: ShownStatus | None = None,
    workspace: str | None = None,
    created_by: str | None = None,
    admin: bool = True,
) -> Page[ApiKey]:
    """A page of an organization's keys, newest first; all of them unless a status, a workspace (which unscoped and
    admin keys do not have) or a maker is given. `admin`: with the admin keys.

    Raises:
        InvalidRequest: the walk begins at an id that there is not.
    """
    own = api_keys.c.organization == organization
    if not admin:
        own = and_(own, api_keys.c.admin.is_(False))
    query = select(api_keys).where(own)
    if status is not None:
        query = query.where(_shows(status, now_ms))
    if workspace is not None:
        query = query.where(
            api_keys.c.workspace == workspace, api_keys.c.unscoped.is_(False), api_keys.c.admin.is_(False)
        )
    if created_by is not None:
        query = query.where(api_keys.c.created_by == created_by)
    return await page_of(connection, query, Order(api_keys.c.created_ms, api_keys.c.id, own), walk, _key)


async def find(organization: str, connection: AsyncConnection, key_id: str) -> ApiKey:
    """One key of an organization, in whichever workspace.

    Raises:
        NotFound: the organization has no such key.
    """
    query = select(api_keys).where(api_keys.c.organization == organization, api_keys.c.id == key_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("API key not found")
    return _key(row)


async def rename(scope: Scope, connection: AsyncConnection, key_id: str, name: str) -> None:
    """Give a key that is not archived another name.

    Raises:
        NotFound: the workspace has no such key.
        InvalidRequest: the key is archived.
    """
    await bump(connection, "keys")
    allowed = update(api_keys).where(*_is(scope, key_id), api_keys.c.status.in_(("active", "inactive")))
    if not (await connection.execute(allowed.values(name=name))).rowcount:
        await get(scope, connection, key_id)
        raise InvalidRequest("An archived API key cannot be changed")


async def set_status(scope: Scope, connection: AsyncConnection, key_id: str, status: Status) -> None:
    """Move a key to another state: active <-> inactive, and either -> archived, which is for good.

    To ask for the state that it has changes nothing.

    Raises:
        NotFound: the workspace has no such key.
        InvalidRequest: the key is archived.
    """
    await bump(connection, "keys")
    allowed = update(api_keys).where(*_is(scope, key_id), api_keys.c.status.in_(_ALLOWED_FROM[status]))
    if (await connection.execute(allowed.values(status=status))).rowcount:
        return
    if (await get(scope, connection, key_id)).status != status:
        raise InvalidRequest("An archived API key cannot be changed")


async def set_expiry(scope: Scope, connection: AsyncConnection, key_id: str, expires_ms: int | None) -> None:
    """Say when a key that is not archived stops being valid, milliseconds since the epoch; None: never.

    Raises:
        NotFound: the workspace has no such key.
        InvalidRequest: the key is archived.
    """
    await bump(connection, "keys")
    allowed = update(api_keys).where(*_is(scope, key_id), api_keys.c.status.in_(("active", "inactive")))
    if not (await connection.execute(allowed.values(expires_ms=expires_ms))).rowcount:
        await get(scope, connection, key_id)
        raise InvalidRequest("An archived API key cannot be changed")


async def credentials(connection: AsyncConnection) -> AsyncIterator[Sequence[Credential]]:
    """Every key of the installation, in portions, for the snapshot that requests are checked against.

    The one look-up of keys without a scope, because it is what finds a caller's scope.
    """
    query = (
        select(
            api_keys.c.id,
            api_keys.c.organization,
            api_keys.c.workspace,
            api_keys.c.secret_hash,
            api_keys.c.admin,
            api_keys.c.status,
            api_keys.c.expires_ms,
            api_keys.c.unscoped,
            api_keys.c.principal,
            users.c.role,
            workspaces.c.archived_ms,
            workspaces.c.profile,
            workspaces.c.allowed_geographies,
            workspaces.c.default_geography,
            workspaces.c.logs_requests,
        )
        .join(workspaces, workspaces.c.id == api_keys.c.workspace)
        .outerjoin(users, and_(users.c.organization == api_keys.c.organization, users.c.id == api_keys.c.principal))
    )
    result = await connection.stream(query)
    async for rows in result.partitions(_STRETCH):
        yield [
            Credential(
                row.id,
                Scope(row.organization, row.workspace),
                row.secret_hash,
                row.admin,
                row.status == "active" and row.archived_ms is None and (row.principal is None or row.role is not None),
                row.expires_ms,
                row.profile,
                row.unscoped,
                row.principal,
                row.role,
                geographies_of(row.allowed_geographies),
                row.default_geography,
                row.logs_requests,
            )
            for row in rows
        ]


async def record_use(connection: AsyncConnection, uses: Sequence[KeyUse]) -> None:
    """Note when keys were last used; never moves a time back. Not a change that snapshots must notice."""
    if not uses:
        return
    statement = (
        update(api_keys)
        .where(
            api_keys.c.organization == bindparam("of_organization"),
            api_keys.c.workspace == bindparam("of_workspace"),
            api_keys.c.id == bindparam("key"),
            or_(api_keys.c.last_used_ms.is_(None), api_keys.c.last_used_ms < bindparam("at_ms")),
        )
        .values(last_used_ms=bindparam("at_ms"))
    )
    await connection.execute(
        statement,
        [
            {
                "of_organization": use.scope.organization,
                "of_workspace": use.scope.workspace,
                "key": use.id,
                "at_ms": use.at_ms,
            }
            for use in uses
        ],
    )


def _shows(status: ShownStatus, now_ms: int) -> ColumnElement[bool]:
    """`ApiKey.status_at` as a condition."""
    over = and_(api_keys.c.expires_ms.is_not(None), api_keys.c.expires_ms <= now_ms)
    if status == "expired":
        return and_(api_keys.c.status != "archived", over)
    if status == "archived":
        return api_keys.c.status == "archived"
    return and_(api_keys.c.status == status, or_(api_keys.c.expires_ms.is_(None), api_keys.c.expires_ms > now_ms))


def _is(scope: Scope, key_id: str) -> tuple[Any, ...]:
    return (
        api_keys.c.organization == scope.organization,
        api_keys.c.workspace == scope.workspace,
        api_keys.c.id == key_id,
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        scope=Scope(row.organization, row.workspace),
        name=row.name,
        hint=row.hint,
        admin=row.admin,
        status=row.status,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        last_used_ms=row.last_used_ms,
        created_by=row.created_by,
        unscoped=row.unscoped,
        principal=row.principal,
    )
