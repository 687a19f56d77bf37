"""`/v1/organizations/workspaces/{id}/members` (contract `platform-and-tools.md` 7.3, `client-surface.md` 5)."""

from __future__ import annotations

from collections.abc import Mapping

from antiphon.core.records import Scope
from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, Deed, organization_of
from antiphon.http.organization.query import Query, listed, sound_id
from antiphon.http.routes import Route
from antiphon.store import members
from antiphon.store.members import Member
from antiphon.wire.organization import people

_ALL = "/v1/organizations/workspaces/{workspace_id}/members"


class Members:
    """Who belongs to a workspace. The default workspace has no members of its own: everybody is in it."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route(_ALL, "workspace members", get=self.list, post=self.add),
            route(_ALL + "/{user_id}", "workspace members", get=self.get, post=self.update, delete=self.remove),
        ]

    async def list(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """A page of members, with those who are in every workspace by their role in the organization."""
        walk = Query(exchange.query).walk()
        async with self._administration.database.reading() as connection:
            page = await members.page(_scope(exchange, parameters), connection, walk)
        await exchange.json(200, listed(page, _shown, lambda member: member.user_id))

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One member."""
        async with self._administration.database.reading() as connection:
            member = await members.get(_scope(exchange, parameters), connection, parameters["user_id"])
        await exchange.json(200, _shown(member))

    async def add(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Add a user to a workspace."""
        scope = _scope(exchange, parameters)
        deed = Deed("platform_workspace_member_added", "workspace members", workspace=scope.workspace)
        asked = await self._administration.asked(exchange, deed, people.NewMember)
        now_ms = self._administration.clock.now_ms()
        async with self._administration.doing(exchange, deed) as act:
            act.subject = sound_id(asked.user_id)
            member = await members.add(scope, act.connection, act.subject, asked.workspace_role, now_ms)
            act.new = {"workspace_role": member.role}
        await exchange.json(200, _shown(member))

    async def update(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Give a member another role."""
        scope, user_id = _scope(exchange, parameters), parameters["user_id"]
        deed = Deed("platform_workspace_member_updated", "workspace members", user_id, scope.workspace)
        asked = await self._administration.asked(exchange, deed, people.MemberUpdate)
        async with self._administration.doing(exchange, deed) as act:
            before = await members.get(scope, act.connection, user_id)
            after = await members.set_role(scope, act.connection, user_id, asked.workspace_role)
            act.old, act.new = {"workspace_role": before.role}, {"workspace_role": after.role}
        await exchange.json(200, _shown(after))

    async def remove(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Remove a member."""
        scope, user_id = _scope(exchange, parameters), parameters["user_id"]
        deed = Deed("platform_workspace_member_removed", "workspace members", user_id, scope.workspace)
        await self._administration.allowed(exchange, deed)
        async with self._administration.doing(exchange, deed) as act:
            gone = await members.remove(scope, act.connection, user_id)
            act.old = {"workspace_role": gone.role}
        await exchange.json(200, people.MemberDeleted(user_id, scope.workspace))


def _scope(exchange: Exchange, parameters: Mapping[str, str]) -> Scope:
    return Scope(organization_of(exchange), parameters["workspace_id"])


def _shown(member: Member) -> people.WorkspaceMember:
    return people.WorkspaceMember(member.user_id, member.scope.workspace, member.role)
