"""`antiphon usage` and `antiphon cost`: tables for people, exact numbers for machines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from antiphon.cli import reports
from antiphon.core.clock import SystemClock, rfc3339
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Cost, Usage, UsageRecord
from antiphon.core.settings import Settings
from antiphon.store import usage, workspaces
from antiphon.store.database import open_database
from antiphon.store.reports import DAY_MS
from antiphon.store.rollups import roll_up
from command import made_key

_NOW = SystemClock().now_ms()
_TODAY = _NOW // DAY_MS * DAY_MS

app = typer.Typer()
app.command("usage")(reports.usage)
app.command("cost")(reports.cost)


def _run(home: Path, *arguments: str, status: int = 0, **extra: str) -> str:
    unset: dict[str, str | None] = {"ANTIPHON_HOME": None, "ANTIPHON_CONFIG": None, "COLUMNS": None}
    result = CliRunner().invoke(app, [*arguments, "--home", str(home)], env=unset | extra)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


class _Clock:
    """Still, so that no day ends during a test."""

    def now_ms(self) -> int:
        return _NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "SystemClock", _Clock)


def _record(number: int, **given: Any) -> UsageRecord:
    values: dict[str, Any] = {
        "request_id": f"req_{number}",
        "organization": DEFAULT_ORGANIZATION,
        "workspace": DEFAULT_WORKSPACE,
        "key_id": "apikey_gone",
        "endpoint": "/v1/messages",
        "requested_model": ("claude-opus-4-6", "claude-haiku-4-5")[number % 2],
        "served_model": "qwen",
        "outcome": "end_turn",
        "usage": Usage(1000 * number, 20, 3, 400, 5 + number, 2),
        "attempts": (),
        "created_ms": _TODAY - (number % 3) * DAY_MS,
        "duration_us": 1,
        "workflow": (None, "nightly")[number % 2],
        "cost": Cost(number * 1_234_567, 0, 10, 0, 2_500_000_000),
    }
    return UsageRecord(**values | given)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with a key, a workspace, and nothing used yet."""
    made_key(tmp_path / "home", "--name", "lap[top]", "--workspace", "Research")
    return tmp_path / "home"


def _post(home: Path, records: Sequence[UsageRecord], *, rolled_before_ms: int = 0) -> None:
    async def post() -> None:
        database = open_database(Settings(home=str(home)).database_url)
        async with database.transaction() as connection:
            await usage.post(connection, records)
            await roll_up(DEFAULT_ORGANIZATION, connection, rolled_before_ms)
        await database.close()

    asyncio.run(post())


def _rows(text: str) -> list[list[str]]:
    """The cells of a table's rows; its head is the second line."""
    return [line.split() for line in text.splitlines()[2:]]


def _day(ago: int) -> str:
    return rfc3339(_TODAY - ago * DAY_MS)[:10]


def test_usage_by_day_with_the_whole_under_it(home: Path) -> None:
    _post(home, [_record(number) for number in range(6)], rolled_before_ms=_TODAY - DAY_MS)
    text = _run(home, "usage")
    assert text.splitlines()[1].split("  ")[0] == "day"
    assert _rows(text) == [
        [_day(2), "2", "7,000", "46", "800", "17", "4"],
        [_day(1), "2", "5,000", "46", "800", "15", "4"],
        [_day(0), "2", "3,000", "46", "800", "13", "4"],
        ["total", "6", "15,000", "138", "2,400", "45", "12"],
    ]


def test_cost_shows_every_digit_that_there_is_and_no_more(home: Path) -> None:
    _post(home, [_record(number) for number in range(6)])
    assert _rows(_run(home, "cost")) == [
        [_day(2), "2", "$0.008641969", "$0.00000002", "$0.00", "$5.00", "$5.008641989"],
        [_day(1), "2", "$0.006172835", "$0.00000002", "$0.00", "$5.00", "$5.006172855"],
        [_day(0), "2", "$0.003703701", "$0.00000002", "$0.00", "$5.00", "$5.003703721"],
        ["total", "6", "$0.018518505", "$0.00000006", "$0.00", "$15.00", "$15.018518565"],
    ]


def test_large_amounts_are_readable(home: Path) -> None:
    _post(home, [_record(1, usage=Usage(1_234_567_890), cost=Cost(input_nano=1_234_567 * 10**9))])
    assert _rows(_run(home, "cost", "--by", "workspace")) == [
        ["Default", "1", "$1,234,567.00", "$0.00", "$0.00", "$0.00", "$1,234,567.00"]
    ]  # one row needs no total
    assert "1,234,567,890" in _run(home, "usage")


@pytest.mark.parametrize("command", ["usage", "cost"])
@pytest.mark.parametrize(
    ("by", "cells"),
    [
        ("model", {("claude-opus-4-6", "qwen"), ("claude-haiku-4-5", "qwen")}),
        ("workspace", {("Default",)}),
        ("key", {("apikey_gone",)}),
        ("workflow", {("–",), ("nightly",)}),
        ("user", {("–",)}),
    ],
)
def test_every_kind_of_row(home: Path, command: str, by: str, cells: set[tuple[str, ...]]) -> None:
    _post(home, [_record(number) for number in range(6)])
    rows = _rows(_run(home, command, "--by", by))
    assert {tuple(row[:-6]) for row in rows if row[0] != "total"} == cells
    assert (len(rows) > 1) == (rows[-1][0] == "total")


