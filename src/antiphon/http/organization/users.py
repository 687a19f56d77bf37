"""`/v1/organizations/users` (contract `platform-and-tools.md` 7.2, `client-surface.md` 5).

Admins are neither made nor changed nor removed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from antiphon.core.clock import rfc3339
from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, Deed, organization_of
from antiphon.http.organization.query import Query, listed
from antiphon.http.routes import Route
from antiphon.store import users
from antiphon.store.users import User
from antiphon.wire.organization import people

_ROLES: tuple[people.ListedRole, ...] = get_args(people.ListedRole)
_ONE = "/v1/organizations/users/{user_id}"


class Users:
    """The people of the organization."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route("/v1/organizations/users", "users", get=self.list),
            route(_ONE, "users", get=self.get, post=self.update, delete=self.remove),
        ]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of users."""
        query = Query(exchange.query)
        walk, email, roles = query.walk(), query.one("email"), query.choices("roles", _ROLES)
        async with self._administration.database.reading() as connection:
            page = await users.page(organization_of(exchange), connection, walk, email=email, roles=roles)
        await exchange.json(200, listed(page, shown, lambda user: user.id))

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One user."""
        async with self._administration.database.reading() as connection:
            user = await users.get(organization_of(exchange), connection, parameters["user_id"])
        await exchange.json(200, shown(user))

    async def update(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Give a user another role."""
        user_id, organization = parameters["user_id"], organization_of(exchange)
        deed = Deed("claude_user_role_updated", "users", user_id)
        asked = await self._administration.asked(exchange, deed, people.UserUpdate)
        async with self._administration.doing(exchange, deed) as act:
            before = await users.get(organization, act.connection, user_id)
            await users.set_role(organization, act.connection, user_id, asked.role)
            after = await users.get(organization, act.connection, user_id)
            act.old, act.new = {"role": before.role}, {"role": after.role}
        await exchange.json(200, shown(after))

    async def remove(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Remove a user, with all memberships; keys that act as that user are valid no more."""
        user_id, organization = parameters["user_id"], organization_of(exchange)
        deed = Deed("org_user_deleted", "users", user_id)
        await self._administration.allowed(exchange, deed)
        async with self._administration.doing(exchange, deed) as act:
            user = await users.get(organization, act.connection, user_id)
            await users.remove(organization, act.connection, user_id)
            act.old = {"email": user.email, "role": user.role}
        await exchange.json(200, people.UserDeleted(user_id))


def shown(user: User) -> people.User:
    """A user as it is answered."""
    return people.User(id=user.id, email=user.email, name=user.name, role=user.role, added_at=rfc3339(user.added_ms))
