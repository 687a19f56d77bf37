"""One identity for every door: which credentials count, which do not, and what a wrong one costs."""

from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.core.clock import SystemClock
from antiphon.core.errors import NotFound, Unauthenticated
from antiphon.core.ids import Ids, secret
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Caller, Scope
from antiphon.gate import keys as text
from antiphon.gate.identity import Gate
from antiphon.gate.keys import NewKey, create_key
from antiphon.store import database as database_module
from antiphon.store import keys, workspaces
from antiphon.store.database import Database, StoreUnavailable, open_database

pytestmark = pytest.mark.anyio

_SCOPE = Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
_IDS = Ids(SystemClock())


class _Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
async def database(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    opened = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await opened.migrate()
    async with opened.transaction() as connection:
        await workspaces.ensure_defaults(connection, 1)
    yield opened
    await opened.close()


@pytest.fixture
async def gate(database: Database, clock: _Clock) -> Gate:
    made = Gate(database, clock)
    await made.load()
    return made


async def _key(database: Database, scope: Scope = _SCOPE, expires_ms: int | None = None) -> NewKey:
    return await create_key(scope, database, _IDS, SystemClock(), name="test", expires_ms=expires_ms)


async def _refused(gate: Gate, authorization: bytes | None, x_api_key: bytes | None, message: str = "nvalid") -> None:
    with pytest.raises(Unauthenticated, match=message):
        await gate.identify(authorization, x_api_key)


def _wrong(public_id: str | None = None) -> bytes:
    public_id = public_id or _IDS.make("apikey").removeprefix("apikey_")
    return f"sk-ant-api03-{public_id}-{secret(68)}AA".encode()


async def test_a_key_is_what_secret_scanners_look_for(database: Database) -> None:
    key = await _key(database)
    admin = await create_key(_SCOPE, database, _IDS, SystemClock(), name="root", admin=True)
    assert re.fullmatch(r"sk-ant-api03-[a-zA-Z0-9_\-]{93}AA", key.key)
    assert re.fullmatch(r"sk-ant-admin01-[a-zA-Z0-9_\-]{93}AA", admin.key)
    assert key.record.hint == key.key[-4:]


async def test_the_key_itself_is_stored_nowhere(database: Database, tmp_path: Path) -> None:
    key = await _key(database)
    hidden = key.key.rsplit("-", 1)[1].encode()
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert hidden not in content
        assert hidden[:-2] not in content


async def test_a_key_needs_a_live_workspace(database: Database) -> None:
    with pytest.raises(NotFound):
        await _key(database, Scope(DEFAULT_ORGANIZATION, "wrkspc_none"))


@pytest.mark.behaviour("messages-and-inference-1-x-api-key", "messages-and-inference-1-bearer")
@pytest.mark.parametrize(
    ("authorization", "x_api_key"),
    [
        (None, b"%s"),
        (b"Bearer %s", None),
        (b"bearer %s", None),
        (b"BEARER   %s", None),
        (b" \tBearer %s \t", None),
        (None, b"  %s\t"),
        (b"Bearer %s", b"%s"),
        (b"Bearer %s", b""),
        (b"", b"%s"),
        (b"Bearer ", b"%s"),
        (b"Bearer", b"%s"),
    ],
)
async def test_every_way_to_send_a_key_is_one(
    gate: Gate, database: Database, authorization: bytes | None, x_api_key: bytes | None
) -> None:
    right = await _key(database)
    await gate.load()

    def with_key(key: bytes) -> list[bytes | None]:
        return [value and value.replace(b"%s", key) for value in (authorization, x_api_key)]

    sent = with_key(right.key.encode())
    assert await gate.identify(sent[0], sent[1]) == Caller(_SCOPE, right.record.id)
    for wrong in (_wrong(), _wrong(right.record.id.removeprefix("apikey_"))):
        sent = with_key(wrong)
        await _refused(gate, sent[0], sent[1], "nvalid")


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "message"),
    [
        (None, None, "^x-api-key header is required$"),
        (b"", b" ", "^x-api-key header is required$"),
        (b"Bearer", None, "^Invalid bearer token$"),
        (b"Bearer ", b"", "^Invalid bearer token$"),
        (b"Basic dXNlcjpwYXNz", None, "^Invalid bearer token$"),
        (b"%s", None, "^Invalid bearer token$"),
        (b"Basic %s", b"%s", "^Invalid bearer token$"),
        (b"Bearer Bearer %s", None, "^Invalid bearer token$"),
        (b"Bearer %s, Bearer %s", None, "^Invalid bearer token$"),
        (None, b"%s, %s", "^invalid x-api-key$"),
        (None, b"%s,%s", "^invalid x-api-key$"),
        (None, b"%s %s", "^invalid x-api-key$"),
        (None, b"Bearer %s", "^invalid x-api-key$"),
        (None, b"\n%s", "^invalid x-api-key$"),
        (None, b"%s\n", "^invalid x-api-key$"),
        (None, b"%s\x00", "^invalid x-api-key$"),
        (None, b"%sA", "^invalid x-api-key$"),
        (None, b"'%s'", "^invalid x-api-key$"),
        (None, b"' OR 1=1 --", "^invalid x-api-key$"),
        (None, b"\xff\xfe", "^invalid x-api-key$"),
        (None, b"x" * 1_000_000, "^invalid x-api-key$"),
        (b"Bearer " + _wrong(), b"%s", "different credentials"),
        (b"Bearer %s", _wrong(), "different credentials"),
    ],
)
async def test_what_is_no_key_is_refused_without_a_look_into_the_database(
    gate: Gate, database: Database, authorization: bytes | None, x_api_key: bytes | None, message: str
) -> None:
    key = (await _key(database)).key.encode()
    await gate.load()
    before = gate.figures().glances
    for case in (lambda v: v, bytes.upper, bytes.lower) if message != "different credentials" else (lambda v: v,):
        sent = [value and value.replace(b"%s", case(key)) for value in (authorization, x_api_key)]
        await _refused(gate, sent[0], sent[1], message)
    assert gate.figures().glances == before


