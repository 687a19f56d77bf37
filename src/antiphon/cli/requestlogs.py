"""`antiphon logs`: what was asked and answered in workspaces that have it kept (`antiphon workspaces set`)."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from antiphon.cli.acting import acts_in, operator
from antiphon.cli.keys import opened
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.core.settings import Settings
from antiphon.store import request_logs, workspaces
from antiphon.store.request_logs import Logged, RequestLog

_TABLE_WIDTH = 120

app = typer.Typer(help="Requests and answers that were kept.", no_args_is_help=True)


class _Shown(msgspec.Struct, frozen=True):
    """One request for machines. Bytes that are no UTF-8 become the replacement character."""

    request_id: str
    workspace_id: str
    created_at: str
    request: str
    answer: str


@app.command("list")
def list_logs(
    workspace: Annotated[str | None, typer.Option("--workspace", help="Of this one alone, by name or id.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, of the newest.")] = 20,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Show of which requests there is something, newest first."""
    with errors_told():
        rows, names = asyncio.run(_list(settings_from(home, config), workspace, limit))
    if not rows:
        console().print("Nothing is kept. `antiphon workspaces set NAME --log-requests` switches it on.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("when (UTC)", "request", "workspace"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        when = rfc3339(row.created_ms)[:19].replace("T", " ")
        table.add_row(when, row.request_id, escape(names.get(row.workspace, row.workspace)))
    console(least=_TABLE_WIDTH).print(table)


@app.command("show")
def show(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="As the answer's header `request-id` has it.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Show a request's body, and its answer as it was sent. That it was read stands in the audit."""
    with errors_told():
        found = asyncio.run(_read(settings_from(home, config), request_id))
    request, answer = found.request.decode(errors="replace"), found.answer.decode(errors="replace")
    at = rfc3339(found.created_ms)
    if as_json:
        told = _Shown(found.request_id, found.scope.workspace, at, request, answer)
        typer.echo(msgspec.json.encode(told))
        return
    out = console()
    out.print(f"[bold]{found.request_id}[/] in {found.scope.workspace}, {at}\n\n[bold]request[/]")
    typer.echo(_plain(_indented(found.request) or request))
    out.print("\n[bold]answer[/]")
    typer.echo(_plain(_indented(found.answer) or answer))


async def _list(settings: Settings, wanted: str | None, limit: int) -> tuple[tuple[Logged, ...], dict[str, str]]:
    async with opened(settings) as database, database.reading() as connection:
        all_of_them = await workspaces.of_organization(DEFAULT_ORGANIZATION, connection, archived=True)
        workspace = None if wanted is None else (await workspaces.find(DEFAULT_ORGANIZATION, connection, wanted)).id
        rows = await request_logs.newest(DEFAULT_ORGANIZATION, connection, limit, workspace=workspace)
    return rows, {each.id: each.name for each in all_of_them}


async def _read(settings: Settings, request_id: str) -> RequestLog:
    async with opened(settings) as database:
        acts = acts_in(database, SystemClock())
        kind = "platform_request_log_viewed"
        async with acts.act(operator(), DEFAULT_ORGANIZATION, kind, subject=request_id) as act:
            found = await request_logs.find(DEFAULT_ORGANIZATION, act.connection, request_id)
            act.workspace = found.scope.workspace
    return found


def _indented(text: bytes) -> str | None:
    """A JSON document, for people; None where it is none, or a stream."""
    try:
        return msgspec.json.format(text, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _plain(text: str) -> str:
    """Without what a terminal would obey: a client may have sent anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
