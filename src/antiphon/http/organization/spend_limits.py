"""Spend limits of the organization and of its workspaces, and what they come to (contract platform-and-tools 7.8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import rfc3339
from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import DEFAULT_WORKSPACE, Caller, Scope
from antiphon.gate.limits.tiers import Tier
from antiphon.gate.spend.budgets import HIGHEST_NANO, NANO_OF_DOLLAR, span
from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, Deed, caller_of, organization_of
from antiphon.http.organization.limit_lists import Place, paged, stable_id
from antiphon.http.organization.query import Query, sound_id
from antiphon.http.routes import Route
from antiphon.store import limits, spent, workspaces
from antiphon.store.limits import Period
from antiphon.wire.organization.limits import (
    NewSpendLimit,
    SpendActor,
    SpendLimit,
    SpendLimitDeleted,
    SpendScope,
    SpendSummary,
    cents_of,
    nano_of,
)

_ALL = "/v1/organizations/spend_limits"
_READS = "spend-limit-reads-2026-09-26"
_SCOPES = ("organization", "workspace", "usage_tier")
_PERIODS: tuple[Period, ...] = get_args(Period)
_PAGE = 20
_MOST_USERS = 100


class _Limit(msgspec.Struct, frozen=True):
    """A limit as the database has it, or the tier's cap."""

    row: limits.SpendLimit
    of_tier: bool = False

    @property
    def scope(self) -> SpendScope:
        if self.of_tier:
            return SpendScope(type="usage_tier")
        return _scope(self.row.workspace)


