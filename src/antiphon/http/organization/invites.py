"""`/v1/organizations/invites` (contract `platform-and-tools.md` 7.2, `client-surface.md` 5).

No mail is sent, and there is nobody to sign in yet. So an invitation becomes a user by an addition of Antiphon's own:
`POST /v1/organizations/invites/{id}/accept` with a name, by somebody who administers users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from antiphon.core.clock import rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.http.exchange import Exchange
from antiphon.http.organization import users as users_route
from antiphon.http.organization.administration import Administration, Deed, organization_of
from antiphon.http.organization.query import Query, listed
from antiphon.http.routes import Route
from antiphon.store import invites, users
from antiphon.store.invites import Invite
from antiphon.store.users import User
from antiphon.wire.organization import people

_ROLES: tuple[people.ListedRole, ...] = get_args(people.ListedRole)
_STATUSES: tuple[people.ListedStatus, ...] = get_args(people.ListedStatus)
_ALL = "/v1/organizations/invites"


class Invites:
    """Invitations to the organization."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route(_ALL, "invites", get=self.list, post=self.create),
            route(_ALL + "/{invite_id}", "invites", get=self.get, delete=self.withdraw),
            route(_ALL + "/{invite_id}/accept", "invites", post=self.accept),
        ]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of invitations that were not taken back."""
        query, now_ms = Query(exchange.query), self._administration.clock.now_ms()
        walk, email = query.walk(), query.one("email")
        roles, statuses = query.choices("roles", _ROLES), query.choices("statuses", _STATUSES) or _STATUSES
        async with self._administration.database.reading() as connection:
            page = await invites.page(
                organization_of(exchange), connection, walk, now_ms, email=email, roles=roles, statuses=statuses
            )
        await exchange.json(200, listed(page, lambda invite: _shown(invite, now_ms), lambda invite: invite.id))

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One invitation, whatever has become of it."""
        async with self._administration.database.reading() as connection:
            invite = await invites.get(organization_of(exchange), connection, parameters["invite_id"])
        await exchange.json(200, _shown(invite, self._administration.clock.now_ms()))

    async def create(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Invite somebody."""
        deed = Deed("org_user_invite_sent", "invites")
        asked = await self._administration.asked(exchange, deed, people.NewInvite)
        now_ms = self._administration.clock.now_ms()
        async with self._administration.doing(exchange, deed) as act:
            if asked.rbac_group_ids:
                raise InvalidRequest("This organization has no groups", path="rbac_group_ids")
            made = await invites.create(
                organization_of(exchange),
                act.connection,
                self._administration.ids.make("invite"),
                asked.email,
                asked.role,
                now_ms,
            )
            act.subject, act.new = made.id, {"email": made.email, "role": made.role}
        await exchange.json(200, _shown(made, now_ms))

    async def withdraw(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Take a pending invitation back."""
        invite_id = parameters["invite_id"]
        deed = Deed("org_user_invite_deleted", "invites", invite_id)
        await self._administration.allowed(exchange, deed)
        now_ms = self._administration.clock.now_ms()
        async with self._administration.doing(exchange, deed) as act:
            gone = await invites.withdraw(organization_of(exchange), act.connection, invite_id, now_ms)
            act.old = {"email": gone.email, "role": gone.role}
        await exchange.json(200, people.InviteDeleted(invite_id))

    async def accept(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Make a pending invitation a user, who is answered."""
        invite_id, organization = parameters["invite_id"], organization_of(exchange)
        deed = Deed("org_user_invite_accepted", "invites", invite_id)
        asked = await self._administration.asked(exchange, deed, people.InviteAccepted)
        now_ms = self._administration.clock.now_ms()
        async with self._administration.doing(exchange, deed) as act:
            invite = await invites.accept(organization, act.connection, invite_id, now_ms)
            user_id = self._administration.ids.make("user")
            user = User(user_id, organization, invite.email, asked.name, invite.role, now_ms)
            await users.add(organization, act.connection, user)
            act.new = {"user_id": user.id, "email": user.email, "role": user.role}
        await exchange.json(200, users_route.shown(user))


def _shown(invite: Invite, now_ms: int) -> people.Invite:
    return people.Invite(
        id=invite.id,
        email=invite.email,
        role=invite.role,
        status=invite.status_at(now_ms),
        invited_at=rfc3339(invite.invited_ms),
        expires_at=rfc3339(invite.expires_ms),
        accepted_at=None if invite.accepted_ms is None else rfc3339(invite.accepted_ms),
    )
