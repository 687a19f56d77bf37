"""`antiphon workspaces`: make, list and set workspaces. A running server sees the change within a second."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, TypeAlias

import typer
from rich.markup import escape
from rich.table import Table

from antiphon.cli.acting import acts_in, operator
from antiphon.cli.keys import opened
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.core.records import DEFAULT_ORGANIZATION, Profile, Scope
from antiphon.core.settings import Settings
from antiphon.store import workspaces
from antiphon.store.workspaces import Workspace, WorkspaceChange

_TABLE_WIDTH = 120

_Given: TypeAlias = Literal["model", "claude", "default"]
_PROFILE_HELP = (
    "Whose rules bind requests for Claude ids: those of the model that runs, or also the id's own; default is as the "
    "installation is set."
)

app = typer.Typer(help="Workspaces.", no_args_is_help=True)


@app.command("list")
def list_workspaces(home: HomeOption = None, config: ConfigOption = None) -> None:
    """Show all workspaces, archived ones too."""
    with errors_told():
        settings = settings_from(home, config)
        rows = asyncio.run(_list(settings))
    table = Table(box=None, pad_edge=False)
    # A workspace that has its requests kept is to be seen; where there is none, nothing is said of it.
    kept = any(row.logs_requests for row in rows)
    for column in ("id", "name", "profile", "made", "archived", *(["requests"] if kept else [])):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(
            row.id,
            escape(row.name),
            row.profile or f"default ({settings.profile})",
            rfc3339(row.created_ms)[:10],
            rfc3339(row.archived_ms)[:10] if row.archived_ms is not None else "",
            *(["kept" if row.logs_requests else ""] if kept else []),
        )
    # An id must be there whole, to be copied: a terminal too narrow for the table breaks its lines itself.
    console(least=_TABLE_WIDTH).print(table)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What people will know the workspace by.")],
    profile: Annotated[_Given, typer.Option("--profile", help=_PROFILE_HELP)] = "default",
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a workspace. Keys for it are made with `antiphon keys create --workspace NAME`."""
    with errors_told():
        made = asyncio.run(_create(settings_from(home, config), name, _stored(profile)))
    console().print(f"Made {made.id}.", markup=False)


@app.command("set")
def set_workspace(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="The workspace, by name or id.")],
    profile: Annotated[_Given | None, typer.Option("--profile", help=_PROFILE_HELP)] = None,
    log_requests: Annotated[
        bool | None,
        typer.Option(
            "--log-requests/--no-log-requests",
            help="Keep what is asked and answered, for some days; off unless somebody switches it on.",
        ),
    ] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Change what a workspace is set to."""
    if profile is None and log_requests is None:
        raise typer.BadParameter("give --profile, --log-requests or --no-log-requests")
    with errors_told():
        found = asyncio.run(_set(settings_from(home, config), workspace, profile, log_requests))
    if profile is not None:
        console().print(f"The profile of {found.id} is {profile}.", markup=False)
    if log_requests is not None:
        now = "are kept from now on" if log_requests else "are not kept any more"
        console().print(f"Requests and answers of {found.id} {now}.", markup=False)


def _stored(profile: _Given) -> Profile | None:
    return None if profile == "default" else profile


async def _list(settings: Settings) -> tuple[Workspace, ...]:
    async with opened(settings) as database, database.reading() as connection:
        return await workspaces.of_organization(DEFAULT_ORGANIZATION, connection, archived=True)


async def _create(settings: Settings, name: str, profile: Profile | None) -> Workspace:
    clock = SystemClock()
    async with opened(settings) as database:
        acts = acts_in(database, clock)
        async with acts.act(operator(), DEFAULT_ORGANIZATION, "platform_workspace_created") as act:
            if not name.strip():
                raise InvalidRequest("A workspace needs a name")
            made = await workspaces.create(DEFAULT_ORGANIZATION, act.connection, acts.ids, name, clock.now_ms())
            await workspaces.set_profile(Scope(made.organization, made.id), act.connection, profile)
            act.workspace = act.subject = made.id
            act.new = {"name": name, "profile": profile}
    return made


async def _set(settings: Settings, wanted: str, profile: _Given | None, logs: bool | None) -> Workspace:
    async with opened(settings) as database:
        acts = acts_in(database, SystemClock())
        async with acts.act(operator(), DEFAULT_ORGANIZATION, "platform_workspace_updated", subject=wanted) as act:
            found = await workspaces.find(DEFAULT_ORGANIZATION, act.connection, wanted)
            act.workspace = act.subject = found.id
            scope = Scope(found.organization, found.id)
            old: dict[str, object] = {}
            new: dict[str, object] = {}
            if profile is not None:
                old["profile"], new["profile"] = found.profile, _stored(profile)
                await workspaces.set_profile(scope, act.connection, _stored(profile))
            if logs is not None:
                old["logs_requests"], new["logs_requests"] = found.logs_requests, logs
                await workspaces.change(scope, act.connection, WorkspaceChange(logs_requests=logs))
            act.old, act.new = old, new
    return found
