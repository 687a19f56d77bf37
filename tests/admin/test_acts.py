"""One act: what is done and its line in the audit are there together or not at all; a refusal leaves a line alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.admin.acts import Acts
from antiphon.core.clock import SystemClock
from antiphon.core.errors import Conflict, InvalidRequest, NotFound, RequestError
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, Scope
from antiphon.store import activities, workspaces
from antiphon.store.activities import Activity, Actor
from antiphon.store.database import Database, StoreUnavailable, open_database

pytestmark = pytest.mark.anyio

BOSS = Actor("admin_api_key_actor", "apikey_boss", "192.0.2.7", "curl/8")
CLOCK = SystemClock()
IDS = Ids(CLOCK)

#: Makes a workspace within an act, says so at a given point, and waits there to be killed.
_KILLED = """
import asyncio, sys
from antiphon.admin import acts as module
from antiphon.admin.acts import Acts
from antiphon.core.clock import SystemClock
from antiphon.core.ids import Ids
from antiphon.store import activities, workspaces
from antiphon.store.activities import Actor
from antiphon.store.database import open_database

async def here():
    print("here", flush=True)
    await asyncio.sleep(600)

async def main():
    database, clock, point = open_database(sys.argv[1]), SystemClock(), sys.argv[2]
    ids = Ids(clock)
    if point == "after the line":
        record = activities.record
        async def recorded(*arguments):
            await record(*arguments)
            await here()
        activities.record = recorded
    async with Acts(database, ids, clock).act(Actor("system_actor"), "org_default", "made") as act:
        await workspaces.create("org_default", act.connection, ids, "Lab", clock.now_ms())
        if point == "before the line":
            await here()
    await here()

asyncio.run(main())
"""


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    async with opened.transaction() as connection:
        await workspaces.ensure_defaults(connection, CLOCK.now_ms())
    yield opened
    await opened.close()


async def names(database: Database) -> list[str]:
    async with database.reading() as connection:
        return [each.name for each in await workspaces.of_organization(DEFAULT_ORGANIZATION, connection)]


async def audit(database: Database) -> tuple[Activity, ...]:
    async with database.reading() as connection:
        return await activities.newest(DEFAULT_ORGANIZATION, connection, 100)


async def make(database: Database, name: str, *, fails: BaseException | None = None) -> None:
    acts = Acts(database, IDS, CLOCK)
    async with acts.act(BOSS, DEFAULT_ORGANIZATION, "platform_workspace_created") as act:
        made = await workspaces.create(DEFAULT_ORGANIZATION, act.connection, IDS, name, CLOCK.now_ms())
        act.workspace = act.subject = made.id
        act.new = {"name": name}
        if fails is not None:
            raise fails


async def test_an_act_and_its_line_are_written_together(database: Database) -> None:
    before_ms = CLOCK.now_ms()
    await make(database, "Lab")
    assert await names(database) == ["Default", "Lab"]
    (line,) = await audit(database)
    async with database.reading() as connection:
        lab = await workspaces.find(DEFAULT_ORGANIZATION, connection, "Lab")
    assert (line.type, line.actor, line.refused) == ("platform_workspace_created", BOSS, None)
    assert (line.workspace, line.subject, line.old, line.new) == (lab.id, lab.id, None, {"name": "Lab"})
    assert before_ms <= line.created_ms <= CLOCK.now_ms()
    assert line.id.startswith("activity_01")


async def test_a_refusal_undoes_the_act_and_leaves_its_line(database: Database) -> None:
    with pytest.raises(Conflict, match="already exists"):
        await make(database, "Default")
    (line,) = await audit(database)
    assert line.refused == "name: A workspace of this name already exists"
    assert (line.actor, line.new, line.old) == (BOSS, None, None)
    assert await names(database) == ["Default"]


async def test_a_refusal_after_the_deed_undoes_it_and_says_what_it_was_about(database: Database) -> None:
    with pytest.raises(NotFound):
        await make(database, "Lab", fails=NotFound("gone"))
    assert await names(database) == ["Default"]
    (line,) = await audit(database)
    assert line.refused == "gone"
    assert (line.subject or "").startswith("wrkspc_01")


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), ZeroDivisionError(), KeyboardInterrupt()])
async def test_a_failure_of_ours_leaves_neither_deed_nor_line(failure: BaseException, database: Database) -> None:
    with pytest.raises(type(failure)):
        await make(database, "Lab", fails=failure)
    assert await names(database) == ["Default"]
    assert await audit(database) == ()


async def test_a_line_that_cannot_be_written_undoes_the_deed(database: Database) -> None:
    acts = Acts(database, IDS, CLOCK)
    with pytest.raises(TypeError):
        async with acts.act(BOSS, DEFAULT_ORGANIZATION, "platform_workspace_created") as act:
            await workspaces.create(DEFAULT_ORGANIZATION, act.connection, IDS, "Lab", CLOCK.now_ms())
            act.new = {"what": object()}
    assert await names(database) == ["Default"]
    assert await audit(database) == ()


async def test_a_cancelled_act_leaves_nothing(database: Database) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with Acts(database, IDS, CLOCK).act(BOSS, DEFAULT_ORGANIZATION, "platform_workspace_created") as act:
            await workspaces.create(DEFAULT_ORGANIZATION, act.connection, IDS, "Lab", CLOCK.now_ms())
            inside.set()
            await asyncio.sleep(600)

    task = asyncio.create_task(hold())
    await asyncio.wait_for(inside.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(database) == ["Default"]
    assert await audit(database) == ()


async def test_what_was_sent_is_repeated_in_bounds_and_never_stops_the_line(database: Database) -> None:
    with pytest.raises(RequestError):
        await make(database, "Lab", fails=InvalidRequest("a\0b" + "c" * 10_000))
    (line,) = await audit(database)
    assert line.refused == "a b" + "c" * 297


async def test_an_act_of_one_workspace_names_it_although_it_is_refused_at_once(database: Database) -> None:
    acts = Acts(database, IDS, CLOCK)
    with pytest.raises(NotFound):
        async with acts.act(
            BOSS, DEFAULT_ORGANIZATION, "platform_workspace_archived", workspace="wrkspc_no", subject="wrkspc_no"
        ) as act:
            scope = Scope(DEFAULT_ORGANIZATION, "wrkspc_no")
            await workspaces.archive(scope, act.connection, CLOCK.now_ms())
    (line,) = await audit(database)
    assert (line.workspace, line.subject, line.refused) == ("wrkspc_no", "wrkspc_no", "Workspace not found")


@pytest.mark.parametrize(
    ("point", "done"), [("before the line", False), ("after the line", False), ("at the end", True)]
)
async def test_a_process_that_is_killed_leaves_both_or_neither(
    point: str, done: bool, database: Database, store_url: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _KILLED, store_url, point]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == "here\n"
    os.kill(child.pid, signal.SIGKILL)
    await asyncio.to_thread(child.wait, 60)
    child.stdout.close()
    assert await names(database) == (["Default", "Lab"] if done else ["Default"])
    assert [line.type for line in await audit(database)] == (["made"] if done else [])
