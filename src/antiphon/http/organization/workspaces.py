"""`/v1/organizations/workspaces` (contract `platform-and-tools.md` 7.3 and 7.11, `client-surface.md` 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from msgspec import UNSET, UnsetType

from antiphon.core.clock import rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.core.records import Scope
from antiphon.http.exchange import Exchange
from antiphon.http.organization.administration import Administration, Deed, organization_of
from antiphon.http.organization.query import Query, listed, sound_id
from antiphon.http.routes import Route
from antiphon.store import workspaces
from antiphon.store.workspaces import Workspace, WorkspaceChange
from antiphon.wire.organization import workspaces as wire
from antiphon.wire.organization.reading import one_of

V = TypeVar("V")

_ALL = "/v1/organizations/workspaces"
_ONE = _ALL + "/{workspace_id}"
_MOST_IDS = 100
_DEFAULT_GEOGRAPHY = "global"
#: Of workspaces that nobody chose one for.
_COLOR = "#6B7280"
_MOST_TAGS, _LONGEST_TAG_KEY, _LONGEST_TAG_VALUE = 64, 128, 256
_RESERVED_TAGS = "anthropic"


class Workspaces:
    """Workspaces. `geographies` are those that one may be bound to."""

    def __init__(self, administration: Administration, geographies: Sequence[str]) -> None:
        self._administration = administration
        self._geographies = tuple(geographies)

    def routes(self) -> list[Route]:
        """The paths of this resource."""
        route = self._administration.route
        return [
            route(_ALL, "workspaces", get=self.list, post=self.create),
            route(_ONE, "workspaces", get=self.get, post=self.update),
            route(_ONE + "/archive", "workspaces", post=self.archive),
        ]

    async def list(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """A page of workspaces."""
        query = Query(exchange.query)
        walk, ids = query.walk(), query.several("ids")
        archived, default = query.flag("include_archived"), query.flag("include_default")
        if len(ids) > _MOST_IDS:
            raise InvalidRequest(f"List should have at most {_MOST_IDS} items", path="ids")
        wanted = [sound_id(wanted) for wanted in ids] or None
        async with self._administration.database.reading() as connection:
            page = await workspaces.page(
                organization_of(exchange), connection, walk, archived=archived, default=default, ids=wanted
            )
        await exchange.json(200, listed(page, _shown, lambda workspace: workspace.id))

    async def get(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """One workspace, archived or not; the default one too."""
        async with self._administration.database.reading() as connection:
            found = await workspaces.get(_scope(exchange, parameters), connection)
        await exchange.json(200, _shown(found))

    async def create(self, exchange: Exchange, _: Mapping[str, str]) -> None:
        """Make a workspace."""
        deed = Deed("platform_workspace_created", "workspaces")
        asked = await self._administration.asked(exchange, deed, wire.NewWorkspace)
        async with self._administration.doing(exchange, deed) as act:
            _refuse_foreign(asked)
            settings = WorkspaceChange(
                display_color=_given(asked.display_color),
                tags=UNSET if asked.tags is None else _tags({}, dict(asked.tags)),
                logs_requests=_given(asked.logs_requests),
            )
            settings = self._with_residency(settings, asked.data_residency, None)
            made = await workspaces.create(
                organization_of(exchange),
                act.connection,
                self._administration.ids,
                asked.name,
                self._administration.clock.now_ms(),
                settings,
            )
            act.subject = act.workspace = made.id
            act.new = _recorded(made)
        await exchange.json(200, _shown(made))

    async def update(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """Change what is given of a live workspace."""
        scope = _scope(exchange, parameters)
        deed = Deed("platform_workspace_updated", "workspaces", scope.workspace, scope.workspace)
        asked = await self._administration.asked(exchange, deed, wire.WorkspaceUpdate)
        async with self._administration.doing(exchange, deed) as act:
            _refuse_foreign(asked)
            before = await workspaces.get(scope, act.connection)
            if before.archived_ms is not None:
                raise InvalidRequest("An archived workspace cannot be changed")
            change = WorkspaceChange(
                name=UNSET if asked.name in (None, before.name) else asked.name,
                display_color=_given(asked.display_color),
                tags=UNSET if asked.tags is None else _tags(before.tags, asked.tags),
                logs_requests=_given(asked.logs_requests),
            )
            change = self._with_residency(change, asked.data_residency, before)
            await workspaces.change(scope, act.connection, change)
            after = await workspaces.get(scope, act.connection)
            old, new = _recorded(before), _recorded(after)
            act.new = {name: value for name, value in new.items() if value != old[name]}
            act.old = {name: old[name] for name in act.new}
        await exchange.json(200, _shown(after))

    async def archive(self, exchange: Exchange, parameters: Mapping[str, str]) -> None:
        """End a workspace for good. Its keys are valid no more when this is answered."""
        scope = _scope(exchange, parameters)
        deed = Deed("platform_workspace_archived", "workspaces", scope.workspace, scope.workspace)
        await self._administration.allowed(exchange, deed)
        async with self._administration.doing(exchange, deed) as act:
            await workspaces.archive(scope, act.connection, self._administration.clock.now_ms())
            gone = await workspaces.get(scope, act.connection)
            act.old = {"name": gone.name}
        await exchange.json(200, _shown(gone))

    def _with_residency(
        self,
        change: WorkspaceChange,
        asked: wire.NewDataResidency | wire.DataResidencyUpdate | None,
        before: Workspace | None,
    ) -> WorkspaceChange:
        """The change with a residency that is consistent: the default geography is among those allowed.

        Raises:
            InvalidRequest: it is not, or a geography is unknown.
        """
        if asked is None or (asked.allowed_inference_geos is None and asked.default_inference_geo is None):
            return change
        allowed = before.allowed_geographies if before is not None else None
        default = before.default_geography if before is not None else None
        if asked.allowed_inference_geos is not None:
            allowed = self._allowed(asked.allowed_inference_geos)
        path = "data_residency.default_inference_geo"
        if asked.default_inference_geo is not None:
            default = asked.default_inference_geo
            if default not in self._geographies:
                raise InvalidRequest(one_of(self._geographies), path=path)
        if allowed is not None and (default or _DEFAULT_GEOGRAPHY) not in allowed:
            raise InvalidRequest(
                f"'{default or _DEFAULT_GEOGRAPHY}' is not among the allowed_inference_geos", path=path
            )
        return WorkspaceChange(
            name=change.name,
            display_color=change.display_color,
            tags=change.tags,
            logs_requests=change.logs_requests,
            allowed_geographies=allowed,
            default_geography=default,
        )

    def _allowed(self, asked: Sequence[str] | Literal["unrestricted"]) -> tuple[str, ...] | None:
        path = "data_residency.allowed_inference_geos"
        if isinstance(asked, str):
            return None
        if not asked:
            raise InvalidRequest("List should have at least 1 item", path=path)
        for position, geography in enumerate(asked):
            if geography not in self._geographies:
                raise InvalidRequest(one_of(self._geographies), path=f"{path}.{position}")
        return tuple(dict.fromkeys(asked))


def _scope(exchange: Exchange, parameters: Mapping[str, str]) -> Scope:
    return Scope(organization_of(exchange), parameters["workspace_id"])


def _refuse_foreign(asked: wire.NewWorkspace | wire.WorkspaceUpdate) -> None:
    """What the API has and this installation does not."""
    if asked.external_key_id is not None:
        raise InvalidRequest("Customer-managed keys are not enabled for this organization", path="external_key_id")
    if asked.user_profile_id is not None:
        raise InvalidRequest("User profiles are not enabled for this organization", path="user_profile_id")


def _tags(before: Mapping[str, str], asked: Mapping[str, str | None]) -> dict[str, str]:
    """The tags with what is asked for put in, and what is null taken out.

    Raises:
        InvalidRequest: a key is reserved, or they are too many or too long.
    """
    for key, value in asked.items():
        if key.casefold().startswith(_RESERVED_TAGS):
            raise InvalidRequest(f"Keys may not begin with '{_RESERVED_TAGS}'", path="tags")
        if not 1 <= len(key) <= _LONGEST_TAG_KEY:
            raise InvalidRequest(f"Keys should have 1 to {_LONGEST_TAG_KEY} characters", path="tags")
        if value is not None and len(value) > _LONGEST_TAG_VALUE:
            raise InvalidRequest(f"Values should have at most {_LONGEST_TAG_VALUE} characters", path="tags")
    tags = {key: value for key, value in {**before, **asked}.items() if value is not None}
    if len(tags) > _MOST_TAGS:
        raise InvalidRequest(f"A workspace may have at most {_MOST_TAGS} tags", path="tags")
    return tags


def _given(value: V | None) -> V | UnsetType:
    return UNSET if value is None else value


def _recorded(workspace: Workspace) -> dict[str, object]:
    """What of a workspace the audit tells."""
    return {
        "name": workspace.name,
        "display_color": workspace.display_color,
        "tags": workspace.tags,
        "allowed_inference_geos": workspace.allowed_geographies,
        "default_inference_geo": workspace.default_geography,
        "logs_requests": workspace.logs_requests,
    }


def _shown(workspace: Workspace) -> wire.Workspace:
    return wire.Workspace(
        id=workspace.id,
        name=workspace.name,
        compartment_id=workspace.id.replace("wrkspc_", "cmprt_", 1),
        created_at=rfc3339(workspace.created_ms),
        archived_at=None if workspace.archived_ms is None else rfc3339(workspace.archived_ms),
        display_color=workspace.display_color or _COLOR,
        data_residency=wire.DataResidency(
            allowed_inference_geos=workspace.allowed_geographies or "unrestricted",
            default_inference_geo=workspace.default_geography or _DEFAULT_GEOGRAPHY,
        ),
        tags=dict(workspace.tags),
        logs_requests=workspace.logs_requests,
    )
