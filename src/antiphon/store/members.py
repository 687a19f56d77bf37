"""Who belongs to a workspace (contract `platform-and-tools.md` 7.3).

Admins and billing members of the organization belong to every workspace by their role there; everybody else must be
added. Both kinds are in every list, and only the second can be added, changed or removed. To the default workspace the
whole organization belongs; it has no members of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, Select, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import DEFAULT_WORKSPACE, Role, Scope, WorkspaceRole
from antiphon.store import users
from antiphon.store import workspaces as workspaces_store
from antiphon.store.changes import bump
from antiphon.store.once import insert_once
from antiphon.store.pages import Order, Page, Walk, page_of
from antiphon.store.tables import api_keys, workspace_members
from antiphon.store.tables import users as people

#: What a role in the organization makes of its bearer in every workspace.
INHERITED: Mapping[Role, WorkspaceRole] = {"admin": "workspace_admin", "billing": "workspace_billing"}
_m = workspace_members.c


class Member(msgspec.Struct, frozen=True):
    """A person in a workspace."""

    scope: Scope
    user_id: str
    role: WorkspaceRole


async def get(scope: Scope, connection: AsyncConnection, user_id: str) -> Member:
    """One member.

    Raises:
        NotFound: there is no such workspace, or nobody of this id belongs to it.
    """
    await workspaces_store.get(scope, connection)
    row = (await connection.execute(_members(scope).where(people.c.id == user_id))).one_or_none()
    if row is None:
        raise NotFound("Workspace member not found")
    return _member(scope, row)


async def page(scope: Scope, connection: AsyncConnection, walk: Walk) -> Page[Member]:
    """A page of members, those who joined the organization last first.

    Raises:
        NotFound: there is no such workspace.
        InvalidRequest: the walk begins at an id that there is not.
    """
    await workspaces_store.get(scope, connection)
    order = Order(people.c.added_ms, people.c.id, people.c.organization == scope.organization)
    return await page_of(connection, _members(scope), order, walk, lambda row: _member(scope, row))


async def add(scope: Scope, connection: AsyncConnection, user_id: str, role: WorkspaceRole, now_ms: int) -> Member:
    """Add a person.

    Raises:
        NotFound: there is no such workspace or user.
        InvalidRequest: it is the default workspace or an archived one, or the person belongs to it already.
    """
    await bump(connection, "people")
    await _refuse_fixed(scope, connection, user_id)
    made = await connection.execute(
        insert_once(connection.dialect, workspace_members),
        {
            "organization": scope.organization,
            "workspace": scope.workspace,
            "user_id": user_id,
            "role": role,
            "added_ms": now_ms,
        },
    )
    if not made.rowcount:
        raise InvalidRequest("This user is a member of the workspace already", path="user_id")
    return Member(scope, user_id, role)


async def set_role(scope: Scope, connection: AsyncConnection, user_id: str, role: WorkspaceRole) -> Member:
    """Change what a member may do.

    Raises:
        NotFound: there is no such workspace or member.
        InvalidRequest: it is the default workspace or an archived one, the person belongs to it by the role in the
            organization, or the role can only be had in that way.
    """
    await bump(connection, "people")
    member = await get(scope, connection, user_id)
    if member.role == role:
        return member
    await _refuse_fixed(scope, connection, user_id)
    if role == "workspace_billing":
        raise InvalidRequest(f"{role} can only come from a role in the organization", path="workspace_role")
    await connection.execute(update(workspace_members).where(*_is(scope, user_id)).values(role=role))
    return Member(scope, user_id, role)


async def remove(scope: Scope, connection: AsyncConnection, user_id: str) -> Member:
    """Remove a member; returns who that was.

    Raises:
        NotFound: there is no such workspace or member.
        InvalidRequest: the person belongs to it by the role in the organization.
    """
    await bump(connection, "people")
    member = await get(scope, connection, user_id)
    await _refuse_fixed(scope, connection, user_id)
    await connection.execute(delete(workspace_members).where(*_is(scope, user_id)))
    return member


async def of_key_holders(connection: AsyncConnection) -> frozenset[tuple[str, str]]:
    """Which workspaces the users of unscoped keys were added to, as pairs of user and workspace; for the snapshot that
    requests are checked against."""
    holders = select(api_keys.c.principal).where(api_keys.c.unscoped, api_keys.c.principal.is_not(None))
    rows = await connection.execute(select(_m.user_id, _m.workspace).where(_m.user_id.in_(holders)))
    return frozenset((row.user_id, row.workspace) for row in rows)


async def _refuse_fixed(scope: Scope, connection: AsyncConnection, user_id: str) -> None:
    workspace = await workspaces_store.get(scope, connection)
    if scope.workspace == DEFAULT_WORKSPACE:
        raise InvalidRequest("The default workspace has no members of its own")
    if workspace.archived_ms is not None:
        raise InvalidRequest("An archived workspace cannot be changed")
    user = await users.get(scope.organization, connection, user_id)
    if user.role in INHERITED:
        raise InvalidRequest(f"A user with the organization role {user.role} belongs to every workspace by that role")


def _members(scope: Scope) -> Select[Any]:
    joined = people.outerjoin(
        workspace_members,
        and_(_m.organization == people.c.organization, _m.user_id == people.c.id, _m.workspace == scope.workspace),
    )
    own = select(people.c.id, people.c.role, _m.role.label("given")).select_from(joined)
    own = own.where(people.c.organization == scope.organization)
    if scope.workspace == DEFAULT_WORKSPACE:
        return own.where(people.c.id.is_(None))
    return own.where(or_(_m.role.is_not(None), people.c.role.in_(tuple(INHERITED))))


def _is(scope: Scope, user_id: str) -> tuple[Any, ...]:
    return (_m.organization == scope.organization, _m.workspace == scope.workspace, _m.user_id == user_id)


def _member(scope: Scope, row: Row[Any]) -> Member:
    return Member(scope, row.id, INHERITED.get(row.role, row.given))
