"""Workspaces and keys as rows: scope, states, and the count of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from antiphon.core.clock import SystemClock
from antiphon.core.errors import Conflict, InvalidRequest, NotFound
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Profile, Scope
from antiphon.store import changes, keys, workspaces
from antiphon.store.database import open_database
from antiphon.store.keys import ApiKey, KeyUse, Status

pytestmark = pytest.mark.anyio

_IDS = Ids(SystemClock())
_DEFAULT = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)


@pytest.fixture
async def connection(store_url: str, anyio_backend: str) -> AsyncIterator[AsyncConnection]:
    database = open_database(store_url)
    await database.migrate()
    async with database.transaction() as opened:
        await workspaces.ensure_defaults(opened, 1)
        yield opened
    await database.close()


async def _make(scope: Scope, connection: AsyncConnection, status: Status = "active") -> ApiKey:
    key = ApiKey(_IDS.make("apikey"), scope, "name", "abcd", False, status, 5, expires_ms=100, created_by="user_1")
    await keys.create(scope, connection, key, b"\0" * 32)
    return key


async def _other(connection: AsyncConnection, name: str = "Other") -> Scope:
    made = await workspaces.create(DEFAULT_ORGANIZATION, connection, _IDS, name, 2)
    return Scope(DEFAULT_ORGANIZATION, made.id)


async def test_the_default_rows_are_made_once(connection: AsyncConnection) -> None:
    before = await workspaces.cache_secrets(connection)
    version = await changes.version(connection)
    await workspaces.ensure_defaults(connection, 999)
    assert await workspaces.cache_secrets(connection) == before
    assert await changes.version(connection) == version
    assert [w.created_ms for w in await workspaces.of_organization(DEFAULT_ORGANIZATION, connection)] == [1]


async def test_each_workspace_has_a_secret_of_its_own(connection: AsyncConnection) -> None:
    other = await _other(connection)
    secrets = await workspaces.cache_secrets(connection)
    assert set(secrets) == {_DEFAULT, other}
    assert len(set(secrets.values())) == 2
    assert all(len(secret) == 44 for secret in secrets.values())


async def test_a_name_is_taken_once(connection: AsyncConnection) -> None:
    other = await _other(connection)
    with pytest.raises(Conflict, match="already exists"):
        await workspaces.create(DEFAULT_ORGANIZATION, connection, _IDS, "Other", 3)
    with pytest.raises(Conflict, match="already exists"):
        await workspaces.rename(other, connection, "Default")
    await workspaces.rename(other, connection, "Another")
    assert (await workspaces.get(other, connection)).name == "Another"


@pytest.mark.behaviour("messages-and-inference-13-hundred-workspaces")
async def test_at_most_a_hundred_live_workspaces(connection: AsyncConnection) -> None:
    scopes = [await _other(connection, f"w{n}") for n in range(99)]
    with pytest.raises(InvalidRequest, match="at most 100"):
        await _other(connection, "one more")
    await workspaces.archive(scopes[0], connection, 9)
    await _other(connection, "one more")


async def test_the_default_workspace_stays(connection: AsyncConnection) -> None:
    with pytest.raises(InvalidRequest, match="cannot be archived"):
        await workspaces.archive(_DEFAULT, connection, 9)
    with pytest.raises(InvalidRequest, match="cannot be renamed"):
        await workspaces.rename(_DEFAULT, connection, "Mine")


async def test_a_workspace_is_found_by_id_before_name_and_only_while_it_lives(connection: AsyncConnection) -> None:
    other = await _other(connection)
    await _other(connection, other.workspace)  # somebody's idea of a name
    for wanted in (other.workspace, "Other"):
        assert (await workspaces.find(DEFAULT_ORGANIZATION, connection, wanted)).id == other.workspace
    await workspaces.archive(other, connection, 9)
    for organization, wanted in ((DEFAULT_ORGANIZATION, "Other"), ("org_other", "Default")):
        with pytest.raises(NotFound, match=f"^There is no workspace {wanted}$"):
            await workspaces.find(organization, connection, wanted)


async def test_a_workspace_s_profile_reaches_its_keys_and_no_others(connection: AsyncConnection) -> None:
    other = await _other(connection)
    mine, theirs = await _make(_DEFAULT, connection), await _make(other, connection)
    steps: tuple[Profile | None, ...] = ("claude", "model", None)
    for profile in steps:
        version = await changes.version(connection)
        await workspaces.set_profile(other, connection, profile)
        assert await changes.version(connection) > version
        assert (await workspaces.get(other, connection)).profile == profile
        found = {key.id: key.profile async for portion in keys.credentials(connection) for key in portion}
        assert found == {mine.id: None, theirs.id: profile}
    await workspaces.archive(other, connection, 9)
    for scope in (other, Scope("org_other", DEFAULT_WORKSPACE)):
        with pytest.raises(NotFound):
            await workspaces.set_profile(scope, connection, "claude")


async def test_archiving_a_workspace_ends_its_keys_and_no_others(connection: AsyncConnection) -> None:
    other = await _other(connection)
    active, inactive = await _make(other, connection), await _make(other, connection, "inactive")
    elsewhere = await _make(_DEFAULT, connection)
    await workspaces.archive(other, connection, 9)
    assert {k.id: k.status for k in await keys.of_organization(DEFAULT_ORGANIZATION, connection)} == {
        active.id: "archived",
        inactive.id: "archived",
        elsewhere.id: "active",
    }
    await workspaces.archive(other, connection, 10)
    assert (await workspaces.get(other, connection)).archived_ms == 9
    assert other not in await workspaces.cache_secrets(connection)
    assert len(await workspaces.of_organization(DEFAULT_ORGANIZATION, connection)) == 1
    assert len(await workspaces.of_organization(DEFAULT_ORGANIZATION, connection, archived=True)) == 2
    with pytest.raises(NotFound):
        await _make(other, connection)
    with pytest.raises(NotFound):
        await workspaces.rename(other, connection, "back")


async def test_a_key_is_what_was_stored(connection: AsyncConnection) -> None:
    key = await _make(_DEFAULT, connection)
    assert await keys.get(_DEFAULT, connection, key.id) == key
    assert await keys.find(DEFAULT_ORGANIZATION, connection, key.id) == key
    assert await keys.of_workspace(_DEFAULT, connection) == (key,)
    assert [key.status_at(99), key.status_at(100)] == ["active", "expired"]


@pytest.mark.parametrize(
    ("start", "to", "end"),
    [
        ("active", "active", "active"),
        ("active", "inactive", "inactive"),
        ("active", "archived", "archived"),
        ("inactive", "active", "active"),
        ("inactive", "inactive", "inactive"),
        ("inactive", "archived", "archived"),
        ("archived", "archived", "archived"),
        ("archived", "active", None),
        ("archived", "inactive", None),
    ],
)
async def test_states_of_a_key(connection: AsyncConnection, start: Status, to: Status, end: Status | None) -> None:
    key = await _make(_DEFAULT, connection, start)
    if end is None:
        with pytest.raises(InvalidRequest, match="archived API key"):
            await keys.set_status(_DEFAULT, connection, key.id, to)
    else:
        await keys.set_status(_DEFAULT, connection, key.id, to)
    assert (await keys.get(_DEFAULT, connection, key.id)).status == (end or start)


async def test_an_archived_key_keeps_its_name(connection: AsyncConnection) -> None:
    key = await _make(_DEFAULT, connection)
    await keys.rename(_DEFAULT, connection, key.id, "new")
    assert (await keys.get(_DEFAULT, connection, key.id)).name == "new"
    await keys.set_status(_DEFAULT, connection, key.id, "archived")
    with pytest.raises(InvalidRequest):
        await keys.rename(_DEFAULT, connection, key.id, "newer")


async def test_a_workspace_cannot_touch_anothers_key(connection: AsyncConnection) -> None:
    other = await _other(connection)
    key = await _make(_DEFAULT, connection)
    foreign = Scope("org_other", DEFAULT_WORKSPACE)
    for scope in (other, foreign):
        with pytest.raises(NotFound):
            await keys.get(scope, connection, key.id)
        with pytest.raises(NotFound):
            await keys.set_status(scope, connection, key.id, "archived")
        with pytest.raises(NotFound):
            await keys.rename(scope, connection, key.id, "mine")
        assert await keys.of_workspace(scope, connection) == ()
        await keys.record_use(connection, [KeyUse(scope, key.id, 77)])
    with pytest.raises(NotFound):
        await keys.find("org_other", connection, key.id)
    with pytest.raises(NotFound):
        await _make(foreign, connection)
    assert await keys.get(_DEFAULT, connection, key.id) == key


async def test_uses_never_go_back_and_are_no_change(connection: AsyncConnection) -> None:
    key = await _make(_DEFAULT, connection)
    version = await changes.version(connection)
    for at_ms in (50, 70, 60):
        await keys.record_use(connection, [KeyUse(_DEFAULT, key.id, at_ms)])
    await keys.record_use(connection, [])
    assert (await keys.get(_DEFAULT, connection, key.id)).last_used_ms == 70
    assert await changes.version(connection) == version


async def test_every_write_is_counted(connection: AsyncConnection) -> None:
    seen = [await changes.version(connection)]

    async def counted() -> None:
        seen.append(await changes.version(connection))
        assert seen[-1] > seen[-2]

    other = await _other(connection)
    await counted()
    key = await _make(other, connection)
    await counted()
    await keys.rename(other, connection, key.id, "x")
    await counted()
    await keys.set_status(other, connection, key.id, "inactive")
    await counted()
    await workspaces.rename(other, connection, "y")
    await counted()
    await workspaces.archive(other, connection, 3)
    await counted()
