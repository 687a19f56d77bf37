"""The schema: made once, whole or not at all, and the same as the tables say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from antiphon.core.errors import SettingsError
from antiphon.store import migration
from antiphon.store.database import open_database
from antiphon.store.tables import metadata

pytestmark = pytest.mark.anyio

_MIGRATE = """
import asyncio, sys
from antiphon.store.database import open_database
from antiphon.store import workspaces

async def main():
    sys.stdin.readline()
    database = open_database(sys.argv[1])
    await database.migrate()
    async with database.transaction() as connection:
        await workspaces.ensure_defaults(connection, 1)
    await database.close()

asyncio.run(main())
"""


def _url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'home' / 'antiphon.db'}"


def _newest() -> str:
    """The last revision there is."""
    return max(path.name[:4] for path in (Path(migration.__file__).parent / "migrations" / "versions").glob("0*.py"))


def _upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _checks(connection: Connection) -> list[str | None]:
    found = (check for table in sorted(metadata.tables) for check in inspect(connection).get_check_constraints(table))
    return [check["name"] for check in found]


async def test_the_migrations_make_what_the_tables_say(store_url: str) -> None:
    database = open_database(store_url)
    await database.migrate()
    async with database.reading() as connection:
        assert await connection.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata)) == []
        indexes = await connection.run_sync(lambda c: inspect(c).get_indexes("usage_records"))
        checks = await connection.run_sync(_checks)
    await database.close()
    assert {index["name"] for index in indexes if not index["unique"]} == {
        "ix_usage_records_workspace_created_ms",
        "ix_usage_records_organization_created_ms",
    }
    assert checks == ["ck_api_keys_status", "ck_spend_limits_period", "ck_workspaces_profile"]


async def test_a_database_of_the_first_release_keeps_what_it_holds(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path))
    async with database.transaction() as connection:
        await connection.run_sync(_upgrade_to, "0001")
        await connection.execute(text("INSERT INTO organizations VALUES ('org_default', 'Default', 1)"))
        await connection.execute(
            text("INSERT INTO workspaces VALUES ('wrkspc_default', 'org_default', 'Default', 's', 1, NULL)")
        )
        await connection.execute(
            text(
                "INSERT INTO api_keys VALUES ('wrkspc_default', 'apikey_1', 'org_default', 'n', x'00', 'abcd', 0,"
                " 'active', 1, NULL, NULL, NULL)"
            )
        )
    await database.migrate()
    async with database.transaction() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM api_keys"))).scalar_one() == 1
        assert (await connection.execute(text("SELECT id, profile FROM workspaces"))).all() == [
            ("wrkspc_default", None)
        ]
    with pytest.raises(IntegrityError, match="ck_workspaces_profile"):
        async with database.transaction() as connection:
            await connection.execute(text("UPDATE workspaces SET profile = 'gemini'"))
    await database.close()


async def test_connections_are_durable_and_strict(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path))
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    for way in (database.reading, database.transaction):
        async with way() as connection:
            for name, value in pragmas.items():
                assert (await connection.execute(text(f"PRAGMA {name}"))).scalar_one() == value
    await database.close()


async def test_only_the_owner_can_read_the_records(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path))
    await database.migrate()
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO changes VALUES ('x', 1)"))
        home = tmp_path / "home"
        assert home.stat().st_mode & 0o777 == 0o700
        files = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}
    await database.close()
    assert files == {"antiphon.db": 0o600, "antiphon.db-wal": 0o600, "antiphon.db-shm": 0o600}


def test_a_file_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.db"
    file.touch(0o644)
    open_database(f"sqlite+aiosqlite:///{file}")
    assert file.stat().st_mode & 0o777 == 0o600


async def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        child = [sys.executable, "-c", _MIGRATE, _url(tmp_path)]
        return subprocess.Popen(child, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    children = [start() for _ in range(4)]
    errors = await asyncio.gather(*(asyncio.to_thread(child.communicate, "go\n", 60) for child in children))
    assert [(child.returncode, error) for child, (_, error) in zip(children, errors, strict=True)] == [(0, "")] * 4
    database = open_database(_url(tmp_path))
    async with database.reading() as connection:
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).all() == [(_newest(),)]
        assert (await connection.execute(text("SELECT count(*) FROM workspaces"))).scalar_one() == 1
    await database.close()


async def test_a_migration_that_is_cut_short_leaves_nothing_and_can_be_done_again(tmp_path: Path) -> None:
    class PowerCut(Exception):
        pass

    database = open_database(_url(tmp_path))
    with pytest.raises(PowerCut):
        async with database.transaction() as connection:
            await connection.run_sync(migration.upgrade)
            raise PowerCut
    async with database.reading() as connection:
        assert await connection.run_sync(_tables) == set()
    await database.migrate()
    async with database.reading() as connection:
        assert set(metadata.tables) <= await connection.run_sync(_tables)
    await database.close()


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = open_database(_url(tmp_path))
    await database.migrate()
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="not one this version can use"):
        await database.migrate()
    await database.close()


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "nonsense", "mongo://x/y"])
def test_a_url_that_cannot_be_used_is_a_setting_that_is_wrong(url: str) -> None:
    with pytest.raises(SettingsError):
        open_database(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "antiphon.db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_database(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
