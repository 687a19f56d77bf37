"""`antiphon usage` and `antiphon cost`: what was used and what it costs, read from the ledger itself.

Tables are for people; `--json` has the same numbers exactly, as integers and decimal strings, and all of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from antiphon.cli.keys import opened
from antiphon.cli.options import ConfigOption, HomeOption, console, errors_told, settings_from
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.errors import InvalidRequest
from antiphon.core.money import DOLLARS, decimal
from antiphon.core.records import DEFAULT_ORGANIZATION, Cost, Usage
from antiphon.core.settings import Settings
from antiphon.store import keys, reports, workspaces
from antiphon.store.reports import DAY_MS, HOUR_MS, MINUTE_MS, Dimension, Metric, Position, Question, Sums

_WIDTH = 160
#: Rows of a table: who wants more of them wants them for a machine.
_MOST_ROWS = 100
_PAGE = 1000
#: How far back a report goes where nothing is said.
_USUAL_DAYS = 30
_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_AGO_MS = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
#: Control characters in what clients sent must not reach a terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NONE = "–"


class By(StrEnum):
    """What a report has one row for."""

    day = "day"
    model = "model"
    workspace = "workspace"
    key = "key"
    workflow = "workflow"
    user = "user"


_DIMENSIONS: Mapping[By, tuple[Dimension, ...]] = {
    By.day: (),
    By.model: ("requested_model", "served_model"),
    By.workspace: ("workspace",),
    By.key: ("key_id",),
    By.workflow: ("workflow",),
    By.user: ("user_id",),
}
_HEADS: Mapping[str, str] = {
    "requested_model": "model",
    "served_model": "served by",
    "workspace": "workspace",
    "key_id": "key",
    "workflow": "workflow",
    "user_id": "user",
}

ByOption: TypeAlias = Annotated[
    list[By] | None, typer.Option("--by", help="What has a row of its own; several may be given.")
]
SinceOption: TypeAlias = Annotated[
    str | None, typer.Option("--since", help="A day (2026-11-01), a time (RFC 3339), or 7d, 24h, 30m ago.")
]
UntilOption: TypeAlias = Annotated[
    str | None, typer.Option("--until", help="Likewise; a day is meant with all of it. Now, if not given.")
]
WorkspaceOption: TypeAlias = Annotated[
    str | None, typer.Option("--workspace", help="Only this workspace, by name or id.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="For machines: exact numbers, all rows.")]


class Report(msgspec.Struct, frozen=True):
    """What a table or a document is made of. `left_out`: rows that a table has no room for."""

    question: Question
    rows: tuple[Sums, ...]
    total: Sums
    left_out: bool
    names: Mapping[str, str]
    """People's names of workspaces and keys, by id."""


