"""`antiphon audit`, and what the command line itself leaves in it."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.records import DEFAULT_ORGANIZATION
from antiphon.store import activities
from antiphon.store.activities import Activity, Actor
from antiphon.store.database import open_database
from command import inside, made_key

DAY_MS = 24 * 3600 * 1000
ME = pwd.getpwuid(os.getuid()).pw_name


def lines(home: Path, *arguments: str) -> list[Any]:
    """What the audit holds, oldest first."""
    done = inside("audit", "--json", "--home", home, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()][::-1]


def shown(home: Path, *arguments: str, **environment: str) -> str:
    done = inside("audit", "--home", home, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def put(home: Path, acts: Sequence[Activity]) -> None:
    async def write() -> None:
        database = open_database(f"sqlite+aiosqlite:///{home / 'antiphon.db'}")
        async with database.transaction() as connection:
            for act in acts:
                await activities.record(DEFAULT_ORGANIZATION, connection, act)
        await database.close()

    asyncio.run(write())


def act(number: int, *, days: float = 0, kind: str = "platform_workspace_updated", **more: Any) -> Activity:
    actor = more.pop("actor", Actor("admin_api_key_actor", "apikey_boss", "192.0.2.7", "curl/8"))
    at_ms = SystemClock().now_ms() - int(days * DAY_MS)
    return Activity(
        id=f"activity_{number}",
        organization=DEFAULT_ORGANIZATION,
        created_ms=at_ms,
        type=kind,
        actor=actor,
        **more,
    )


def test_a_new_installation_has_nothing_to_tell(tmp_path: Path) -> None:
    assert shown(tmp_path / "home") == "Nothing of this kind was done.\n"
    assert lines(tmp_path / "home") == []


def test_what_the_command_line_does_is_written_with_the_systems_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = made_key(home, "--workspace", "Lab", "--name", "ci"), made_key(home, "--admin", "--name", "boss")
    ids = [f"apikey_{key.split('-')[3]}" for key in made]
    for key_id in ids:
        assert inside("keys", "revoke", key_id, "--home", home).returncode == 0
    done = inside("workspaces", "create", "Other", "--profile", "claude", "--home", home, USER="mallory", LOGNAME="m")
    assert done.returncode == 0
    assert inside("workspaces", "set", "Other", "--profile", "model", "--log-requests", "--home", home).returncode == 0
    told = lines(home)
    assert [line["type"] for line in told] == [
        "platform_workspace_created",
        "platform_api_key_created",
        "admin_api_key_created",
        "platform_api_key_updated",
        "admin_api_key_updated",
        "platform_workspace_created",
        "platform_workspace_updated",
    ]
    assert {json.dumps(line["actor"]) for line in told} == {json.dumps({"type": "system_actor", "service": ME})}
    lab, key, admin, revoked, admin_revoked, other, changed = told
    assert (lab["new"], key["new"], admin["new"]) == ({"name": "Lab"}, {"name": "ci"}, {"name": "boss"})
    assert key["workspace_id"] == lab["workspace_id"]
    assert [key["api_key_id"], admin["admin_api_key_id"]] == ids
    assert (revoked["api_key_id"], revoked["old"], revoked["new"]) == (
        ids[0],
        {"status": "active"},
        {"status": "archived"},
    )
    assert admin_revoked["admin_api_key_id"] == ids[1]
    assert other["new"] == {"name": "Other", "profile": "claude"}
    assert changed["workspace_id"] == other["workspace_id"]
    assert changed["old"] == {"profile": "claude", "logs_requests": False}
    assert changed["new"] == {"profile": "model", "logs_requests": True}


def test_what_the_command_line_refuses_is_written_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for arguments in (
        ["keys", "create", "--workspace", "wrkspc_nowhere"],
        ["keys", "create", "--workspace", " "],
        ["keys", "revoke", "apikey_nope"],
        ["workspaces", "create", "Default"],
        ["workspaces", "set", "Nobody", "--no-log-requests"],
    ):
        assert inside(*arguments, "--home", home).returncode == 1
    assert [(line["type"], line["refused"]) for line in lines(home)] == [
        ("platform_api_key_created", "There is no workspace wrkspc_nowhere"),
        ("platform_workspace_created", "A workspace needs a name"),
        ("platform_api_key_updated", "API key not found"),
        ("platform_workspace_created", "name: A workspace of this name already exists"),
        ("platform_workspace_updated", "There is no workspace Nobody"),
    ]


def test_no_key_is_ever_in_the_audit(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = [made_key(home), made_key(home, "--admin")]
    text = inside("audit", "--json", "--home", home).stdout + shown(home)
    for key in made:
        secret = key.rpartition("-")[2]
        assert not any(secret[at : at + 6] in text for at in range(len(secret) - 6))


def test_the_table_says_when_who_from_where_and_what_changed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("boss", "twin", "twin"):
        made_key(home, "--name", name, "--admin")
    keys = [line["admin_api_key_id"] for line in lines(home)]
    boss = Actor("admin_api_key_actor", keys[0], "192.0.2.7", "curl/8")
    put(
        home,
        [
            act(1, actor=boss, subject="wrkspc_default", old={"name": "Lab", "x": 1}, new={"name": "Ops", "x": None}),
            act(2, actor=boss, subject=keys[1], refused="no such key"),
            act(3, actor=Actor("api_actor"), kind="compliance_api_accessed", new={"url": "/v1?x", "status_code": 200}),
        ],
    )
    rows = {
        " ".join(line.split()[2:])
        for line in shown(home, COLUMNS="40").splitlines()
        if line.startswith(time.strftime("%Y-", time.gmtime()))
    }
    assert rows >= {
        "boss 192.0.2.7 platform_workspace_updated Default name: Lab -> Ops, x: 1 -> (unset)",
        f"boss 192.0.2.7 platform_workspace_updated {keys[1]} refused: no such key",
        "somebody unknown compliance_api_accessed /v1?x",
        f"{ME} this machine admin_api_key_created boss in Default name: boss",
        f"{ME} this machine admin_api_key_created {keys[1]} in Default name: twin",
    }


def test_nothing_that_came_from_outside_moves_the_terminal(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made_key(home)
    evil = "\x1b]0;owned\x07[bold]\r\n"
    put(
        home,
        [
            act(1, kind=evil, subject=evil, new={evil: evil}, actor=Actor("user_actor", evil, evil, evil)),
            act(2, refused=evil),
        ],
    )
    text = shown(home, FORCE_COLOR="", NO_COLOR="1")
    assert "[bold]" in "".join(text.split())
    assert not {"\x1b", "\x07", "\r"} & set(text)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], ["0", "1", "2", "3"]),
        (["--since", "36h"], ["2", "3"]),
        (["--since", "5d"], ["1", "2", "3"]),
        (["--since", "2w"], ["0", "1", "2", "3"]),
        (["--since", "2999-01-01"], []),
        (["--since", "2020-01-01T00:00:00+02:00"], ["0", "1", "2", "3"]),
        (["--type", "a"], ["0", "2"]),
        (["--type", "a", "--type", "b", "--since", "36h"], ["2", "3"]),
        (["--actor", "root"], ["3"]),
        (["--actor", "root", "--actor", "apikey_boss", "--type", "b"], ["1", "3"]),
        (["--limit", "1"], ["3"]),
    ],
)
def test_what_is_asked_for_is_what_is_shown(arguments: list[str], found: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert lines(home) == []
    put(
        home,
        [
            act(0, days=10, kind="a"),
            act(1, days=3, kind="b"),
            act(2, days=1, kind="a"),
            act(3, kind="b", actor=Actor("system_actor", "root")),
        ],
    )
    assert [line["id"][-1] for line in lines(home, *arguments)] == found


@pytest.mark.parametrize("since", ["yesterday", "5", "d", "2026-13-01", "-1d"])
def test_a_time_that_means_nothing_is_told(since: str, tmp_path: Path) -> None:
    done = inside("audit", f"--since={since}", "--home", tmp_path / "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert since in done.stderr
