"""Organizations and workspaces (contract `platform-and-tools.md` 7.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import Conflict, InvalidRequest, NotFound
from antiphon.core.ids import Ids, secret
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Profile, Scope
from antiphon.store.changes import bump
from antiphon.store.once import insert_once
from antiphon.store.pages import Order, Page, Walk, page_of
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
    display_color: str | None = None
    tags: Mapping[str, str] = {}
    allowed_geographies: tuple[str, ...] | None = None
    """Those that its requests may name; None: any that there is."""
    default_geography: str | None = None
    logs_requests: bool = False


class WorkspaceChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to set; what is UNSET stays as it is."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    display_color: str | msgspec.UnsetType = msgspec.UNSET
    tags: Mapping[str, str] | msgspec.UnsetType = msgspec.UNSET
    allowed_geographies: tuple[str, ...] | msgspec.UnsetType | None = msgspec.UNSET
    default_geography: str | msgspec.UnsetType | None = msgspec.UNSET
    logs_requests: bool | msgspec.UnsetType = msgspec.UNSET


NOTHING = WorkspaceChange()


async def organization_name(organization: str, connection: AsyncConnection) -> str:
    """What an organization is called.

    Raises:
        NotFound: there is none of this id.
    """
    query = select(organizations.c.name).where(organizations.c.id == organization)
    name: str | None = (await connection.execute(query)).scalar_one_or_none()
    if name is None:
        raise NotFound("Organization not found")
    return name


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


async def create(
    organization: str,
    connection: AsyncConnection,
    ids: Ids,
    name: str,
    now_ms: int,
    settings: WorkspaceChange = NOTHING,
) -> Workspace:
    """Make a workspace; `settings` are what it begins with, besides its name.

    Raises:
        Conflict: the name is taken (by an archived one too).
        InvalidRequest: there are 100 live ones.
    """
    await bump(connection, "workspaces")
    live = select(func.count()).where(workspaces.c.organization == organization, workspaces.c.archived_ms.is_(None))
    if (await connection.execute(live)).scalar_one() >= _MOST_LIVE:
        raise InvalidRequest(f"An organization may have at most {_MOST_LIVE} workspaces")
    row = _row(ids.make("wrkspc"), organization, name, now_ms) | _columns(settings)
    try:
        async with connection.begin_nested():  # PostgreSQL would end the whole transaction
            await connection.execute(insert(workspaces), row)
    except IntegrityError:
        raise Conflict("name: A workspace of this name already exists") from None
    return await get(Scope(organization, row["id"]), connection)


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


async def page(
    organization: str,
    connection: AsyncConnection,
    walk: Walk,
    *,
    archived: bool = False,
    default: bool = False,
    ids: Sequence[str] | None = None,
) -> Page[Workspace]:
    """A page of workspaces, newest first; archived ones and the default one only when asked for.

    Raises:
        InvalidRequest: the walk begins at an id that there is not.
    """
    query = select(workspaces).where(workspaces.c.organization == organization)
    if not archived:
        query = query.where(workspaces.c.archived_ms.is_(None))
    if not default:
        query = query.where(workspaces.c.id != DEFAULT_WORKSPACE)
    if ids is not None:
        query = query.where(workspaces.c.id.in_(ids))
    order = Order(workspaces.c.created_ms, workspaces.c.id, workspaces.c.organization == organization)
    return await page_of(connection, query, order, walk, _workspace)


async def live(connection: AsyncConnection) -> tuple[Workspace, ...]:
    """Every live workspace of the installation, for the snapshot that requests are checked against."""
    rows = await connection.execute(select(workspaces).where(workspaces.c.archived_ms.is_(None)))
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
        Conflict: the name is taken.
        InvalidRequest: it is the default workspace, which keeps its name.
        NotFound: there is no such live workspace.
    """
    await change(scope, connection, WorkspaceChange(name=name))


async def change(scope: Scope, connection: AsyncConnection, changed: WorkspaceChange) -> None:
    """Set some of a live workspace's settings.

    Raises:
        Conflict: the name is taken.
        InvalidRequest: it is the default workspace, which keeps its name.
        NotFound: there is no such live workspace.
    """
    if changed.name is not msgspec.UNSET:
        _refuse_default(scope, "renamed")
    await bump(connection, "workspaces")
    columns = _columns(changed)
    # Without anything to set this still tells whether there is such a workspace.
    living = update(workspaces).where(*_is(scope), workspaces.c.archived_ms.is_(None))
    try:
        async with connection.begin_nested():
            done = await connection.execute(living.values(columns or {"id": scope.workspace}))
    except IntegrityError:
        raise Conflict("name: A workspace of this name already exists") from None
    if not done.rowcount:
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


def _columns(changed: WorkspaceChange) -> dict[str, Any]:
    columns = {name: value for name, value in msgspec.structs.asdict(changed).items() if value is not msgspec.UNSET}
    if "tags" in columns:
        columns["tags"] = msgspec.json.encode(columns["tags"], order="deterministic").decode()
    if columns.get("allowed_geographies") is not None:
        columns["allowed_geographies"] = ",".join(columns["allowed_geographies"])
    return columns


def _workspace(row: Row[Any]) -> Workspace:
    return Workspace(
        row.id,
        row.organization,
        row.name,
        row.created_ms,
        row.archived_ms,
        row.profile,
        row.display_color,
        {} if row.tags is None else msgspec.json.decode(row.tags, type=dict[str, str]),
        geographies_of(row.allowed_geographies),
        row.default_geography,
        row.logs_requests,
    )


def geographies_of(stored: str | None) -> tuple[str, ...] | None:
    """The geographies of a column that lists them."""
    return None if stored is None else tuple(stored.split(","))
