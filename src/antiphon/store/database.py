"""The door to the database: opening, transactions, migrating. What is stored is known to the subjects' own modules.

On SQLite every connection runs with WAL and `synchronous=FULL` (a commit is on disk when it returns), and a
writing transaction takes the write lock at its beginning: a deferred one that turned into a writer later
could fail at once with "database is locked", whatever the busy timeout says.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from antiphon.core.errors import Overloaded, SettingsError
from antiphon.store import migration

#: Seconds a statement waits for another's lock before it fails.
_BUSY_SECONDS = 10.0
#: What the last users get to give their connections back when the database is closed.
_CLOSING_SECONDS = 5.0
_LOOK_SECONDS = 0.01
#: The execution option that says how a SQLite transaction begins.
_BEGIN = "antiphon_begin"


class StoreUnavailable(Overloaded):
    """The database is away, locked for too long, or its disk is full. Safe to retry; the reason is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(retry_after_s=None)
        self.reason = reason


class Database:
    """One pool of connections. Made by `open_database`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        self._users = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, rolled back when it raises.

        Raises:
            StoreUnavailable: the database cannot be reached, is locked, or is full.
        """
        with _translated():
            async with self._connected(self._writing) as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads; on SQLite it sees one moment of the database.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with _translated():
            async with self._connected(self._engine) as connection, connection.begin():
                yield connection

    async def migrate(self) -> None:
        """Bring the schema up to date. Processes that start together do it one after the other.

        Raises:
            StoreUnavailable: the database cannot be reached, is locked, or is full.
            SettingsError: the database was written by a newer version.
        """
        async with self.transaction() as connection:
            await connection.run_sync(migration.upgrade)

    async def close(self) -> None:
        """Close all connections. Who still uses one, a cancelled task among them, gets a moment to give it back."""
        end = asyncio.get_running_loop().time() + _CLOSING_SECONDS
        while self._users and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - bounded, and once in a life
            await asyncio.sleep(_LOOK_SECONDS)
        await self._engine.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """A connection that is given back whenever its user is cancelled: SQLAlchemy's own block leaves one to the
        garbage collector that is cancelled while it is made, or while it is given back."""
        connection = engine.connect()
        self._users += 1
        try:
            await _whole(connection.start())
            yield connection
        finally:
            try:
                if connection.sync_connection is not None:
                    await _whole(connection.close())
            finally:
                self._users -= 1


async def _whole(work: Coroutine[Any, Any, object]) -> None:
    """Have this done to its end, which the driver bounds; a cancellation meanwhile takes effect afterwards."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        with contextlib.suppress(Exception):
            task.result()
        raise cancelled
    task.result()


def open_database(url: str) -> Database:
    """A database by SQLAlchemy URL, e.g. `settings.database_url`. Nothing is connected before the first use.

    A SQLite file is made on the spot, readable by its owner alone (so are SQLite's two files beside it, which
    take over its permissions), and so is a folder that is missing.

    Raises:
        SettingsError: the URL is malformed, names a memory database, or its file cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return Database(create_async_engine(parsed, pool_pre_ping=True, hide_parameters=True))
        _make_file(parsed)
        engine = create_async_engine(
            parsed,
            hide_parameters=True,  # what customers sent does not belong into error messages
            # No isolation level: the driver begins no transactions of its own, which would leave DDL outside them.
            connect_args={"isolation_level": None, "timeout": _BUSY_SECONDS, "factory": _SqliteConnection},
        )
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
        raise SettingsError(f"The setting `database` is not a URL that can be opened: {error}") from None
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    return Database(engine)


def private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone (0700).

    One that exists keeps its permissions: it may be shared on purpose.

    Raises:
        OSError: it cannot be made.
    """
    for folder in (*reversed(path.parents), path):
        folder.mkdir(mode=0o700, exist_ok=True)


def _make_file(url: URL) -> None:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise SettingsError("The setting `database` must name a file: records in memory would be lost")
    path = Path(url.database)
    try:
        private_folder(path.parent)
        with _locked(path.parent):
            if path.exists():
                path.chmod(0o600)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            # The mode is a property of the file. Set here, under a lock, because SQLite does not wait when
            # two connections want to change it at once.
            with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"The database {path} cannot be opened: {error}") from None


class _SqliteConnection(sqlite3.Connection):
    """A connection whose `close` ends its transaction.

    SQLite's own leaves that, and the write lock, to the last cursor that is still referred to. A cancelled statement
    leaves such a cursor behind until the garbage collector comes: meanwhile every writer would wait in vain.
    """

    def close(self) -> None:
        try:
            if self.in_transaction:
                self.rollback()
        except sqlite3.ProgrammingError:
            return  # closed before
        super().close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes. Never the database file itself: closing any descriptor of it
    would drop SQLite's own locks (sqlite.org/howtocorrupt.html, section 2.2)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(_BEGIN, 'DEFERRED')}")


@contextmanager
def _translated() -> Iterator[None]:
    """Driver errors become ours once, here. A broken constraint passes: what it means is known to the caller."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError) as error:
        raise StoreUnavailable(str(error.args[0] if error.args else error)) from error
    except ConnectionError as error:  # reaches us unwrapped from some drivers
        raise StoreUnavailable(str(error)) from error
