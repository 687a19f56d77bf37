"""`antiphon logs`: reading back what was kept, and that it was read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.store import request_logs
from antiphon.store.database import open_database
from antiphon.store.request_logs import RequestLog
from command import inside

SCOPE = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
#: 2026-11-23 04:00 UTC.
AT_MS = 1_795_406_400_000


def put(home: Path, *logs: RequestLog) -> None:
    async def write() -> None:
        database = open_database(f"sqlite+aiosqlite:///{home / 'antiphon.db'}")
        async with database.transaction() as connection:
            await request_logs.put(connection, logs)
        await database.close()

    assert inside("workspaces", "list", "--home", home).returncode == 0  # makes the database
    asyncio.run(write())


def test_a_request_is_shown_for_people_and_for_machines(tmp_path: Path) -> None:
    home = tmp_path / "home"
    stream = b'event: ping\ndata: {"type":"ping"}\n\n'
    put(home, RequestLog("req_1", SCOPE, AT_MS, b'{"model":"m","messages":[]}', stream))
    text = inside("logs", "show", "req_1", "--home", home).stdout
    assert text.startswith("req_1 in wrkspc_default, 2026-11-23T")
    assert '\n  "model": "m",\n' in text
    assert stream.decode() in text
    told = json.loads(inside("logs", "show", "req_1", "--json", "--home", home).stdout)
    assert told == {
        "request_id": "req_1",
        "workspace_id": "wrkspc_default",
        "created_at": told["created_at"],
        "request": '{"model":"m","messages":[]}',
        "answer": stream.decode(),
    }


def test_that_it_was_read_stands_in_the_audit_and_that_it_was_tried(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(home, RequestLog("req_1", SCOPE, AT_MS, b"{}", b"{}"))
    assert inside("logs", "show", "req_1", "--home", home).returncode == 0
    done = inside("logs", "show", "req_2", "--home", home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "antiphon: Nothing is kept of the request req_2\n"
    tried, read = map(json.loads, inside("audit", "--json", "--home", home).stdout.splitlines())
    assert (read["type"], read["request_id"], read["workspace_id"]) == (
        "platform_request_log_viewed",
        "req_1",
        DEFAULT_WORKSPACE,
    )
    assert (tried["request_id"], tried["refused"]) == ("req_2", "Nothing is kept of the request req_2")


def test_bytes_that_are_no_text_move_no_terminal(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(home, RequestLog("req_1", SCOPE, AT_MS, b"\x1b]0;owned\x07 not json \xff", b"\x1b[2J\r\n"))
    text = inside("logs", "show", "req_1", "--home", home).stdout
    assert "not json" in text
    assert not {"\x1b", "\x07", "\r"} & set(text)


def test_the_list_is_newest_first_and_of_one_workspace_if_it_is_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = inside("workspaces", "create", "Lab", "--home", home)
    lab = done.stdout.removeprefix("Made ").rstrip(".\n")
    put(
        home,
        RequestLog("req_1", SCOPE, AT_MS, b"secret words", b""),
        RequestLog("req_2", Scope(DEFAULT_ORGANIZATION, lab), AT_MS + 1000, b"", b""),
    )

    def listed(*arguments: str) -> list[list[str]]:
        return [line.split() for line in inside("logs", "list", "--home", home, *arguments).stdout.splitlines()[1:]]

    assert [row[2:] for row in listed()] == [["req_2", "Lab"], ["req_1", "Default"]]
    assert [row[2] for row in listed("--limit", "1")] == ["req_2"]
    assert [row[2] for row in listed("--workspace", "Default")] == ["req_1"]
    assert inside("logs", "list", "--workspace", "Nobody", "--home", home).returncode == 1


def test_where_nothing_is_kept_the_list_says_how_it_would_be(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "--log-requests" in inside("logs", "list", "--home", home).stdout


def test_the_switch_is_shown_where_it_is_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "requests" not in inside("workspaces", "list", "--home", home).stdout
    done = inside("workspaces", "set", "Default", "--log-requests", "--home", home)
    assert done.stdout == "Requests and answers of wrkspc_default are kept from now on.\n"
    assert inside("workspaces", "list", "--home", home).stdout.splitlines()[1].split()[-1] == "kept"
    done = inside("workspaces", "set", "Default", "--no-log-requests", "--home", home)
    assert done.stdout == "Requests and answers of wrkspc_default are not kept any more.\n"
    assert "kept" not in inside("workspaces", "list", "--home", home).stdout
