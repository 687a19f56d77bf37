"""Users, invites and members as rows; pages; the settings of workspaces and keys. On every database there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from antiphon.core.clock import SystemClock
from antiphon.core.errors import InvalidRequest, NotFound
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Role, Scope
from antiphon.store import changes, invites, keys, members, users, workspaces
from antiphon.store.database import Database, open_database
from antiphon.store.keys import ApiKey, ShownStatus, Status
from antiphon.store.pages import Walk
from antiphon.store.users import User
from antiphon.store.workspaces import WorkspaceChange

pytestmark = pytest.mark.anyio

_ORG = DEFAULT_ORGANIZATION
_DEFAULT = Scope(_ORG, DEFAULT_WORKSPACE)
_IDS = Ids(SystemClock())


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    async with opened.transaction() as connection:
        await workspaces.ensure_defaults(connection, 1)
    yield opened
    await opened.close()


async def _user(database: Database, role: Role = "user", added_ms: int = 5, name: str = "") -> User:
    user = User(_IDS.make("user"), _ORG, f"{name or _IDS.make('x')}@example.org", "Ada", role, added_ms)
    async with database.transaction() as connection:
        await users.add(_ORG, connection, user)
    return user


async def test_pages_are_newest_first_and_stable_where_times_are_alike(database: Database) -> None:
    made = [await _user(database, added_ms=time) for time in (1, 2, 2, 2, 3, 3, 4)]
    order = sorted(made, key=lambda user: (user.added_ms, user.id), reverse=True)
    async with database.reading() as connection:
        whole = await users.page(_ORG, connection, Walk(limit=100))
        assert [user.added_ms for user in whole.items] == [user.added_ms for user in order]
        assert not whole.more
        forwards: list[User] = []
        page = await users.page(_ORG, connection, Walk(limit=2))
        while page.items:
            forwards += page.items
            page = await users.page(_ORG, connection, Walk(limit=2, after=page.items[-1].id))
        assert forwards == list(whole.items)
        backwards: list[User] = []
        page = await users.page(_ORG, connection, Walk(limit=3, before=forwards[-1].id))
        while page.items:
            backwards = [*page.items, *backwards]
            page = await users.page(_ORG, connection, Walk(limit=3, before=page.items[0].id))
        assert backwards == forwards[:-1]
        exactly = await users.page(_ORG, connection, Walk(limit=7))
        assert (len(exactly.items), exactly.more) == (7, False)
        assert (await users.page(_ORG, connection, Walk(limit=6))).more
        with pytest.raises(InvalidRequest, match=r"^after_id: nothing here has the id `nobody`$"):
            await users.page(_ORG, connection, Walk(after="nobody"))
        with pytest.raises(InvalidRequest, match=r"^after_id: nothing"):
            await users.page("org_other", connection, Walk(after=made[0].id))


async def test_every_write_of_people_is_noticed(database: Database) -> None:
    async def version() -> int:
        async with database.reading() as connection:
            return await changes.version(connection)

    seen = await version()
    user = await _user(database)
    await _user(database)
    async with database.transaction() as connection:
        other = Scope(_ORG, (await workspaces.create(_ORG, connection, _IDS, "Other", 2)).id)
    assert await version() > seen
    for step in range(4):
        seen = await version()
        async with database.transaction() as connection:
            if step == 0:
                await users.set_role(_ORG, connection, user.id, "developer")
            elif step == 1:
                await members.add(other, connection, user.id, "workspace_user", 9)
            elif step == 2:
                await members.set_role(other, connection, user.id, "workspace_admin")
            else:
                await users.remove(_ORG, connection, user.id)
        assert await version() > seen


async def test_an_address_belongs_to_one_user_whatever_its_case(database: Database) -> None:
    await _user(database, name="ada")
    with pytest.raises(InvalidRequest, match="already belongs"):
        await _user(database, name="ada")
    async with database.reading() as connection:
        assert await users.by_email(_ORG, connection, " ADA@Example.org ") is not None
        assert await users.by_email("org_other", connection, "ada@example.org") is None


async def test_an_invite_s_states_end_where_they_end(database: Database) -> None:
    async with database.transaction() as connection:
        first = await invites.create(_ORG, connection, "invite_1", " A@b.c", "user", 10)
    assert (first.email, first.status_at(11), first.status_at(first.expires_ms)) == ("a@b.c", "pending", "expired")
    assert first.expires_ms - first.invited_ms == 21 * 24 * 3600 * 1000
    async with database.transaction() as connection:
        with pytest.raises(InvalidRequest, match="invite_1"):
            await invites.create(_ORG, connection, "invite_2", "a@B.c", "user", 20)
        with pytest.raises(InvalidRequest, match="it is expired"):
            await invites.accept(_ORG, connection, "invite_1", first.expires_ms)
        late = await invites.create(_ORG, connection, "invite_3", "a@b.c", "user", first.expires_ms)
        assert (await invites.accept(_ORG, connection, late.id, first.expires_ms + 1)).status_at(0) == "accepted"
        for end in (invites.accept, invites.withdraw):
            with pytest.raises(InvalidRequest, match="it is accepted"):
                await end(_ORG, connection, late.id, first.expires_ms + 2)
            for organization, invite in (("org_other", late.id), (_ORG, "invite_none")):
                with pytest.raises(NotFound, match=r"^Invite not found$"):
                    await end(organization, connection, invite, 30)


async def test_two_invites_at_once_are_one(database: Database) -> None:
    async def invite(invite_id: str) -> bool:
        try:
            async with database.transaction() as connection:
                await invites.create(_ORG, connection, invite_id, "race@example.org", "user", 10)
        except InvalidRequest:
            return False
        return True

    assert sum(await asyncio.gather(*(invite(f"invite_{n}") for n in range(5)))) == 1


async def test_members_go_with_their_user(database: Database) -> None:
    user, banker = await _user(database), await _user(database, "billing")
    async with database.transaction() as connection:
        other = Scope(_ORG, (await workspaces.create(_ORG, connection, _IDS, "Other", 2)).id)
        await members.add(other, connection, user.id, "workspace_user", 9)
        page = await members.page(other, connection, Walk())
        assert {(member.user_id, member.role) for member in page.items} == {
            (user.id, "workspace_user"),
            (banker.id, "workspace_billing"),
        }
        assert (await members.page(_DEFAULT, connection, Walk())).items == ()
        for scope in (Scope("org_other", other.workspace), Scope(_ORG, "wrkspc_none")):
            with pytest.raises(NotFound, match=r"^Workspace not found$"):
                await members.page(scope, connection, Walk())
        await users.remove(_ORG, connection, user.id)
        assert [member.user_id for member in (await members.page(other, connection, Walk())).items] == [banker.id]


async def test_settings_of_a_workspace_are_what_was_stored(database: Database) -> None:
    settings = WorkspaceChange(
        display_color="#123456",
        tags={"a": "ü", "b": ""},
        allowed_geographies=("us", "global"),
        default_geography="us",
        logs_requests=True,
    )
    async with database.transaction() as connection:
        made = await workspaces.create(_ORG, connection, _IDS, "Other", 2, settings)
        scope = Scope(_ORG, made.id)
        assert await workspaces.get(scope, connection) == made
        assert (made.tags, made.allowed_geographies, made.logs_requests) == (
            {"a": "ü", "b": ""},
            ("us", "global"),
            True,
        )
        await workspaces.change(scope, connection, WorkspaceChange(allowed_geographies=None, default_geography=None))
        after = await workspaces.get(scope, connection)
        assert (after.allowed_geographies, after.default_geography, after.tags) == (None, None, made.tags)
        await workspaces.change(scope, connection, WorkspaceChange())
        assert await workspaces.get(scope, connection) == after
        with pytest.raises(NotFound):
            await workspaces.change(Scope(_ORG, "wrkspc_none"), connection, WorkspaceChange())
        page = await workspaces.page(_ORG, connection, Walk(), ids=[made.id, DEFAULT_WORKSPACE], default=True)
        assert {found.id for found in page.items} == {made.id, DEFAULT_WORKSPACE}
        assert await workspaces.organization_name(_ORG, connection) == "Default"
        with pytest.raises(NotFound):
            await workspaces.organization_name("org_none", connection)


async def test_keys_by_the_state_they_show(database: Database) -> None:
    async with database.transaction() as connection:
        made: tuple[tuple[str, Status, int | None], ...] = (
            ("active", "active", None),
            ("active later", "active", 200),
            ("inactive", "inactive", None),
            ("expired", "active", 100),
            ("expired off", "inactive", 50),
            ("archived", "archived", 50),
        )
        for name, status, expires in made:
            key = ApiKey(_IDS.make("apikey"), _DEFAULT, name, "abcd", False, status, 5, expires_ms=expires)
            await keys.create(_DEFAULT, connection, key, b"\0" * 32)
        found: dict[str, set[str]] = {}
        statuses: tuple[ShownStatus, ...] = ("active", "inactive", "expired", "archived")
        for shown in statuses:
            page = await keys.page(_ORG, connection, Walk(), 100, status=shown)
            assert {key.status_at(100) for key in page.items} == {shown}
            found[shown] = {key.name for key in page.items}
    assert found == {
        "active": {"active", "active later"},
        "inactive": {"inactive"},
        "expired": {"expired", "expired off"},
        "archived": {"archived"},
    }
