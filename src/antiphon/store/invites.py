"""Invitations to an organization (contract `platform-and-tools.md` 7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Row, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import Role
from antiphon.store import users
from antiphon.store.changes import bump
from antiphon.store.pages import Order, Page, Walk, page_of
from antiphon.store.tables import invites

InviteStatus: TypeAlias = Literal["accepted", "deleted", "expired", "pending"]

#: How long an invitation stands.
LIFETIME_MS = 21 * 24 * 3600 * 1000
_i = invites.c


class Invite(msgspec.Struct, frozen=True):
    """An invitation. `email` is as `users.normal` writes it."""

    id: str
    organization: str
    email: str
    role: Role
    invited_ms: int
    expires_ms: int
    accepted_ms: int | None = None
    deleted_ms: int | None = None

    def status_at(self, now_ms: int) -> InviteStatus:
        """What has become of it."""
        if self.deleted_ms is not None:
            return "deleted"
        if self.accepted_ms is not None:
            return "accepted"
        return "expired" if self.expires_ms <= now_ms else "pending"


async def create(
    organization: str, connection: AsyncConnection, invite_id: str, email: str, role: Role, now_ms: int
) -> Invite:
    """Invite somebody.

    Raises:
        InvalidRequest: the address belongs to a user, or an invitation to it is pending.
    """
    await bump(connection, "people")
    email = users.normal(email)
    if await users.by_email(organization, connection, email) is not None:
        raise users.already_member(email)
    pending = select(_i.id).where(_i.organization == organization, _i.email == email, _has("pending", now_ms))
    other = (await connection.execute(pending)).scalars().first()
    if other is not None:
        raise InvalidRequest(
            f"The invite {other} to this address is still pending",
            path="email",
            details={"error_code": "invite_already_exists"},
        )
    made = Invite(invite_id, organization, email, role, now_ms, now_ms + LIFETIME_MS)
    await connection.execute(insert(invites).values(msgspec.structs.asdict(made)))
    return made


async def get(organization: str, connection: AsyncConnection, invite_id: str) -> Invite:
    """One invitation, whatever has become of it.

    Raises:
        NotFound: the organization has no such invitation.
    """
    row = (await connection.execute(select(invites).where(*_is(organization, invite_id)))).one_or_none()
    if row is None:
        raise NotFound("Invite not found")
    return _invite(row)


async def page(
    organization: str,
    connection: AsyncConnection,
    walk: Walk,
    now_ms: int,
    *,
    email: str | None = None,
    roles: Sequence[Role] = (),
    statuses: Sequence[InviteStatus] = ("pending", "accepted", "expired"),
) -> Page[Invite]:
    """A page of invitations, newest first; the deleted ones only when asked for.

    Raises:
        InvalidRequest: the walk begins at an id that there is not.
    """
    query = select(invites).where(_i.organization == organization, or_(*(_has(status, now_ms) for status in statuses)))
    if email is not None:
        query = query.where(_i.email == users.normal(email))
    if roles:
        query = query.where(_i.role.in_(roles))
    order = Order(_i.invited_ms, _i.id, _i.organization == organization)
    return await page_of(connection, query, order, walk, _invite)


async def accept(organization: str, connection: AsyncConnection, invite_id: str, now_ms: int) -> Invite:
    """Mark an invitation as accepted: pending -> accepted.

    Raises:
        NotFound: the organization has no such invitation.
        InvalidRequest: it is not pending any more.
    """
    return await _close(organization, connection, invite_id, now_ms, "accepted_ms")


async def withdraw(organization: str, connection: AsyncConnection, invite_id: str, now_ms: int) -> Invite:
    """Take an invitation back: pending -> deleted.

    Raises:
        NotFound: the organization has no such invitation.
        InvalidRequest: it is not pending any more.
    """
    return await _close(organization, connection, invite_id, now_ms, "deleted_ms")


async def _close(
    organization: str,
    connection: AsyncConnection,
    invite_id: str,
    now_ms: int,
    column: Literal["accepted_ms", "deleted_ms"],
) -> Invite:
    await bump(connection, "people")
    pending = update(invites).where(*_is(organization, invite_id), _has("pending", now_ms))
    changed = await connection.execute(pending.values({column: now_ms}))
    found = await get(organization, connection, invite_id)
    if not changed.rowcount:
        raise InvalidRequest(f"This invite is not pending: it is {found.status_at(now_ms)}")
    return found


def _has(status: InviteStatus, now_ms: int) -> ColumnElement[bool]:
    """`Invite.status_at` as a condition."""
    if status == "deleted":
        return _i.deleted_ms.is_not(None)
    if status == "accepted":
        return and_(_i.deleted_ms.is_(None), _i.accepted_ms.is_not(None))
    over = _i.expires_ms <= now_ms if status == "expired" else _i.expires_ms > now_ms
    return and_(_i.deleted_ms.is_(None), _i.accepted_ms.is_(None), over)


def _is(organization: str, invite_id: str) -> tuple[ColumnElement[bool], ...]:
    return (_i.organization == organization, _i.id == invite_id)


def _invite(row: Row[Any]) -> Invite:
    return Invite(
        row.id,
        row.organization,
        row.email,
        row.role,
        row.invited_ms,
        row.expires_ms,
        row.accepted_ms,
        row.deleted_ms,
    )