def test_keys_and_workspaces_have_people_s_names(home: Path) -> None:
    (workspace, key_id) = asyncio.run(_known(home))
    _post(home, [_record(1, workspace=workspace, key_id=key_id), _record(2)])
    text = _run(home, "usage", "--by", "key", "--by", "workspace")
    assert f"lap[top] ({key_id})  Research" in text
    (row,) = _rows(_run(home, "usage", "--by", "workspace", "--workspace", "Research"))
    assert row[:2] == ["Research", "1"]
    (row,) = _rows(_run(home, "usage", "--by", "workspace", "--workspace", DEFAULT_WORKSPACE))
    assert row[:2] == ["Default", "1"]
    assert "There is no workspace Nowhere" in _run(home, "usage", "--workspace", "Nowhere", status=1)


async def _known(home: Path) -> tuple[str, str]:
    from antiphon.store import keys

    database = open_database(Settings(home=str(home)).database_url)
    async with database.reading() as connection:
        found = await workspaces.find(DEFAULT_ORGANIZATION, connection, "Research")
        (key,) = await keys.of_organization(DEFAULT_ORGANIZATION, connection)
    await database.close()
    return found.id, key.id


def test_several_kinds_at_once_for_machines(home: Path) -> None:
    _post(home, [_record(number) for number in range(6)])
    document = msgspec.json.decode(_run(home, "cost", "--json", "--by", "day", "--by", "workflow"))
    assert len(document["rows"]) == 6
    first = next(row for row in document["rows"] if row["day"] == _day(2) and row["workflow"] == "nightly")
    assert first == {
        "day": _day(2),
        "workflow": "nightly",
        "requests": 1,
        "input_nano": 6_172_835,
        "cache_write_5m_nano": 0,
        "cache_write_1h_nano": 10,
        "cache_read_nano": 0,
        "output_nano": 2_500_000_000,
        "total_nano": 2_506_172_845,
        "input_usd": "0.006172835",
        "cache_write_5m_usd": "0.00",
        "cache_write_1h_usd": "0.00000001",
        "cache_read_usd": "0.00",
        "output_usd": "2.50",
        "total_usd": "2.506172845",
    }
    assert {row["workflow"] for row in document["rows"]} == {None, "nightly"}
    assert document["total"]["total_nano"] == sum(_record(number).cost.total_nano for number in range(6))
    assert Decimal(document["total"]["total_usd"]) * 10**9 == document["total"]["total_nano"]
    assert sum(row["total_nano"] for row in document["rows"]) == document["total"]["total_nano"]


def test_a_table_is_short_and_a_document_whole(home: Path) -> None:
    records = [_record(1, request_id=f"req_{n}", user_id=f"user{n}", usage=Usage(n)) for n in range(1, 1203)]
    _post(home, records)
    text = _run(home, "usage", "--by", "user")
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["user1202", "user1201", "user1200"]  # the largest first
    assert len(lines) == 2 + 100 + 1 + 1
    assert lines[-2].split()[:2] == ["total", "1,202"]
    assert "first 100 rows" in lines[-1]
    document = msgspec.json.decode(_run(home, "usage", "--by", "user", "--json"))
    assert len({row["user_id"] for row in document["rows"]}) == len(document["rows"]) == 1202
    assert document["total"]["input_tokens"] == sum(range(1203))


def test_what_clients_sent_does_not_reach_the_terminal_raw(home: Path) -> None:
    _post(home, [_record(1, workflow="a\x1b[31mb\n[bold]c\u202e")])
    text = _run(home, "usage", "--by", "workflow")
    assert "\x1b" not in text
    assert "a�[31mb�[bold]c�" in text
    document = msgspec.json.decode(_run(home, "usage", "--by", "workflow", "--json"))
    assert document["rows"][0]["workflow"] == "a\x1b[31mb\n[bold]c\u202e"


def test_when_there_is_nothing(home: Path, tmp_path: Path) -> None:
    for place in (home, tmp_path / "fresh"):
        assert _run(place, "usage").startswith("No requests from ")
        assert _run(place, "cost", "--since", "2026-01-01", "--until", "2026-01-31") == (
            "No requests from 2026-01-01 to 2026-02-01 (UTC).\n"
        )
        document = msgspec.json.decode(_run(place, "cost", "--json"))
        assert document["rows"] == []
        assert (document["total"]["requests"], document["total"]["total_usd"]) == (0, "0.00")


def test_spans(home: Path) -> None:
    _post(home, [_record(number, created_ms=_NOW - number * DAY_MS) for number in range(60)])

    def requests(*arguments: str) -> int:
        found: int = msgspec.json.decode(_run(home, "usage", "--json", *arguments))["total"]["requests"]
        return found

    assert requests() == 30  # thirty days, today among them
    assert requests("--since", "12h") == 1
    assert requests("--since", "47h") == 2
    assert requests("--since", _day(9)) == 10
    assert requests("--since", _day(9), "--until", _day(5)) == 5  # with all of its last day
    assert requests("--since", rfc3339(_TODAY - 9 * DAY_MS), "--until", rfc3339(_TODAY - 5 * DAY_MS)) == 4
    assert requests("--since", "59d", "--until", "50d") in {9, 10}
    assert requests("--since", "1970-01-01") == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "--since must be a day, an RFC 3339 time, or 7d, 24h, 30m: not 'yesterday'"),
        (["--until", "2026-13-01"], "--until must be a day"),
        (["--since", "0001-01-01"], "--since must be after 1970"),
        (["--since", "9999-12-31"], "--until must be after --since"),
        (["--until", "9999-12-31"], "--until must be a day"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "--until must be after --since"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(home: Path, arguments: list[str], message: str) -> None:
    output = _run(home, "usage", *arguments, status=1)
    assert output.startswith("antiphon: ")
    assert message in output
