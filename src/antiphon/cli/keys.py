"""`antiphon keys`: make, list and revoke API keys. A running server sees the change within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from antiphon.admin.acts import Acts
from antiphon.cli.acting import acts_in, operator
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.core.settings import Settings
from antiphon.gate.keys import NewKey, hash_of, new_key
from antiphon.store import keys, workspaces
from antiphon.store.database import Database, open_database, private_folder

_TABLE_WIDTH = 160

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
def create(
    workspace: Annotated[
        str, typer.Option("--workspace", help="Workspace, by name or id; made when it does not exist.")
    ] = "Default",
    name: Annotated[str, typer.Option("--name", help="What people will know the key by.")] = "",
    admin: Annotated[
        bool, typer.Option("--admin", help="An admin key: for the organization, not for inference.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the key alone.")] = False,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and show it, once."""
    with errors_told():
        made = asyncio.run(_create(settings_from(home, config), workspace, name, admin))
    if quiet:
        typer.echo(made.key)
        return
    out = console()
    out.print(f"Made [bold]{made.record.id}[/] in {made.record.scope.workspace}. Keep it now; it is not shown again:")
    out.print(f"\n  {made.key}\n", soft_wrap=True)


@app.command("list")
def list_keys(home: HomeOption = None, config: ConfigOption = None) -> None:
    """Show all keys, without their secrets."""
    with errors_told():
        rows, names = asyncio.run(_list(settings_from(home, config)))
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "workspace", "status", "made", "last used", "ends in"):
        table.add_column(column, no_wrap=True)
    now_ms = SystemClock().now_ms()
    for key in rows:
        table.add_row(
            key.id,
            escape(key.name) + (" (admin)" if key.admin else ""),
            escape(names.get(key.scope.workspace, key.scope.workspace)),
            key.status_at(now_ms),
            rfc3339(key.created_ms)[:10],
            rfc3339(key.last_used_ms)[:10] if key.last_used_ms else "never",
            key.hint,
        )
    # An id must be there whole, to be copied: a terminal too narrow for the table breaks its lines itself.
    console(least=_TABLE_WIDTH).print(table)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `antiphon keys list` shows it.")],
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key useless, for good."""
    with errors_told():
        asyncio.run(_revoke(settings_from(home, config), key_id))
    console().print(f"Revoked {key_id}.", markup=False)


async def _create(settings: Settings, workspace: str, name: str, admin: bool) -> NewKey:
    clock = SystemClock()
    async with opened(settings) as database:
        acts = acts_in(database, clock)
        await _ensure_workspace(acts, workspace)
        return await _make(acts, workspace, name or "from the command line", admin=admin)


async def _ensure_workspace(acts: Acts, wanted: str) -> None:
    """Make the workspace of this name, unless it is there, or an id."""
    if wanted.startswith("wrkspc_"):
        return
    async with acts.database.reading() as connection:
        with contextlib.suppress(NotFound):
            await workspaces.find(DEFAULT_ORGANIZATION, connection, wanted)
            return
    async with acts.act(operator(), DEFAULT_ORGANIZATION, "platform_workspace_created") as act:
        if not wanted.strip():
            raise InvalidRequest("A workspace needs a name")
        now_ms = acts.clock.now_ms()
        made = await workspaces.create(DEFAULT_ORGANIZATION, act.connection, acts.ids, wanted, now_ms)
        act.workspace = act.subject = made.id
        act.new = {"name": made.name}


async def _make(acts: Acts, workspace: str, name: str, *, admin: bool = False) -> NewKey:
    """Make a key for a workspace, by name or id."""
    kind = "admin_api_key_created" if admin else "platform_api_key_created"
    async with acts.act(operator(), DEFAULT_ORGANIZATION, kind) as act:
        found = await workspaces.find(DEFAULT_ORGANIZATION, act.connection, workspace)
        made = new_key(Scope(found.organization, found.id), acts.ids, acts.clock, name=name, admin=admin)
        await keys.create(made.record.scope, act.connection, made.record, hash_of(made.key.encode("ascii")))
        act.workspace, act.subject, act.new = found.id, made.record.id, {"name": name}
    return made


async def _list(settings: Settings) -> tuple[tuple[keys.ApiKey, ...], dict[str, str]]:
    async with opened(settings) as database, database.reading() as connection:
        found = await workspaces.of_organization(DEFAULT_ORGANIZATION, connection)
        return (
            await keys.of_organization(DEFAULT_ORGANIZATION, connection),
            {workspace.id: workspace.name for workspace in found},
        )


async def _revoke(settings: Settings, key_id: str) -> None:
    clock = SystemClock()
    async with opened(settings) as database:
        async with database.reading() as connection:
            known = await keys.of_organization(DEFAULT_ORGANIZATION, connection)
        admin = any(key.id == key_id and key.admin for key in known)
        kind = "admin_api_key_updated" if admin else "platform_api_key_updated"
        acts = acts_in(database, clock)
        async with acts.act(operator(), DEFAULT_ORGANIZATION, kind, subject=key_id) as act:
            key = await keys.find(DEFAULT_ORGANIZATION, act.connection, key_id)
            act.workspace, act.old, act.new = key.scope.workspace, {"status": key.status}, {"status": "archived"}
            await keys.set_status(key.scope, act.connection, key_id, "archived")


async def first_key(settings: Settings, *, name: str) -> str | None:
    """Make a key if there is none yet that could be used. Returns it, or None where there was one."""
    clock = SystemClock()
    async with opened(settings) as database:
        async with database.reading() as connection:
            existing = await keys.of_organization(DEFAULT_ORGANIZATION, connection)
        if any(key.status_at(clock.now_ms()) == "active" and not key.admin for key in existing):
            return None
        return (await _make(acts_in(database, clock), DEFAULT_WORKSPACE, name)).key


async def any_key(settings: Settings) -> bool:
    """Whether there is a key that could be used."""
    now_ms = SystemClock().now_ms()
    async with opened(settings) as database, database.reading() as connection:
        existing = await keys.of_organization(DEFAULT_ORGANIZATION, connection)
    return any(key.status_at(now_ms) == "active" for key in existing)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The installation's database, up to date and with what it begins with."""
    private_folder(settings.home_path)
    database = open_database(settings.database_url)
    try:
        await database.migrate()
        async with database.transaction() as connection:
            await workspaces.ensure_defaults(connection, SystemClock().now_ms())
        yield database
    finally:
        await database.close()
