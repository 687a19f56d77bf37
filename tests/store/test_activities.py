"""The audit's rows: read as they were written, never changed, and removed only when their time is up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.errors import InvalidRequest
from antiphon.store import activities
from antiphon.store.activities import KEPT_MS, Activity, Actor, Wanted
from antiphon.store.database import Database, open_database
from antiphon.store.pages import Walk
from antiphon.store.tables import activities as table

pytestmark = pytest.mark.anyio

ORG = "org_default"
NOW_MS = time.time_ns() // 1_000_000
BOSS = Actor("admin_api_key_actor", "apikey_boss", "192.0.2.7", "curl/8")


def act(number: int, *, at_ms: int = NOW_MS, kind: str = "platform_workspace_created", actor: Actor = BOSS) -> Activity:
    return Activity(id=f"activity_{number:04}", organization=ORG, created_ms=at_ms, type=kind, actor=actor)


async def put(connection: AsyncConnection, *acts: Activity) -> None:
    for each in acts:
        await activities.record(each.organization, connection, each)


def ids(found: tuple[Activity, ...]) -> list[int]:
    return [int(each.id.removeprefix("activity_")) for each in found]


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    yield opened
    await opened.close()


async def test_an_act_is_read_as_it_was_written(database: Database) -> None:
    whole = msgspec.structs.replace(
        act(1),
        workspace="wrkspc_lab",
        subject="apikey_new",
        refused="no",
        old={"name": "Ä", "tags": None},
        new={"name": "\u2028", "limits": [{"value": 2**53}]},
    )
    bare = act(2, actor=Actor("system_actor"))
    async with database.transaction() as connection:
        await put(connection, whole, bare)
        assert await activities.newest(ORG, connection, 10) == (bare, whole)
        assert await activities.newest("org_other", connection, 10) == ()
        with pytest.raises(InvalidRequest):
            await activities.page("org_other", connection, Walk(10, after=bare.id), Wanted())


async def test_pages_walk_both_ways_and_meet_every_act_once(database: Database) -> None:
    acts = [act(number, at_ms=NOW_MS + number // 4) for number in range(20)]
    async with database.transaction() as connection:
        await put(connection, *reversed(acts))
        down: list[Activity] = []
        more = True
        while more:
            walk = Walk(3, after=down[-1].id if down else None)
            down += (page := await activities.page(ORG, connection, walk, Wanted())).items
            more = page.more
        up: list[Activity] = [down[-1]]
        more = True
        while more:
            walk = Walk(3, before=up[-1].id)
            up += reversed((page := await activities.page(ORG, connection, walk, Wanted())).items)
            more = page.more
    assert ids(tuple(down)) == list(range(19, -1, -1))
    assert ids(tuple(up)) == list(range(20))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [3, 2, 1, 0]),
        (Wanted(types=["a", "nothing"]), [2, 0]),
        (Wanted(without_types=["a"]), [3, 1]),
        (Wanted(actors=["apikey_boss"]), [3, 0]),
        (Wanted(from_ms=NOW_MS + 1, until_ms=NOW_MS + 3), [2, 1]),
        (Wanted(types=["b"], actors=["apikey_boss"], from_ms=NOW_MS + 1), [3]),
        (Wanted(until_ms=NOW_MS), []),
    ],
)
async def test_what_is_wanted_is_what_is_found(wanted: Wanted, found: list[int], database: Database) -> None:
    other = Actor("user_actor", "user_1")
    async with database.transaction() as connection:
        for number, (kind, actor) in enumerate([("a", BOSS), ("b", other), ("a", other), ("b", BOSS)]):
            await put(connection, act(number, at_ms=NOW_MS + number, kind=kind, actor=actor))
        assert ids(await activities.newest(ORG, connection, 10, wanted)) == found
        await put(connection, act(9, at_ms=NOW_MS - 1, kind="z", actor=Actor("system_actor")))
        page = await activities.page(ORG, connection, Walk(10, before=act(9).id), wanted)
        assert (ids(page.items), page.more) == (found, False)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE activities SET new = 'another'",
        "UPDATE activities SET refused = 'no' WHERE id = 'activity_0001'",
        "UPDATE activities SET created_ms = 1",
        "DELETE FROM activities",
        "DELETE FROM activities WHERE id = 'activity_0001'",
    ],
)
async def test_the_database_itself_refuses_to_change_an_act(statement: str, database: Database) -> None:
    async with database.transaction() as connection:
        await put(connection, act(1), act(2))
    with pytest.raises(IntegrityError, match="kept as they are"):
        async with database.transaction() as connection:
            await connection.execute(text(statement))
    async with database.reading() as connection:
        assert await activities.newest(ORG, connection, 10) == (act(2), act(1))


async def test_an_act_cannot_be_replaced_by_another_of_its_id(database: Database) -> None:
    forged = msgspec.structs.replace(act(1), refused="forged")
    async with database.transaction() as connection:
        await put(connection, act(1))
        kind = connection.dialect.name
    values = {"organization": ORG, "id": forged.id, "created_ms": 1, "type": "x", "actor_type": "system_actor"}
    replacing = {
        "sqlite": ["INSERT OR REPLACE INTO", ""],
        "postgresql": ["INSERT INTO", "ON CONFLICT (organization, id) DO UPDATE SET type = excluded.type"],
    }[kind]
    columns = ", ".join(values)
    names = ", ".join(f":{name}" for name in values)
    begin, end = replacing
    for attempt in (insert(table), text(f"{begin} activities ({columns}) VALUES ({names}) {end}")):
        with pytest.raises(IntegrityError):
            async with database.transaction() as connection:
                await connection.execute(attempt, values)
    async with database.reading() as connection:
        assert await activities.newest(ORG, connection, 10) == (act(1),)


async def test_what_is_past_its_time_can_be_removed_and_nothing_else(database: Database) -> None:
    day = 24 * 3600 * 1000
    old, young = act(1, at_ms=NOW_MS - KEPT_MS - day), act(2, at_ms=NOW_MS - KEPT_MS + day)
    async with database.transaction() as connection:
        await put(connection, old, young)
        assert await activities.prune(connection, NOW_MS - KEPT_MS) == 1
    with pytest.raises(IntegrityError, match="for six years"):
        async with database.transaction() as connection:
            await activities.prune(connection, NOW_MS)
    async with database.reading() as connection:
        assert await activities.newest(ORG, connection, 10) == (young,)
        assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 1


async def test_a_table_cannot_be_emptied_at_a_stroke(database: Database) -> None:
    async with database.transaction() as connection:
        await put(connection, act(1))
        statement = "TRUNCATE activities" if connection.dialect.name == "postgresql" else "DELETE FROM activities"
    with pytest.raises(IntegrityError, match="kept as they are"):
        async with database.transaction() as connection:
            await connection.execute(text(statement))