@given(value=st.binary(max_size=200) | st.text(max_size=120).map(str.encode))
@example(b"sk-ant-api03-")
@example(b"sk-ant-api03-01" + b"1" * 22 + b"-" + b"0" * 68 + b"AA")
def test_anything_else_is_unauthenticated_and_never_another_error(value: bytes) -> None:
    for headers in ((value, None), (None, value), (b"Bearer " + value, None), (value, value)):
        with pytest.raises(Unauthenticated):
            text.presented(*headers)


def test_a_header_that_comes_twice() -> None:
    def read(*headers: tuple[bytes, bytes]) -> Iterable[bytes | None]:
        return text.credential_headers([(b"host", b"x"), *headers])

    assert read((b"x-api-key", b"a"), (b"authorization", b"b")) == (b"b", b"a")
    assert read((b"x-api-key", b"a"), (b"x-api-key", b"a")) == (None, b"a")
    assert read() == (None, None)
    for name in (b"x-api-key", b"authorization"):
        with pytest.raises(Unauthenticated):
            read((name, b"a"), (name, b"b"))


async def test_less_than_the_whole_key_is_no_key(gate: Gate, database: Database) -> None:
    key = (await _key(database)).key
    admin = (await create_key(_SCOPE, database, _IDS, SystemClock(), name="root", admin=True)).key
    await gate.load()
    assert (await gate.identify(None, admin.encode())).admin
    flipped = [key[:at] + ("2" if key[at] != "2" else "3") + key[at + 1 :] for at in (-3, -40, 40)]
    kinds = [key.replace("api03", "admin01"), admin.replace("admin01", "api03")]
    for wrong in (*flipped, *kinds, key[:-1], key[:60]):
        await _refused(gate, None, wrong.encode(), "invalid x-api-key")


async def test_a_key_counts_until_it_expires(gate: Gate, database: Database, clock: _Clock) -> None:
    key = (await _key(database, expires_ms=clock.ms + 50)).key.encode()
    await gate.load()
    clock.ms += 49
    await gate.identify(None, key)
    clock.ms += 1
    await _refused(gate, None, key, "invalid x-api-key")


async def test_a_key_that_was_switched_off_can_come_back_and_a_revoked_one_cannot(
    gate: Gate, database: Database
) -> None:
    key = await _key(database)
    steps: list[tuple[keys.Status, bool]] = [("inactive", False), ("active", True), ("archived", False)]
    for status, counts in steps:
        async with database.transaction() as connection:
            await keys.set_status(_SCOPE, connection, key.record.id, status)
        await gate.load()
        if counts:
            await gate.identify(None, key.key.encode())
        else:
            await _refused(gate, b"Bearer " + key.key.encode(), None, "Invalid bearer token")


async def test_the_keys_of_an_archived_workspace_do_not_count(gate: Gate, database: Database) -> None:
    async with database.transaction() as connection:
        made = await workspaces.create(DEFAULT_ORGANIZATION, connection, _IDS, "Other", 1)
    scope = Scope(DEFAULT_ORGANIZATION, made.id)
    key = (await _key(database, scope)).key.encode()
    await gate.load()
    assert (await gate.identify(None, key)).scope == scope
    async with database.transaction() as connection:
        await workspaces.archive(scope, connection, 2)
    await gate.load()
    await _refused(gate, None, key)


async def test_what_a_workspace_is_set_to_comes_with_its_callers(gate: Gate, database: Database) -> None:
    key = (await _key(database)).key.encode()
    await gate.load()
    assert (await gate.identify(None, key)).profile is None
    for profile in ("claude", "model", None):
        async with database.transaction() as connection:
            await workspaces.set_profile(_SCOPE, connection, profile)
        await gate.load()
        assert (await gate.identify(None, key)).profile == profile


async def test_a_key_that_was_just_made_counts_at_once(gate: Gate, database: Database, clock: _Clock) -> None:
    key = (await _key(database)).key.encode()
    clock.ms += 26
    await gate.identify(None, key)
    assert gate.figures().loads == 2


