"""Which workspace a key may name (contract messages-and-inference 1), and what comes with it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert

from antiphon.core.clock import SystemClock
from antiphon.core.errors import PermissionDenied, Unauthenticated
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Caller, Role, Scope
from antiphon.gate.identity import Gate
from antiphon.gate.keys import hash_of, new_key
from antiphon.gate.rights import administers, demand
from antiphon.store import keys, members, users, workspaces
from antiphon.store.database import Database, open_database
from antiphon.store.tables import organizations
from antiphon.store.users import User
from antiphon.store.workspaces import WorkspaceChange

pytestmark = pytest.mark.anyio

_HOME = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
_CLOCK = SystemClock()
_IDS = Ids(_CLOCK)
_TEXT = "^This key does not belong to the workspace that anthropic-workspace-id names$"


@pytest.fixture
async def database(store_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(store_url)
    await opened.migrate()
    async with opened.transaction() as connection:
        await workspaces.ensure_defaults(connection, 1)
    yield opened
    await opened.close()


@pytest.fixture
async def gate(database: Database) -> Gate:
    made = Gate(database, _CLOCK)
    await made.load()
    return made


async def _workspace(
    database: Database, organization: str = DEFAULT_ORGANIZATION, change: WorkspaceChange | None = None
) -> Scope:
    async with database.transaction() as connection:
        made = await workspaces.create(
            organization, connection, _IDS, _IDS.make("name"), 2, change or WorkspaceChange()
        )
    return Scope(organization, made.id)


async def _caller(
    gate: Gate, database: Database, scope: Scope = _HOME, *, admin: bool = False, user: str | None = None
) -> Caller:
    made = new_key(scope, _IDS, _CLOCK, name="test", admin=admin, user=user)
    async with database.transaction() as connection:
        await keys.create(scope, connection, made.record, hash_of(made.key.encode()))
    await gate.load()
    return await gate.identify(None, made.key.encode())


async def _user(database: Database, role: Role) -> str:
    user = User(_IDS.make("user"), DEFAULT_ORGANIZATION, f"{_IDS.make('x')}@example.org", "Ada", role, 3)
    async with database.transaction() as connection:
        await users.add(DEFAULT_ORGANIZATION, connection, user)
    return user.id


async def test_a_bound_key_names_its_own_workspace_and_no_other(gate: Gate, database: Database) -> None:
    own, other = await _workspace(database), await _workspace(database)
    caller = await _caller(gate, database, own)
    assert gate.in_workspace(caller, own.workspace.encode()) == caller
    for named in (other.workspace.encode(), b"wrkspc_default", b"wrkspc_none", b"", b"\xff\x00"):
        with pytest.raises(PermissionDenied, match=_TEXT):
            gate.in_workspace(caller, named)


@pytest.mark.parametrize("kind", ["admin key", "admin user"])
async def test_an_admin_enters_every_workspace_of_the_organization(gate: Gate, database: Database, kind: str) -> None:
    change = WorkspaceChange(allowed_geographies=("us",), default_geography="us", logs_requests=True)
    other = await _workspace(database, change=change)
    user = await _user(database, "admin") if kind == "admin user" else None
    caller = await _caller(gate, database, admin=user is None, user=user)
    assert caller.scope == _HOME
    there = gate.in_workspace(caller, other.workspace.encode())
    assert (there.scope, there.key_id, there.admin, there.user) == (other, caller.key_id, caller.admin, user)
    assert (there.allowed_geographies, there.default_geography, there.logs_requests) == (("us",), "us", True)
    assert (caller.allowed_geographies, caller.default_geography, caller.logs_requests) == (None, None, False)
    back = gate.in_workspace(there, b"wrkspc_default")
    assert back == caller


@pytest.mark.behaviour("messages-and-inference-1-workspace-header-chooses")
async def test_a_user_enters_where_he_was_added(gate: Gate, database: Database) -> None:
    other, third = await _workspace(database), await _workspace(database)
    user = await _user(database, "developer")
    caller = await _caller(gate, database, user=user)
    assert (caller.scope, caller.unscoped, caller.user, caller.role) == (_HOME, True, user, "developer")
    assert gate.in_workspace(caller, b"wrkspc_default") == caller
    with pytest.raises(PermissionDenied, match=_TEXT):
        gate.in_workspace(caller, other.workspace.encode())
    async with database.transaction() as connection:
        await members.add(other, connection, user, "workspace_user", 5)
    await gate.load()
    assert gate.in_workspace(caller, other.workspace.encode()).scope == other
    with pytest.raises(PermissionDenied, match=_TEXT):
        gate.in_workspace(caller, third.workspace.encode())
    async with database.transaction() as connection:
        await workspaces.change(other, connection, WorkspaceChange(logs_requests=True))
    await gate.load()
    assert gate.in_workspace(caller, other.workspace.encode()).logs_requests
    async with database.transaction() as connection:
        await members.remove(other, connection, user)
    await gate.load()
    with pytest.raises(PermissionDenied, match=_TEXT):
        gate.in_workspace(caller, other.workspace.encode())


async def test_archived_workspaces_and_other_organizations_are_closed(gate: Gate, database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(insert(organizations).values(id="org_other", name="Other", created_ms=1))
    foreign, gone = await _workspace(database, "org_other"), await _workspace(database)
    caller = await _caller(gate, database, admin=True)
    assert gate.in_workspace(caller, gone.workspace.encode()).scope == gone
    async with database.transaction() as connection:
        await workspaces.archive(gone, connection, 9)
    await gate.load()
    for named in (foreign.workspace, gone.workspace, "wrkspc_none"):
        with pytest.raises(PermissionDenied, match=_TEXT):
            gate.in_workspace(caller, named.encode())


async def test_a_role_is_as_it_is_now_and_a_user_who_left_has_no_key(gate: Gate, database: Database) -> None:
    await _user(database, "user")
    user = await _user(database, "user")
    made = new_key(_HOME, _IDS, _CLOCK, name="test", user=user)
    async with database.transaction() as connection:
        await keys.create(_HOME, connection, made.record, hash_of(made.key.encode()))
    await gate.load()
    key = made.key.encode()
    assert (await gate.identify(None, key)).role == "user"
    async with database.transaction() as connection:
        await users.set_role(DEFAULT_ORGANIZATION, connection, user, "billing")
    await gate.load()
    caller = await gate.identify(None, key)
    assert demand(caller, "spend limits", "write") == caller
    with pytest.raises(PermissionDenied, match=r"^The organization role billing may not change users$"):
        demand(caller, "users", "write")
    assert not administers(caller)
    async with database.transaction() as connection:
        await users.remove(DEFAULT_ORGANIZATION, connection, user)
    await gate.load()
    with pytest.raises(Unauthenticated):
        await gate.identify(None, key)
    async with database.reading() as connection:
        assert (await keys.get(_HOME, connection, made.record.id)).status == "archived"


async def test_a_key_of_a_workspace_administers_nothing(gate: Gate, database: Database) -> None:
    for caller in (await _caller(gate, database), None):
        with pytest.raises(PermissionDenied, match="an API key of a workspace cannot"):
            demand(caller, "organization", "read")
