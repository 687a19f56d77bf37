"""`antiphon audit`: who did what, when and from where; what was refused too. Newest first, as people look for it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from antiphon.cli.keys import opened
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.core.settings import Settings
from antiphon.http.activity_shape import shown
from antiphon.store import activities, keys, workspaces
from antiphon.store.activities import Activity, Wanted

_TABLE_WIDTH = 160
_SPAN = re.compile(r"([0-9]{1,6})([mhdw])", re.ASCII)
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}
#: Of an act that read something.
_READING = "status_code"


def audit(
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="From then on: 90m, 12h, 7d, 2w, or a date (UTC).")
    ] = None,
    kinds: Annotated[list[str] | None, typer.Option("--type", help="Of this type alone; may be repeated.")] = None,
    actors: Annotated[
        list[str] | None, typer.Option("--actor", help="By this key, person or user alone; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many, of the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line, as the API has them.")] = False,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Show who administered what. A model's answers are not in here: see usage."""
    with errors_told():
        wanted = Wanted(types=kinds or (), actors=actors or (), from_ms=_since_ms(since))
        found, names = asyncio.run(_read(settings_from(home, config), wanted, limit))
    if as_json:
        for activity in found:
            typer.echo(msgspec.json.encode(shown(activity)))
        return
    out = console(least=_TABLE_WIDTH)
    if not found:
        out.print("Nothing of this kind was done.")
        return
    out.print(_table(found, names))
    if len(found) == limit:
        out.print(f"These are the newest {limit}; --limit shows more.", style="dim")


def _since_ms(text: str | None) -> int | None:
    """The moment that is meant, milliseconds since the epoch.

    Raises:
        InvalidRequest: it is neither a span of time nor a date.
    """
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        return SystemClock().now_ms() - int(span[1]) * _MINUTES[span[2]] * 60_000
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"--since {text}: it is like 90m, 12h, 7d, 2w, 2026-11-23 or 2026-11-23T08:00Z") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


async def _read(settings: Settings, wanted: Wanted, limit: int) -> tuple[Sequence[Activity], Mapping[str, str]]:
    """The acts, and what people know keys and workspaces by, where only one has the name."""
    async with opened(settings) as database, database.reading() as connection:
        found = await activities.newest(DEFAULT_ORGANIZATION, connection, limit, wanted)
        every_key = await keys.of_organization(DEFAULT_ORGANIZATION, connection)
        every_workspace = await workspaces.of_organization(DEFAULT_ORGANIZATION, connection, archived=True)
    names = [(key.id, key.name) for key in every_key] + [(each.id, each.name) for each in every_workspace]
    often = Counter(name for _, name in names)
    return found, {thing: name for thing, name in names if name and often[name] == 1}


def _table(found: Sequence[Activity], names: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("when (UTC)", no_wrap=True)
    for column in ("who", "from", "what", "on what"):
        table.add_column(column, overflow="fold")
    table.add_column("change", overflow="fold", min_width=30)
    for activity in found:
        table.add_row(
            rfc3339(activity.created_ms)[:19].replace("T", " "),
            Text(_who(activity, names)),
            Text(_plain(activity.actor.address or _nowhere(activity))),
            Text(_plain(activity.type)),
            Text(_object(activity, names)),
            _change(activity),
        )
    return table


def _who(activity: Activity, names: Mapping[str, str]) -> str:
    actor = activity.actor
    if actor.type == "system_actor":
        return _plain(actor.id or "the system")
    return _named(actor.id, names) or "somebody unknown"


def _nowhere(activity: Activity) -> str:
    return "this machine" if activity.actor.type == "system_actor" else ""


def _named(thing: str | None, names: Mapping[str, str]) -> str:
    """By name where that tells which one it is, else by id; `--json` has the ids of all."""
    return "" if thing is None else _plain(names.get(thing, thing))


def _object(activity: Activity, names: Mapping[str, str]) -> str:
    thing, place = activity.subject, activity.workspace
    if thing is None or place is None or thing == place:
        return _named(thing or place, names)
    return f"{_named(thing, names)} in {_named(place, names)}"


def _change(activity: Activity) -> Text:
    if activity.refused is not None:
        return Text("refused: ", style="bold red").append(_plain(activity.refused), style="not bold default")
    old, new = activity.old or {}, activity.new or {}
    if _READING in new:
        return Text(_plain(str(new.get("url", ""))))
    parts = []
    for name in dict.fromkeys([*old, *new]):
        before = f"{_value(old[name])} -> " if name in old else ""
        parts.append(
            f"{name}: {before}{_value(new[name])}" if name in new else f"{name}: {_value(old[name])} -> (gone)"
        )
    return Text(_plain(", ".join(parts)))


def _value(value: Any) -> str:
    if value is None:
        return "(unset)"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _plain(text: str) -> str:
    """Without anything that a terminal would obey: names come from people, and user agents from anybody."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