class SpendLimits:
    """The limits, setting them, and what is in force."""

    def __init__(self, administration: Administration, tier: Tier) -> None:
        self._tier = tier
        self._administration = administration

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route(_ALL, "spend limits", get=self.list, post=self.set),
            route(_ALL + "/effective", "spend limits", get=self.effective),
            route(_ALL + "/{spend_limit_id}", "spend limits", get=self.get, delete=self.delete),
        ]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """All limits, newest first, the tier's cap among them."""
        organization, query = organization_of(exchange), Query(exchange.query)
        if _READS not in exchange.betas:
            raise InvalidRequest(f"This route is in beta: send `anthropic-beta: {_READS}`")
        scopes, workspace = query.choices("scope_type", _SCOPES), query.one("workspace_id")
        async with self._administration.database.reading() as connection:
            if workspace is not None:
                await workspaces.get(Scope(organization, workspace), connection)
            found = await self._all(organization, connection)
        if scopes:
            found = [limit for limit in found if limit.scope.type in scopes]
        if workspace is not None:
            found = [limit for limit in found if limit.row.workspace == workspace]
        page = paged(query, found, lambda limit: (-limit.row.created_ms, limit.row.id), default=_PAGE)
        await exchange.json(200, {"data": tuple(map(_shown, page.data)), "next_page": page.next_page})

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One limit."""
        organization = organization_of(exchange)
        async with self._administration.database.reading() as connection:
            found = await self._all(organization, connection)
        for limit in found:
            if limit.row.id == parameters["spend_limit_id"]:
                await exchange.json(200, _shown(limit))
                return
        raise NotFound("Spend limit not found")

    async def set(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Set the limit of a scope and period, new or in the place of the one that is there."""
        deed = Deed("platform_spend_limit_updated", "spend limits")
        asked = await self._administration.asked(exchange, deed, NewSpendLimit)
        organization, workspace = organization_of(exchange), asked.scope.workspace_id
        if workspace is not None:
            workspace = sound_id(workspace)
            deed = Deed("workspace_spend_limit_updated", "spend limits", workspace=workspace)
        async with self._administration.doing(exchange, deed) as act:
            amount = await self._checked(organization, act.connection, asked, workspace)
            row, before = await limits.set_spend_limit(
                organization,
                act.connection,
                self._administration.ids,
                asked.period,
                amount,
                self._administration.clock.now_ms(),
                workspace=workspace,
            )
            act.subject = row.id
            act.old = None if before is None else _told(before)
            act.new = _told(row)
        await exchange.json(200, _shown(_Limit(row)))

    async def delete(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Remove a limit. The tier's cap stays."""
        organization, limit_id = organization_of(exchange), parameters["spend_limit_id"]
        deed = Deed("platform_spend_limit_deleted", "spend limits", limit_id)
        await self._administration.allowed(exchange, deed)
        async with self._administration.database.reading() as connection:
            known = await limits.all_spend_limits(organization, connection)
        workspace = next((limit.workspace for limit in known if limit.id == limit_id), None)
        if workspace is not None:
            deed = Deed("workspace_spend_limit_deleted", "spend limits", limit_id, workspace)
        async with self._administration.doing(exchange, deed) as act:
            if limit_id == self._cap_id(organization):
                raise InvalidRequest("The usage tier's limit cannot be deleted")
            act.old = _told(await limits.delete_spend_limit(organization, act.connection, limit_id))
        await exchange.json(200, SpendLimitDeleted(id=limit_id))

    async def effective(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """What is in force and what was spent, for the organization and every live workspace: of each period the lowest
        limit that binds it. On the API the rows are members'; here nobody's own spending is limited, so that those of
        particular users are none, and `actor` is the key that asks. What was spent is what the ledger has posted."""
        caller, query = caller_of(exchange), Query(exchange.query)
        periods = query.choices("period", _PERIODS) or _PERIODS
        users = query.several("user_ids")
        if len(users) > _MOST_USERS:
            raise InvalidRequest(f"List should have at most {_MOST_USERS} items", path="user_ids")
        organization = caller.scope.organization
        async with self._administration.database.reading() as connection:
            live = () if users else await workspaces.of_organization(organization, connection)
            found = await self._all(organization, connection)
            used = {period: await self._spent(organization, connection, period) for period in _PERIODS}
        members: dict[str | None, Place] = {} if users else {None: (0, 0, "")}
        members |= {workspace.id: (1, workspace.created_ms, workspace.id) for workspace in live}
        rows = {m: tuple(_rows(m, periods, found, used, caller)) for m in members}
        page = paged(query, [m for m in members if rows[m]], lambda m: members[m], default=_PAGE)
        data = tuple(row for member in page.data for row in rows[member])
        await exchange.json(200, {"data": data, "next_page": page.next_page})

    async def _all(self, organization: str, connection: AsyncConnection) -> Sequence[_Limit]:
        found = [_Limit(row) for row in await limits.all_spend_limits(organization, connection)]
        cap, cap_id = self._cap_nano, self._cap_id(organization)
        if cap is not None and cap_id is not None:
            # The default workspace is as old as the organization.
            began = (await workspaces.get(Scope(organization, DEFAULT_WORKSPACE), connection)).created_ms
            row = limits.SpendLimit(cap_id, None, "monthly", cap, began, began)
            found.append(_Limit(row, of_tier=True))
        return found

    async def _checked(
        self, organization: str, connection: AsyncConnection, asked: NewSpendLimit, workspace: str | None
    ) -> int | None:
        """The amount, nano-dollars.

        Raises:
            InvalidRequest: such a limit cannot be set.
            NotFound: there is no such workspace.
        """
        if asked.scope.type not in ("organization", "workspace"):
            raise InvalidRequest("Input should be 'organization' or 'workspace'", path="scope.type")
        if (asked.scope.type == "workspace") != (workspace is not None):
            text = "Field required" if workspace is None else "Extra inputs are not permitted"
            raise InvalidRequest(text, path="scope.workspace_id")
        amount = None if asked.amount is None else nano_of(asked.amount, HIGHEST_NANO)
        cap = self._cap_nano
        if workspace is None and amount is not None and cap is not None and amount > cap:
            raise InvalidRequest(f"Input should be at most the usage tier's {cents_of(cap)} cents", path="amount")
        if workspace == DEFAULT_WORKSPACE:
            raise InvalidRequest("Limits cannot be set on the default workspace", path="scope.workspace_id")
        if workspace is not None:
            found = await workspaces.get(Scope(organization, workspace), connection)
            if found.archived_ms is not None:
                raise InvalidRequest("Limits cannot be set on an archived workspace", path="scope.workspace_id")
        return amount

    async def _spent(self, organization: str, connection: AsyncConnection, period: Period) -> Mapping[str, int]:
        return await spent.by_workspace(organization, connection, *span(period, self._administration.clock.now_ms()))

    @property
    def _cap_nano(self) -> int | None:
        cap = self._tier.monthly_spend_cap_usd
        return None if cap is None else cap * NANO_OF_DOLLAR

    def _cap_id(self, organization: str) -> str | None:
        return None if self._cap_nano is None else stable_id("spl", "usage_tier", organization)


def _rows(
    member: str | None,
    periods: Iterable[str],
    found: Sequence[_Limit],
    used: Mapping[Period, Mapping[str, int]],
    caller: Caller,
) -> Iterable[SpendSummary]:
    for period in (each for each in _PERIODS if each in periods):
        binding = [limit for limit in found if limit.row.period == period and limit.row.workspace in (None, member)]
        if not binding:
            continue
        # The lowest; of equal ones, and where there is no number, the one that is nearest.
        chosen = min(binding, key=lambda limit: (_amount(limit), limit.row.workspace is None, limit.of_tier))
        nano = sum(used[period].values()) if member is None else used[period].get(member, 0)
        yield SpendSummary(
            actor=SpendActor(scoped_api_key_id=caller.key_id),
            scope=_scope(member),
            source=chosen.scope,
            spend_limit_id=chosen.row.id,
            period=period,
            amount=None if chosen.row.amount_nano is None else cents_of(chosen.row.amount_nano),
            period_to_date_spend=cents_of(nano),
        )


def _amount(limit: _Limit) -> float:
    return float("inf") if limit.row.amount_nano is None else limit.row.amount_nano


def _scope(workspace: str | None) -> SpendScope:
    if workspace is None:
        return SpendScope(type="organization")
    return SpendScope(type="workspace", workspace_id=workspace)


def _shown(limit: _Limit) -> SpendLimit:
    row = limit.row
    return SpendLimit(
        id=row.id,
        amount=None if row.amount_nano is None else cents_of(row.amount_nano),
        period=row.period,
        scope=limit.scope,
        created_at=rfc3339(row.created_ms),
        updated_at=rfc3339(row.updated_ms),
    )


def _told(row: limits.SpendLimit) -> Mapping[str, object]:
    """For the audit."""
    return {"period": row.period, "amount": None if row.amount_nano is None else cents_of(row.amount_nano)}
