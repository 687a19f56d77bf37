"""The people of an organization (contract `platform-and-tools.md` 7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import Role
from antiphon.store.changes import bump
from antiphon.store.pages import Order, Page, Walk, page_of
from antiphon.store.tables import api_keys, users

_u = users.c


class User(msgspec.Struct, frozen=True):
    """A person. `email` is as `normal` writes it."""

    id: str
    organization: str
    email: str
    name: str
    role: Role
    added_ms: int


def normal(email: str) -> str:
    """An address as it is stored and compared: nobody tells mailboxes apart by capitals."""
    return email.strip().casefold()


async def add(organization: str, connection: AsyncConnection, user: User) -> None:
    """Add a person.

    Raises:
        InvalidRequest: somebody of the organization has this address.
    """
    await bump(connection, "people")
    if await by_email(organization, connection, user.email) is not None:
        raise already_member(user.email)
    await connection.execute(insert(users).values(msgspec.structs.asdict(user)))


def already_member(email: str) -> InvalidRequest:
    """The refusal of an address that somebody of the organization has."""
    return InvalidRequest(
        f"{email} already belongs to a user of this organization",
        path="email",
        details={"error_code": "already_member"},
    )


async def get(organization: str, connection: AsyncConnection, user_id: str) -> User:
    """One person.

    Raises:
        NotFound: the organization has no such user.
    """
    query = select(users).where(_u.organization == organization, _u.id == user_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("User not found")
    return _user(row)


async def by_email(organization: str, connection: AsyncConnection, email: str) -> User | None:
    """The person of this address, if there is one."""
    query = select(users).where(_u.organization == organization, _u.email == normal(email))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _user(row)


async def page(
    organization: str,
    connection: AsyncConnection,
    walk: Walk,
    *,
    email: str | None = None,
    roles: Sequence[Role] = (),
) -> Page[User]:
    """A page of people, those who came last first; all of them unless an address or roles are given.

    Raises:
        InvalidRequest: the walk begins at an id that there is not.
    """
    query = select(users).where(_u.organization == organization)
    if email is not None:
        query = query.where(_u.email == normal(email))
    if roles:
        query = query.where(_u.role.in_(roles))
    return await page_of(connection, query, Order(_u.added_ms, _u.id, _u.organization == organization), walk, _user)


async def set_role(organization: str, connection: AsyncConnection, user_id: str, role: Role) -> None:
    """Change what a person may do. Who administers keeps the role: it is neither given nor taken here.

    Raises:
        NotFound: the organization has no such user.
        InvalidRequest: the person is an admin.
    """
    await bump(connection, "people")
    _keep_admin(await get(organization, connection, user_id), "The role of an admin cannot be changed through the API")
    await connection.execute(update(users).where(_u.organization == organization, _u.id == user_id).values(role=role))


async def remove(organization: str, connection: AsyncConnection, user_id: str) -> None:
    """Remove a person, with all memberships; the keys that act as that person end.

    Raises:
        NotFound: the organization has no such user.
        InvalidRequest: the person is an admin, or the only member there is.
    """
    await bump(connection, "people")
    _keep_admin(await get(organization, connection, user_id), "An admin cannot be removed through the API")
    members = select(func.count()).where(_u.organization == organization)
    if (await connection.execute(members)).scalar_one() == 1:
        raise InvalidRequest(
            "This user is the organization's only member; add another one first",
            details={"error_code": "cannot_remove_last_member"},
        )
    await bump(connection, "keys")
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.organization == organization, api_keys.c.principal == user_id)
        .values(status="archived")
    )
    await connection.execute(delete(users).where(_u.organization == organization, _u.id == user_id))


def _keep_admin(user: User, text: str) -> None:
    if user.role == "admin":
        raise InvalidRequest(text)


def _user(row: Row[Any]) -> User:
    return User(row.id, row.organization, row.email, row.name, row.role, row.added_ms)
