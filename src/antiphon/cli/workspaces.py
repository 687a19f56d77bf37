"""`antiphon workspaces`: make, list and set workspaces. A running server sees the change within a second."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, TypeAlias

import typer
from rich.markup import escape
from rich.table import Table

from antiphon.cli.keys import opened
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, Profile, Scope
from antiphon.core.settings import Settings
from antiphon.store import workspaces
from antiphon.store.workspaces import Workspace

_TABLE_WIDTH = 120

_Given: TypeAlias = Literal["model", "claude", "default"]
_ProfileOption: TypeAlias = Annotated[
    _Given,
    typer.Option(
        "--profile",
        help="Whose rules bind requests for Claude ids: those of the model that runs, or also the id's own; default is"
        " as the installation is set.",
    ),
]

app = typer.Typer(help="Workspaces.", no_args_is_help=True)


@app.command("list")
def list_workspaces(home: HomeOption = None, config: ConfigOption = None) -> None:
    """Show all workspaces, archived ones too."""
    with errors_told():
        settings = settings_from(home, config)
        rows = asyncio.run(_list(settings))
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "profile", "made", "archived"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(
            row.id,
            escape(row.name),
            row.profile or f"default ({settings.profile})",
            rfc3339(row.created_ms)[:10],
            rfc3339(row.archived_ms)[:10] if row.archived_ms is not None else "",
        )
    # An id must be there whole, to be copied: a terminal too narrow for the table breaks its lines itself.
    console(least=_TABLE_WIDTH).print(table)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What people will know the workspace by.")],
    profile: _ProfileOption = "default",
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
    profile: _ProfileOption,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Change what a workspace is set to."""
    with errors_told():
        found = asyncio.run(_set(settings_from(home, config), workspace, _stored(profile)))
    console().print(f"The profile of {found.id} is {profile}.", markup=False)


def _stored(profile: _Given) -> Profile | None:
    return None if profile == "default" else profile


async def _list(settings: Settings) -> tuple[Workspace, ...]:
    async with opened(settings) as database, database.reading() as connection:
        return await workspaces.of_organization(DEFAULT_ORGANIZATION, connection, archived=True)


async def _create(settings: Settings, name: str, profile: Profile | None) -> Workspace:
    if not name.strip():
        raise InvalidRequest("A workspace needs a name")
    clock = SystemClock()
    async with opened(settings) as database, database.transaction() as connection:
        made = await workspaces.create(DEFAULT_ORGANIZATION, connection, Ids(clock), name, clock.now_ms())
        await workspaces.set_profile(Scope(made.organization, made.id), connection, profile)
        return made


async def _set(settings: Settings, wanted: str, profile: Profile | None) -> Workspace:
    async with opened(settings) as database, database.transaction() as connection:
        found = await workspaces.find(DEFAULT_ORGANIZATION, connection, wanted)
        await workspaces.set_profile(Scope(found.organization, found.id), connection, profile)
        return found
