"""`/v1/organizations/api_keys` (contract `platform-and-tools.md` 7.1 and 7.4, `client-surface.md` 5).

To make a key here is an addition of Antiphon's own: `POST /v1/organizations/api_keys` with `name`, and `workspace_id`
(the default workspace unless it is given), or `unscoped` (with `user_id` where it is not for the maker), or `admin`;
`expires_at` besides. The answer is the only one that holds the key. Nobody makes a key that may more than its maker.
Admin keys are listed too, for those who may make them: there is no other place to revoke one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import get_args

from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import rfc3339
from antiphon.core.errors import InvalidRequest, NotFound, PermissionDenied
from antiphon.core.records import DEFAULT_WORKSPACE, Caller, Scope
from antiphon.gate import keys as making
from antiphon.gate.rights import administers
from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, Deed, caller_of, organization_of
from antiphon.http.organization.query import Query, listed, sound_id
from antiphon.http.routes import Route
from antiphon.store import keys, members, users
from antiphon.store.keys import ApiKey
from antiphon.wire.organization import api_keys as wire

_ALL = "/v1/organizations/api_keys"
_STATUSES: tuple[wire.KeyStatus, ...] = get_args(wire.KeyStatus)
#: Who of a workspace looks after its keys, besides the organization's admins.
_KEEPERS = ("workspace_developer", "workspace_restricted_developer", "workspace_admin")


class ApiKeys:
    """Keys of the organization."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route(_ALL, "API keys", get=self.list, post=self.create),
            route(_ALL + "/{api_key_id}", "API keys", get=self.get, post=self.update),
        ]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of keys."""
        query, now_ms = Query(exchange.query), self._administration.clock.now_ms()
        walk, status = query.walk(), query.choice("status", _STATUSES)
        workspace, maker = query.one("workspace_id"), query.one("created_by_user_id")
        async with self._administration.database.reading() as connection:
            page = await keys.page(
                organization_of(exchange),
                connection,
                walk,
                now_ms,
                status=status,
                workspace=workspace,
                created_by=maker,
                admin=administers(caller_of(exchange)),
            )
        await exchange.json(200, listed(page, lambda key: _shown(key, now_ms), lambda key: key.id))

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One key, whatever its state."""
        async with self._administration.database.reading() as connection:
            key = await _found(caller_of(exchange), connection, parameters["api_key_id"])
        await exchange.json(200, _shown(key, self._administration.clock.now_ms()))

    async def create(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Make a key and show it, this once."""
        deed = Deed("platform_api_key_created", "API keys")
        asked = await self._administration.asked(exchange, deed, wire.NewKey)
        caller, parts = caller_of(exchange), self._administration
        if asked.admin:
            deed = Deed("admin_api_key_created", "API keys")
        async with parts.doing(exchange, deed) as act:
            expires_ms = None if asked.expires_at is None else self._future(asked.expires_at)
            workspace, user = await _owner(caller, act.connection, asked)
            made = making.new_key(
                Scope(caller.scope.organization, workspace),
                parts.ids,
                parts.clock,
                name=asked.name,
                admin=asked.admin,
                expires_ms=expires_ms,
                created_by=caller.user,
                user=user,
            )
            await keys.create(made.record.scope, act.connection, made.record, making.hash_of(made.key.encode()))
            act.subject, act.new = made.record.id, _recorded(made.record)
            act.workspace = None if asked.admin or user else workspace
        shown = _shown(made.record, parts.clock.now_ms())
        fields = {name: getattr(shown, name) for name in shown.__struct_fields__ if name != "type"}
        await exchange.json(200, wire.MadeKey(**fields, key=made.key))

    async def update(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Change a key's name, state or end."""
        key_id, caller = parameters["api_key_id"], caller_of(exchange)
        deed = Deed(await self._kind_of_update(caller, key_id), "API keys", key_id)
        asked = await self._administration.asked(exchange, deed, wire.KeyUpdate)
        now_ms = self._administration.clock.now_ms()
        async with self._administration.doing(exchange, deed) as act:
            before = await _found(caller, act.connection, key_id)
            act.workspace = None if before.admin or before.unscoped else before.scope.workspace
            await _demand_keeping(caller, act.connection, before.scope.workspace, before.principal)
            await self._change(act.connection, before, asked, now_ms)
            after = await keys.get(before.scope, act.connection, key_id)
            old, new = _recorded(before), _recorded(after)
            act.new = {name: value for name, value in new.items() if value != old[name]}
            act.old = {name: old[name] for name in act.new}
        await exchange.json(200, _shown(after, now_ms))

    async def _change(self, connection: AsyncConnection, key: ApiKey, asked: wire.KeyUpdate, now_ms: int) -> None:
        if asked.name is not None:
            await keys.rename(key.scope, connection, key.id, asked.name)
        if asked.expires_at is not UNSET:
            expires_ms = None if asked.expires_at is None else self._future(asked.expires_at)
            await keys.set_expiry(key.scope, connection, key.id, expires_ms)
            key = await keys.get(key.scope, connection, key.id)
        if asked.status is not None:
            if asked.status != "archived" and key.status_at(now_ms) == "expired":
                raise InvalidRequest("An expired API key can only be archived", path="status")
            await keys.set_status(key.scope, connection, key.id, asked.status)

    async def _kind_of_update(self, caller: Caller, key_id: str) -> str:
        async with self._administration.database.reading() as connection:
            try:
                key = await keys.find(caller.scope.organization, connection, key_id)
            except NotFound:
                return "platform_api_key_updated"
        return "admin_api_key_updated" if key.admin else "platform_api_key_updated"

    def _future(self, moment: datetime) -> int:
        """A moment that is to come, in milliseconds since the epoch."""
        moment_ms = int(moment.timestamp() * 1000)
        if moment_ms <= self._administration.clock.now_ms():
            raise InvalidRequest("Input should be in the future", path="expires_at")
        return moment_ms


async def _found(caller: Caller, connection: AsyncConnection, key_id: str) -> ApiKey:
    """A key that the caller may know of: admin keys are for those who may make them."""
    key = await keys.find(caller.scope.organization, connection, key_id)
    if key.admin and not administers(caller):
        raise NotFound("API key not found")
    return key


async def _owner(caller: Caller, connection: AsyncConnection, asked: wire.NewKey) -> tuple[str, str | None]:
    """The workspace of a key that is asked for, and the user as whom it acts.

    Raises:
        InvalidRequest: what is asked for does not go together. NotFound: there is no such workspace or user.
        PermissionDenied: the key could do more than its maker.
    """
    if (asked.admin or asked.unscoped) and asked.workspace_id is not None:
        raise InvalidRequest("A key of this kind is bound to no workspace", path="workspace_id")
    if asked.user_id is not None and not asked.unscoped:
        raise InvalidRequest("Only an unscoped key acts as a user", path="user_id")
    if asked.admin:
        if asked.unscoped:
            raise InvalidRequest("An admin key acts as no user", path="unscoped")
        if not administers(caller):
            raise PermissionDenied("Only an admin may make an admin key")
        return DEFAULT_WORKSPACE, None
    if asked.unscoped:
        user_id = caller.user if asked.user_id is None else sound_id(asked.user_id)
        if user_id is None:
            raise InvalidRequest("Field required: an unscoped key acts as a user", path="user_id")
        await _demand_keeping(caller, connection, DEFAULT_WORKSPACE, user_id)
        await users.get(caller.scope.organization, connection, user_id)
        return DEFAULT_WORKSPACE, user_id
    workspace = DEFAULT_WORKSPACE if asked.workspace_id is None else sound_id(asked.workspace_id)
    await _demand_keeping(caller, connection, workspace, None)
    return workspace, None


async def _demand_keeping(caller: Caller, connection: AsyncConnection, workspace: str, user: str | None) -> None:
    """See that the caller may look after a key of this workspace, or one that acts as this user: a developer does for
    the workspaces that he was added to as one, for the default one, and for himself.

    Raises:
        NotFound: there is no such workspace, or the caller is not in it.
        PermissionDenied: the caller may not.
    """
    if administers(caller):
        return
    if user is not None:
        if user != caller.user:
            raise PermissionDenied("Only an admin may look after the keys of other users")
        return
    if workspace == DEFAULT_WORKSPACE:
        return
    scope = Scope(caller.scope.organization, workspace)
    if (await members.get(scope, connection, caller.user or "")).role not in _KEEPERS:
        raise PermissionDenied("Your role in this workspace does not allow to look after its API keys")


def _recorded(key: ApiKey) -> dict[str, object]:
    """What of a key the audit tells."""
    return {
        "name": key.name,
        "status": key.status,
        "expires_at": None if key.expires_ms is None else rfc3339(key.expires_ms),
        "workspace_id": None if key.unscoped or key.admin else key.scope.workspace,
        "user_id": key.principal,
    }


def _shown(key: ApiKey, now_ms: int) -> wire.APIKey:
    bound = None if key.unscoped or key.admin else key.scope.workspace
    return wire.APIKey(
        id=key.id,
        name=key.name,
        status=key.status_at(now_ms),
        created_at=rfc3339(key.created_ms),
        expires_at=None if key.expires_ms is None else rfc3339(key.expires_ms),
        created_by=None if key.created_by is None else wire.Maker(key.created_by),
        partial_key_hint=making.shown(key),
        principal=None if key.principal is None else wire.UserPrincipal(key.principal),
        scope=wire.OrganizationScope() if bound is None else wire.WorkspaceScope(bound),
        workspace_id=None if bound == DEFAULT_WORKSPACE else bound,
    )
