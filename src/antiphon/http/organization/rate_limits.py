"""Rate limits of the organization and of its workspaces (contract platform-and-tools 7.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.admin.acts import Act
from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import DEFAULT_WORKSPACE, Scope
from antiphon.gate.governing import policy_of
from antiphon.gate.limits.policy import Policy
from antiphon.gate.limits.tiers import KINDS, OTHER, Book, Kind
from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, Deed, organization_of
from antiphon.http.organization.limit_lists import paged, stable_id
from antiphon.http.organization.query import Query
from antiphon.http.routes import Route
from antiphon.routing.known import Spelling, claude_models
from antiphon.routing.resolve import Router
from antiphon.store import limits, workspaces
from antiphon.wire.organization.limits import (
    LimitGroup,
    LimitSource,
    LimitValue,
    NewLimitValue,
    OrganizationRateLimit,
    RateLimitUpdate,
    WorkspaceLimitValue,
    WorkspaceRateLimit,
)

_ALL = "/v1/organizations/rate_limits"
_OF_WORKSPACE = "/v1/organizations/workspaces/{workspace_id}/rate_limits"
_GROUP_TYPES = ("batch", "files", "model_group", "skills", "token_count", "web_search")
_INPUT: Kind = "input_tokens_per_minute"
#: The name of the input limit where tokens read from the cache do not count.
_CACHE_AWARE = "input_tokens_per_minute_cache_aware"


class RateLimits:
    """The limits, and setting them."""

    def __init__(self, administration: Administration, book: Book, tier: str, router: Router) -> None:
        self._book = book
        self._tier = tier
        self._router = router
        self._administration = administration
        self._spelling = Spelling(claude_models())
        self._aliases = {model.id: model.also for model in claude_models()}
        self._order = {group: place for place, group in enumerate(book.groups)}

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route(_ALL, "rate limits", get=self.list),
            route(_ALL + "/{rate_limit_id}", "rate limits", post=self.update),
            route(_OF_WORKSPACE, "rate limits", get=self.list_workspace),
            route(_OF_WORKSPACE + "/{rate_limit_id}", "rate limits", post=self.update_workspace),
        ]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """The organization's limits."""
        query, organization = Query(exchange.query), organization_of(exchange)
        groups = self._groups(query)
        async with self._administration.database.reading() as connection:
            policy = await self._policy(organization, connection)
        page = paged(query, groups, lambda group: (self._order[group],), default=None)
        data = tuple(self._entry(organization, policy, group) for group in page.data)
        await exchange.json(200, {"data": data, "next_page": page.next_page})

    async def list_workspace(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """A workspace's own limits and, where asked for, those it inherits."""
        query = Query(exchange.query)
        inherited = query.flag("include_inherited")
        scope = Scope(organization_of(exchange), parameters["workspace_id"])
        async with self._administration.database.reading() as connection:
            await workspaces.get(scope, connection)
            policy = await self._policy(scope.organization, connection)
        entries = {g: self._own_entry(scope, policy, g, inherited=inherited) for g in self._groups(query)}
        shown = [group for group, entry in entries.items() if entry.limits]
        page = paged(query, shown, lambda group: (self._order[group],), default=None)
        data = tuple(entries[group] for group in page.data)
        await exchange.json(200, {"data": data, "next_page": page.next_page})

    async def update(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Set limits of the organization over its tier's; null gives the tier's back. Antiphon's own addition: on the
        API the provider sets them."""
        organization, limit_id = organization_of(exchange), parameters["rate_limit_id"]
        deed = Deed("platform_organization_rate_limit_updated", "rate limits", limit_id)
        asked = (await self._administration.asked(exchange, deed, RateLimitUpdate)).limits
        async with self._administration.doing(exchange, deed) as act:
            group = self._group_of(organization, limit_id)
            policy = await self._set(act, organization, group, self._wanted(group, asked))
        await exchange.json(200, self._entry(organization, policy, group))

    async def update_workspace(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Set a workspace's own limits; null has it inherit the organization's again."""
        scope, limit_id = Scope(organization_of(exchange), parameters["workspace_id"]), parameters["rate_limit_id"]
        deed = Deed("platform_workspace_rate_limit_updated", "rate limits", limit_id, scope.workspace)
        asked = (await self._administration.asked(exchange, deed, RateLimitUpdate)).limits
        if all(limit.value is None for limit in asked):
            deed = msgspec.structs.replace(deed, kind="platform_workspace_rate_limit_deleted")
        async with self._administration.doing(exchange, deed) as act:
            if (await workspaces.get(scope, act.connection)).archived_ms is not None:
                raise InvalidRequest("Limits cannot be set on an archived workspace")
            if scope.workspace == DEFAULT_WORKSPACE:
                raise InvalidRequest("Limits cannot be set on the default workspace")
            group = self._group_of(scope.organization, limit_id)
            wanted = self._wanted(group, asked, of_workspace=True)
            policy = await self._set(act, scope.organization, group, wanted, workspace=scope.workspace)
        await exchange.json(200, self._own_entry(scope, policy, group, inherited=False))

    async def _set(
        self,
        act: Act,
        organization: str,
        group: str,
        wanted: Mapping[str, int | None],
        *,
        workspace: str | None = None,
    ) -> Policy:
        before = await limits.all_rate_limits(organization, act.connection)
        old = {row.kind: row.value for row in before if row.workspace == workspace and row.group == group}
        await limits.set_rate_limits(organization, act.connection, group, wanted, workspace=workspace)
        act.old = {"group": group, "limits": {kind: old.get(kind) for kind in wanted}}
        act.new = {"group": group, "limits": dict(wanted)}
        return await self._policy(organization, act.connection)

    async def _policy(self, organization: str, connection: AsyncConnection) -> Policy:
        return policy_of(self._book, self._tier, await limits.all_rate_limits(organization, connection))

    def _groups(self, query: Query) -> Sequence[str]:
        """Those that the query asks for. Types that nothing here has (skills, web_search) are known, and empty.

        Raises:
            NotFound: no such model.
        """
        kind, model = query.choice("group_type", _GROUP_TYPES), query.one("model")
        groups: Iterable[str] = self._book.groups
        if model is not None:
            self._router.resolve(model)
            groups = [self._book.group_of(self._spelling.of(model))]
        return [group for group in groups if kind in (None, self._book.groups[group].type)]

    def _group_of(self, organization: str, limit_id: str) -> str:
        for group in self._book.groups:
            if limit_id == _id(organization, group):
                return group
        raise NotFound("Rate limit not found")

    def _wanted(
        self, group: str, asked: Iterable[NewLimitValue], *, of_workspace: bool = False
    ) -> dict[str, int | None]:
        """The limits to set, by our own names. Both names of the input limit are understood: as long as nothing is read
        from a cache there is no difference.

        Raises:
            InvalidRequest: the group has no such limit, it is named twice, or its value is out of bounds.
        """
        wanted: dict[str, int | None] = {}
        names: dict[str, Kind] = {kind: kind for kind in KINDS[self._book.groups[group].type]}
        if of_workspace:
            names.pop("enqueued_batch_requests", None)
        if _INPUT in names:
            names[_CACHE_AWARE] = _INPUT
        for place, limit in enumerate(asked):
            kind = names.get(limit.type)
            if kind is None:
                expected = ", ".join(f"'{name}'" for name in sorted(names))
                raise InvalidRequest(f"This group's limits are: {expected}", path=f"limits.{place}.type")
            if kind in wanted:
                raise InvalidRequest("This limit is named twice", path=f"limits.{place}.type")
            try:
                self._book.check(group, {kind: limit.value})
            except ValueError as error:
                raise InvalidRequest(str(error).replace("`", "'"), path=f"limits.{place}.value") from None
            wanted[kind] = limit.value
        return wanted

    def _entry(self, organization: str, policy: Policy, group: str) -> OrganizationRateLimit:
        values = policy.organization_limits(group).items()
        return OrganizationRateLimit(
            id=_id(organization, group),
            group=self._shown(group),
            limits=tuple(LimitValue(type=self._name(group, kind), value=value) for kind, value in values),
            models=self._models(group),
        )

    def _own_entry(self, scope: Scope, policy: Policy, group: str, *, inherited: bool) -> WorkspaceRateLimit:
        values = policy.workspace_limits(scope.workspace, group)
        return WorkspaceRateLimit(
            rate_limit_id=_id(scope.organization, group),
            workspace_id=scope.workspace,
            group=self._shown(group),
            limits=tuple(
                WorkspaceLimitValue(
                    type=self._name(group, limit.kind),
                    value=limit.value,
                    org_limit=limit.org_limit,
                    source=LimitSource("workspace" if limit.own else "organization"),
                )
                for limit in values
                if limit.own or inherited
            ),
            models=self._models(group),
        )

    def _shown(self, group: str) -> LimitGroup:
        described = self._book.groups[group]
        shown = LimitGroup(id=stable_id("rlg", "group", group), type=described.type)
        if described.type == "model_group":
            shown = LimitGroup(id=shown.id, type=shown.type, display_name=described.display_name)
        return shown

    def _name(self, group: str, kind: Kind) -> str:
        return _CACHE_AWARE if kind == _INPUT and not self._book.groups[group].cache_reads_count else kind

    def _models(self, group: str) -> tuple[str, ...] | None:
        """Every id of a group, with its other spellings; in the last group all else that can be asked for."""
        described = self._book.groups[group]
        if described.type != "model_group":
            return None
        ids: Iterable[str] = described.models
        if group == OTHER:
            listed = (model.id for model in self._router.page(limit=1000).data)
            ids = [id for id in listed if self._book.group_of(id) == OTHER]
        return tuple(name for id in ids for name in (id, *self._aliases.get(id, ())))


def _id(organization: str, group: str) -> str:
    return stable_id("rlg", "entry", organization, group)