def usage(
    by: ByOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Show how many requests and tokens there were."""
    report = _asked(home, config, by, since, until, workspace, metric="total_tokens", whole=as_json)
    if as_json:
        _tell_json(report, lambda sums: {"requests": sums.requests, **msgspec.structs.asdict(sums.usage)})
        return
    heads = ("requests", "input", "cache write", "cache read", "output", "thinking")
    _tell_table(report, heads, lambda all_rows: [_usage_cells(sums) for sums in all_rows])


def cost(
    by: ByOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what it costs, in dollars."""
    report = _asked(home, config, by, since, until, workspace, metric="amount", whole=as_json)
    if as_json:
        _tell_json(report, _cost_document)
        return
    heads = ("requests", "input", "cache write", "cache read", "output", "total")
    _tell_table(report, heads, _cost_cells)


def _asked(
    home: Path | None,
    config: Path | None,
    by: Sequence[By] | None,
    since: str | None,
    until: str | None,
    workspace: str | None,
    *,
    metric: Metric,
    whole: bool,
) -> Report:
    with errors_told():
        now_ms = SystemClock().now_ms()
        from_ms = _time(since, now_ms, "--since") if since else (now_ms // DAY_MS - _USUAL_DAYS + 1) * DAY_MS
        until_ms = _time(until, now_ms, "--until", end=True) if until else now_ms + 1
        if until_ms <= from_ms:
            raise InvalidRequest("--until must be after --since")
        kinds = tuple(dict.fromkeys(by or [By.day]))
        question = Question(
            from_ms=from_ms,
            until_ms=until_ms,
            width_ms=DAY_MS if By.day in kinds else None,
            by=tuple(dimension for kind in kinds for dimension in _DIMENSIONS[kind]),
            metric=metric,
            by_time=By.day in kinds,
        )
        return asyncio.run(_report(settings_from(home, config), question, workspace, whole=whole))


async def _report(settings: Settings, question: Question, workspace: str | None, *, whole: bool) -> Report:
    """From one moment of the database, on SQLite."""
    async with opened(settings) as database, database.reading() as connection:
        known = await workspaces.of_organization(DEFAULT_ORGANIZATION, connection, archived=True)
        names = {each.id: each.name for each in known}
        if workspace is not None:
            found = workspace if workspace in names else {name: id_ for id_, name in names.items()}.get(workspace)
            if found is None:
                raise InvalidRequest(f"There is no workspace {workspace}")
            question = msgspec.structs.replace(question, only={"workspace": (found,)})
        if "key_id" in question.by:
            names |= {key.id: key.name for key in await keys.of_organization(DEFAULT_ORGANIZATION, connection)}
        rows: list[Sums] = []
        after: Position | None = None
        limit = _PAGE if whole else _MOST_ROWS + 1
        while True:
            page = await reports.report(DEFAULT_ORGANIZATION, connection, question, limit=limit, after=after)
            rows += page
            if len(page) < limit or not whole:
                break
            after = page[-1].position
        total = await reports.total(DEFAULT_ORGANIZATION, connection, question)
    left_out = not whole and len(rows) > _MOST_ROWS
    return Report(question, tuple(rows[:_MOST_ROWS] if left_out else rows), total, left_out, names)


def _time(text: str, now_ms: int, option: str, *, end: bool = False) -> int:
    """A time as people write it, milliseconds since the epoch; of a day its beginning or, for an end, the next one's.

    Raises:
        InvalidRequest: it is none.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return max(0, now_ms - int(ago[1]) * _AGO_MS[ago[2]])
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if end and len(text) <= len("2026-11-01"):
            moment += timedelta(days=1)
        at_ms = (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{option} must be a day, an RFC 3339 time, or 7d, 24h, 30m: not {text!r}") from None
    if at_ms < 0:
        raise InvalidRequest(f"{option} must be after 1970")
    return at_ms


def _tell_json(report: Report, document: Callable[[Sums], dict[str, Any]]) -> None:
    question = report.question

    def group(sums: Sums) -> dict[str, Any]:
        day = {"day": rfc3339(sums.from_ms)[:10]} if question.width_ms else {}
        return day | {name: value or None for name, value in zip(question.by, sums.group, strict=True)}

    whole = {
        "since": rfc3339(question.from_ms),
        "until": rfc3339(question.until_ms),
        "rows": [group(sums) | document(sums) for sums in report.rows],
        "total": document(report.total),
    }
    typer.echo(msgspec.json.format(msgspec.json.encode(whole)).decode())


def _cost_document(sums: Sums) -> dict[str, Any]:
    amounts = msgspec.structs.asdict(sums.cost) | {"total_nano": sums.cost.total_nano}
    dollars = {f"{name.removesuffix('_nano')}_usd": decimal(nano, DOLLARS, least=2) for name, nano in amounts.items()}
    return {"requests": sums.requests, **amounts, **dollars}


def _tell_table(
    report: Report, heads: Sequence[str], cells: Callable[[Sequence[Sums]], Sequence[Sequence[str]]]
) -> None:
    """The rows, and under them the whole, which also counts what was left out."""
    question, out = report.question, console(least=_WIDTH)
    span = f"{_shown_time(question.from_ms)} to {_shown_time(question.until_ms)} (UTC)"
    if not report.rows:
        out.print(f"No requests from {span}.")
        return
    table = Table(box=None, pad_edge=False, show_footer=len(report.rows) > 1)
    texts = cells([*report.rows, report.total])
    groups = (["day"] if question.width_ms else []) + [_HEADS[name] for name in question.by]
    for place, head in enumerate(groups):
        table.add_column(head, footer=Text("total", "bold") if place == 0 else "", overflow="fold")
    for place, head in enumerate(heads):
        table.add_column(head, footer=Text(texts[-1][place], "bold"), justify="right", no_wrap=True)
    for sums, numbers in zip(report.rows, texts, strict=False):
        day = [Text(rfc3339(sums.from_ms)[:10])] if question.width_ms else []
        named = [_named(name, value, report.names) for name, value in zip(question.by, sums.group, strict=True)]
        table.add_row(*day, *named, *numbers)
    out.print(Text(f"From {span}", "dim"))
    out.print(table)
    if report.left_out:
        out.print(f"These are the first {_MOST_ROWS} rows; the total is of all of them. --json shows them all.")


def _named(dimension: Dimension, value: str, names: Mapping[str, str]) -> Text:
    """A value as people know it: workspaces by their names, keys by name and id."""
    if not value:
        return Text(_NONE)
    name = names.get(value)
    shown = value if name is None else name if dimension == "workspace" else f"{name} ({value})"
    return Text(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", shown))


def _shown_time(at_ms: int) -> str:
    text = rfc3339(at_ms).removesuffix("Z").replace("T", " ")
    return text.removesuffix(":00").removesuffix(" 00:00")


def _usage_cells(sums: Sums) -> Sequence[str]:
    used: Usage = sums.usage
    numbers = (
        sums.requests,
        used.input_tokens,
        used.cache_write_5m_tokens + used.cache_write_1h_tokens,
        used.cache_read_tokens,
        used.output_tokens,
        used.thinking_tokens,
    )
    return [f"{number:,}" for number in numbers]


def _cost_cells(all_rows: Sequence[Sums]) -> Sequence[Sequence[str]]:
    """Each column with as many decimal places as its longest amount needs, so that the points stand in line."""
    amounts = [_amounts(sums.cost) for sums in all_rows]
    places = [
        max(len(decimal(nano, DOLLARS, least=2).rpartition(".")[2]) for nano in column)
        for column in zip(*amounts, strict=True)
    ]
    return [
        [f"{sums.requests:,}", *(_dollars(nano, least) for nano, least in zip(row, places, strict=True))]
        for sums, row in zip(all_rows, amounts, strict=True)
    ]


def _amounts(cost: Cost) -> Sequence[int]:
    return (
        cost.input_nano,
        cost.cache_write_5m_nano + cost.cache_write_1h_nano,
        cost.cache_read_nano,
        cost.output_nano,
        cost.total_nano,
    )


def _dollars(nano: int, least: int) -> str:
    whole, _, places = decimal(nano, DOLLARS, least=least).partition(".")
    return f"${int(whole):,}.{places}"