_CHANGE = """
import asyncio, sys
from antiphon.core.clock import SystemClock
from antiphon.core.ids import Ids
from antiphon.core.records import DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE, Scope
from antiphon.gate.keys import create_key
from antiphon.store import keys
from antiphon.store.database import open_database

async def main():
    database, scope = open_database(sys.argv[1]), Scope(DEFAULT_ORGANIZATION, DEFAULT_WORKSPACE)
    async with database.transaction() as connection:
        await keys.set_status(scope, connection, sys.argv[2], "archived")
    made = await create_key(scope, database, Ids(SystemClock()), SystemClock(), name="by the command line")
    await database.close()
    print(made.key)

asyncio.run(main())
"""


async def test_what_another_process_does_counts_within_a_second(database: Database, tmp_path: Path) -> None:
    old = await _key(database)
    gate = Gate(database, SystemClock())
    await gate.load()
    running = asyncio.create_task(gate.run())
    await gate.identify(None, old.key.encode())
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    command = [sys.executable, "-c", _CHANGE, url, old.record.id]
    new = (await asyncio.to_thread(subprocess.check_output, command, timeout=30)).strip()
    done = time.monotonic()
    assert (await gate.identify(None, new)).scope == _SCOPE
    while True:
        try:
            await gate.identify(None, old.key.encode())
        except Unauthenticated:
            break
        assert time.monotonic() - done < 1
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_many_wrong_keys_cost_neither_reads_nor_memory(gate: Gate, database: Database, clock: _Clock) -> None:
    right = await _key(database)
    await gate.load()
    tail = f"-{secret(68)}AA".encode()
    known, filler = f"sk-ant-api03-{right.record.id.removeprefix('apikey_')}-".encode(), secret(46)
    tried = itertools.count()

    async def flood(count: int) -> None:
        for _ in range(count // 2):
            number = f"{next(tried):022d}".replace("0", "z")
            for wrong in (b"sk-ant-api03-01%s" % number.encode() + tail, known + f"{number}{filler}AA".encode()):
                try:
                    await gate.identify(None, wrong)
                except Unauthenticated:
                    continue
                pytest.fail("a wrong key was let in")

    await flood(1000)
    before = gate.figures()
    tracemalloc.start()
    await flood(20_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for _ in range(10):
        clock.ms += 100
        await flood(8_000)
    after = gate.figures()
    assert after.refused - before.refused == 100_000
    assert after.glances - before.glances <= 10
    assert after.loads == before.loads
    assert kept < 50_000
    assert (await gate.identify(None, right.key.encode())).key_id == right.record.id


async def test_unknown_keys_that_come_together_share_one_look(gate: Gate, clock: _Clock) -> None:
    clock.ms += 100
    before = gate.figures().glances
    outcomes = await asyncio.gather(*(gate.identify(None, _wrong()) for _ in range(200)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unauthenticated}
    assert gate.figures().glances == before + 1


async def test_without_the_database_known_keys_count_for_a_while_and_none_is_called_wrong(
    tmp_path: Path, clock: _Clock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_SECONDS", 0.02)
    own = open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    key = (await _key(own)).key.encode()
    gate = Gate(own, clock, stale_s=5)
    await gate.load()
    with closing(sqlite3.connect(tmp_path / "antiphon.db", isolation_level=None)) as other:
        # In WAL mode a writer does not lock readers out; a missing table stands for a database that is away.
        other.execute("ALTER TABLE changes RENAME TO changes_away")
        clock.ms += 4_000
        assert (await gate.identify(None, key)).scope == _SCOPE
        with pytest.raises(StoreUnavailable):
            await gate.identify(None, _wrong())
        clock.ms += 2_000
        outcomes = await asyncio.gather(*(gate.identify(None, key) for _ in range(50)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert gate.figures().last_error
        await _refused(gate, None, b"malformed", "invalid x-api-key")
        other.execute("ALTER TABLE changes_away RENAME TO changes")
    clock.ms += 1
    assert (await gate.identify(None, key)).scope == _SCOPE
    assert gate.figures().last_error is None
    await own.close()


async def test_uses_are_written_back_together(gate: Gate, database: Database, clock: _Clock) -> None:
    made = [await _key(database) for _ in range(3)]
    await gate.load()
    for moment in (5, 5, 7):
        clock.ms += moment
        for key in made[:2]:
            await gate.identify(None, key.key.encode())
    async with database.reading() as connection:
        assert {key.last_used_ms for key in await keys.of_workspace(_SCOPE, connection)} == {None}
    await gate.note_uses()
    async with database.reading() as connection:
        used = {key.id: key.last_used_ms for key in await keys.of_workspace(_SCOPE, connection)}
    assert used == {made[0].record.id: 1_000_017, made[1].record.id: 1_000_017, made[2].record.id: None}


async def test_uses_are_written_back_when_the_server_stops(gate: Gate, database: Database) -> None:
    key = await _key(database)
    await gate.load()
    running = asyncio.create_task(gate.run())
    await asyncio.sleep(0)
    await gate.identify(None, key.key.encode())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with database.reading() as connection:
        assert (await keys.get(_SCOPE, connection, key.record.id)).last_used_ms == 1_000_000
